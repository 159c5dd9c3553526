"""No argument, no shortage, no thread and no signal ends the process or leaves a trace."""

import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef import _core
from ranef.solve.resources import in_threads, one_blas_thread

HERE = Path(__file__).parent
LONGEST = 3600 if "RANEF_SANITIZED" in os.environ else 600


def child(code: str, **environment: str) -> str:
    """Run code in a process of its own; return what it printed last."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code],
        capture_output=True, text=True, timeout=LONGEST, cwd=HERE,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-3000:]
    return done.stdout.strip().rpartition("\n")[2]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit of memory")
@pytest.mark.parametrize(("seed", "each", "together"), [(1, True, 1000), (2, False, 5000)])
def test_no_argument_ends_the_process(seed, each, together):
    """Each argument by itself, which no seed changes; then several at once."""
    code = f"import wrong_arguments; wrong_arguments.main({seed}, {together}, {each})"
    assert child(code).startswith("all came back")


CROSSED = """
import numpy as np
from ranef import _core
from ranef.solve.resources import use_lapack
use_lapack()
rng = np.random.default_rng(0)
n, q, h, k = {n}, {q}, {h}, {k}
def factor(q):
    return dict(codes=rng.integers(0, q, n).astype(np.int32), z=np.ones((n, 1)), levels=q,
                terms=[dict(structure="us", size=1, rank=0, positions=np.empty((1, 0)))])
X = np.ones((n, 1))
core = _core.Problem([factor(q), factor(h)], X, np.ones(1), X.T @ X, None, [0], 2)
Y = rng.normal(size=(k, n))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or "RANEF_SANITIZED" in os.environ,
    reason="needs a limit of memory, at which a sanitizer itself ends the process",
)
def test_too_little_memory_in_a_thread_is_an_error_of_python():
    # no BLAS: its own shortage of memory ends the process, or never ends
    code = """
import numpy as np, resource
from ranef import _core
rng = np.random.default_rng(0)
n, q = 30000, 15000
factor = dict(codes=rng.integers(0, q, n).astype(np.int32), z=np.ones((n, 1)), levels=q,
              terms=[dict(structure="us", size=1, rank=0, positions=np.empty((1, 0)))])
X = np.ones((n, 1))
core = _core.Problem([factor], X, np.ones(1), X.T @ X, None, [0], 2)
Y = rng.normal(size=(8, n))
core.fit_many(Y[:2], True, np.ones(1), 5, 2)
now = int(next(l for l in open("/proc/self/status") if l.startswith("VmSize")).split()[1]) << 10
errors = 0
for megabytes in range(0, 40, 2):
    limit = now + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        core.fit_many(Y, True, np.ones(1), 5, 4)
    except MemoryError:
        errors += 1
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
assert len(core.fit_many(Y, True, np.ones(1), 5, 4)["phi"]) == 8
print("errors:", errors)
"""
    assert int(child(code).removeprefix("errors: ")) > 0


# each takes minutes when nothing stops it
ENDLESS = {
    "fit_many": "core.fit_many(np.repeat(Y, 20000, axis=0), True, np.ones(2), 200, 2)",
    "state": "[core.state(Y[0], True, np.ones(2), True) for _ in range(10**6)]",
    "curvature": """[core.curvature(Y[0], True, np.ones(2), [(0, np.eye(1)), (1, np.eye(1))], True)
                     for _ in range(10**6)]""",
    "quadratic_forms": """[core.quadratic_forms(Y[0], True, np.ones(2),
        [rng.integers(0, q, 10**6).astype(np.int32), rng.integers(0, h, 10**6).astype(np.int32)],
        [np.ones((10**6, 1))] * 2, np.ones((10**6, 1))) for _ in range(10**4)]""",
    "evaluate": """[_core.make_family("compois", "log").evaluate(
        np.full(10**4, 900.0), None, np.full((2, 10**4), 5.0), 3, [0, 1], 2)
        for _ in range(10**6)]""",
}


@pytest.mark.skipif(sys.platform == "win32", reason="needs an alarm")
@pytest.mark.parametrize("name", ENDLESS)
def test_a_signal_stops_a_call_soon(name):
    code = (
        CROSSED.format(n=4000, q=300, h=200, k=1)
        + f"""
import signal, time
signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.setitimer(signal.ITIMER_REAL, 0.5)
begun = time.monotonic()
try:
    {ENDLESS[name]}
    print("was not stopped")
except KeyboardInterrupt:
    print("stopped", round(time.monotonic() - begun, 2))
"""
    )
    assert child(code, OPENBLAS_NUM_THREADS="1").startswith("stopped")


@pytest.mark.skipif(sys.platform == "win32", reason="needs an alarm")
@pytest.mark.parametrize(
    "group", ["structural", "processes", "shapes", "reads", "genomes", "residuals", "squares"]
)
def test_a_long_call_of_a_field_is_stopped_within_a_second(group):
    """Within one call, not between two; those that need large tables run by `make study`."""
    code = f"import long_calls; long_calls.main(1, ['{group}'])"
    assert child(code, OPENBLAS_NUM_THREADS="1") == "all were stopped"


@pytest.mark.skipif(sys.platform == "win32", reason="needs an alarm")
def test_a_process_ends_in_order_beside_a_decomposition_that_nobody_waits_for():
    code = """
import sys, numpy as np, long_calls
from ranef import _core
from ranef.solve.resources import use_lapack

use_lapack()
A = np.random.default_rng(1).normal(size=(1500, 1500))
calls = [lambda: _core.trapezoid(A @ A.T, 700)] * 3
print([long_calls.Alarm().stopped_after(call, 0.1)[1] for call in calls])
sys.exit(3)
"""
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=LONGEST,
            cwd=HERE, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (3, "[True, True, True]\n"), done.stderr


@pytest.mark.study
@pytest.mark.skipif(sys.platform == "win32", reason="needs an alarm")
@pytest.mark.parametrize("threads", [1, 2])
def test_every_long_call_is_stopped_within_a_second(threads):
    code = f"import long_calls; long_calls.main({threads}, [])"
    assert child(code, OPENBLAS_NUM_THREADS="1") == "all were stopped"


def counts(nodes=1, seed=3):
    rng = np.random.default_rng(seed)
    n, q = 300, 30
    codes = rng.integers(0, q, n).astype(np.int32)
    X = np.column_stack([np.ones(n), rng.normal(size=n)])
    y = rng.poisson(np.exp(0.3 + 0.5 * X[:, 1] + 0.7 * rng.normal(size=q)[codes])).astype(float)
    factor = {
        "codes": codes, "z": np.ones((n, 1)), "levels": q, "owners": [0],
        "terms": [{"structure": "us", "size": 1, "rank": 0, "positions": np.empty((1, 0))}],
    }  # fmt: skip
    rows = [{"X": X, "coefficients": [0, 1], "offset": None}]
    return _core.GeneralisedProblem(
        _core.make_family("poisson", "log"), y, None, None, rows, 2, [factor], [0], 2, nodes
    )


def same(a, b):
    assert a.keys() == b.keys()
    for key in a.keys() - {"end"}:  # which stands for where a fit ended, and has no bits
        np.testing.assert_array_equal(np.asarray(a[key]), np.asarray(b[key]), err_msg=key)


@pytest.mark.parametrize("nodes", [1, 5])
def test_a_shared_problem_answers_each_thread_about_its_own_point(nodes):
    rng = np.random.default_rng(1)
    points = rng.normal([0.7, 0.3, 0.5], 0.3, size=(40, 3))
    alone = [counts(nodes).state(x, True) for x in points]
    shared = counts(nodes)
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda x: shared.state(x, True), points)
        for answer, expected in zip(answers, alone, strict=True):
            same(answer, expected)


@pytest.mark.parametrize("nodes", [1, 5])
def test_an_answer_does_not_depend_on_what_was_asked_before(nodes):
    x, far = np.array([0.7, 0.3, 0.5]), np.array([1.9, -1.0, 0.1])
    rows = ([np.array([0, 4], np.int32)], [np.ones((2, 1))], np.ones((2, 2)))

    def answers(core):
        start, modes = core.start_with_modes(np.zeros(2))
        forms = core.quadratic_forms(x, *rows)
        covariances = core.mode_covariances(x, 0, True)
        fitted = core.fit(start, 50, None, modes)
        plain = core.fit(start, 50, None)
        return core.state(x, True), fitted, plain, {"f": forms, "c": covariances, "s": start}

    expected = answers(counts(nodes))
    for ask in (
        lambda core: core.state(far, True),
        lambda core: core.fit(far, 50, None),
        lambda core: core.half_solves(far, *rows),
        lambda core: core.state(np.array([1e300, 800.0, 800.0]), True),
    ):
        core = counts(nodes)
        ask(core)
        for answer, known in zip(answers(core), expected, strict=True):
            same(answer, known)


def test_a_call_broken_off_leaves_no_trace():
    x, core = np.array([0.7, 0.3, 0.5]), counts()

    def no(*_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        core.fit(np.array([1.9, -1.0, 0.1]), 50, no)
    same(core.state(x, True), counts().state(x, True))


def test_progress_cannot_ask_the_problem_that_reports_it():
    core = counts()
    start = core.start(np.zeros(2))
    with pytest.raises(RuntimeError, match="from its own progress"):
        core.fit(start, 50, lambda *_: core.state(start, True))
    assert np.isfinite(core.state(start, False)["criterion"])


def test_priors_may_be_added_while_another_thread_fits():
    core = counts()
    start = core.start(np.zeros(2))
    prior = ("normal", 0.0, 2.0, 1.0)
    alone = counts()
    alone.penalise([(0, 0, np.eye(1), [prior], 1.0)], [(np.array([1.0, 0.0]), prior)])
    expected = alone.state(start, True)
    with ThreadPoolExecutor(3) as pool:
        for _ in range(20):
            fits = [pool.submit(core.fit, start, 50, None) for _ in range(2)]
            core.penalise([(0, 0, np.eye(1), [prior], 1.0)], [(np.array([1.0, 0.0]), prior)])
            assert all(f.result()["converged"] for f in fits)
    same(core.state(start, True), expected)


def test_codes_are_the_cores_own():
    n, q = 60, 6
    codes = (np.arange(n) % q).astype(np.int32)
    X = np.ones((n, 1))
    term = {"structure": "us", "size": 1, "rank": 0, "positions": np.empty((1, 0))}
    factor = {"codes": codes, "z": X, "levels": q, "terms": [term]}
    core = _core.Problem([factor], X, np.ones(1), X.T @ X, None, [0], 1)
    y = np.random.default_rng(1).normal(size=n)
    before = core.state(y, True, np.ones(1), True)
    codes[:] = 2**30
    same(core.state(y, True, np.ones(1), True), before)


def test_extra_in_another_type_is_kept_alive():
    family = _core.make_family("binomial", "logit")
    y, eta = np.full(100_000, 2.0), np.zeros((1, 100_000))
    trials = np.full(100_000, 5, dtype=np.int64)
    expected = family.evaluate(y, trials.astype(float), eta, 3, [0])
    np.testing.assert_array_equal(family.evaluate(y, trials, eta, 3, [0]), expected)
    np.testing.assert_array_equal(
        family.evaluate(y, np.repeat(trials, 2)[::2], eta, 3, [0]), expected
    )


@pytest.mark.parametrize("name", ["poisson", "binomial"])
def test_a_density_is_never_nan(name):
    family = _core.make_family(name, "log" if name == "poisson" else "logit")
    values = np.array([np.inf, -np.inf, np.nan, 1e308])
    out = family.evaluate(values, np.abs(values), np.zeros((1, 4)), 3, [0])
    assert np.all(out[0][:3] == -np.inf)
    assert not np.isnan(out).any()


def test_work_in_threads_is_given_up_when_one_fails():
    core = counts()
    start = core.start(np.zeros(2))
    ended = []

    def work(i):
        if i == 0:
            raise ZeroDivisionError
        try:
            while True:
                core.state(start, True)
        except BaseException as error:
            ended.append(type(error))
            raise

    with pytest.raises(ZeroDivisionError):
        list(in_threads(work, range(3), 3))
    assert set(ended) <= {_core.Stopped}


def blas_threads():
    from threadpoolctl import threadpool_info

    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_blas_gets_its_threads_back():
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=2, user_api="blas"):
        before = blas_threads()
        entered, leave = threading.Barrier(5), threading.Barrier(5)

        def hold(i):
            with one_blas_thread():
                entered.wait()
                assert set(blas_threads()) == {1}
                leave.wait()
                if i % 2:
                    raise ZeroDivisionError

        with ThreadPoolExecutor(5) as pool:
            for _ in range(3):
                results = [pool.submit(hold, i) for i in range(5)]
                assert [type(r.exception()) for r in results] == [
                    type(None),
                    ZeroDivisionError,
                ] * 2 + [type(None)]
        assert blas_threads() == before


def test_a_profile_in_threads_leaves_blas_alone():
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(2)
    table = pd.DataFrame({"a": rng.integers(0, 130, 900), "b": rng.integers(0, 110, 900)})
    table["y"] = (
        rng.normal(size=130)[table.a] + rng.normal(size=110)[table.b] + rng.normal(size=900)
    )
    fit = ranef.lmm("y ~ 1 + (1 | a) + (1 | b)", table, progress=False)
    with threadpool_limits(limits=2, user_api="blas"):
        before = blas_threads()
        ranef.profile(fit, n_jobs=4, progress=False)
        assert blas_threads() == before


def test_loops_for_several_processors_have_no_fused_products():
    """A product that one processor fuses and another does not would move the last bits."""
    root = Path(__file__).parents[1]
    options = re.search(
        r"set_source_files_properties\(([^)]*?)PROPERTIES COMPILE_OPTIONS \"-ffp-contract=off",
        (root / "CMakeLists.txt").read_text(),
    )
    assert options
    marked = {
        path.relative_to(root).as_posix() for path in (root / "cpp").rglob("*.cpp")
        if re.search(r"^RANEF_CLONES|^#define RANEF_LEVEL ", path.read_text(), re.M)
    }  # fmt: skip
    assert len(marked) >= 7
    assert marked == set(options.group(1).split())


def test_the_map_of_the_core_names_every_file():
    root = Path(__file__).parents[1]
    contributing = (root / "CONTRIBUTING.md").read_text()
    part = re.search(r"\*\*The core\*\*(.*?)\*\*A formula function", contributing, re.DOTALL)
    assert part
    named = set(re.findall(r"`(?:cpp/)?([a-z_0-9]+)(?:\.[ch]pp)?`", part[1]))
    files = {path.stem for path in (root / "cpp").glob("*.[ch]pp")}
    # told by their last word
    kinds = re.compile(r"(_face|_parts|_v3|_v4)$|^(faces|binding)$")
    assert {n for n in files - named if not kinds.search(n)} == set()
