"""The main job in one minute: ``make demo``.

Writes the sleep study as CSV, as a person would have it, and fits it by the
command line. The summary goes to the screen and a report to an HTML page.
Usage: ``python examples/demo.py [FOLDER]``
"""

import sys
from pathlib import Path

import ranef
from ranef.cli.main import main

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
data, report = folder / "sleepstudy.csv", folder / "sleepstudy.html"
ranef.data.load("sleepstudy").to_csv(data, index=False)

formula = "Reaction ~ Days + (Days | Subject)"
print(f'$ ranef fit "{formula}" {data} --report {report}\n', flush=True)
code = main(["fit", formula, str(data), "--report", str(report)])
if code == 0:
    print(f"\nThe report: {report.resolve()}")
sys.exit(code)
