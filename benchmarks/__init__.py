"""ranef beside its peers: the same problems, the same table, the same criterion.

``python -m benchmarks`` from the project's root measures what is installed and
writes ``docs/benchmarks.md``. May import the simulated shapes of ``tests``.

``problems``  what is fitted
``adapters``  how each package fits it, one file each
``worker``    the process a Python package runs in
``process``   starting a worker, asking it, and stopping it in time
``measure``   interleaved pairs, memory, import, refits
``boundary``  300 problems near the boundary against the best of several searches
``page``      the tables of the docs
"""
