"""``python -m ranef`` is the command ``ranef``."""

from __future__ import annotations

import sys

from ranef.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
