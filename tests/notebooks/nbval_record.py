"""A pytest plugin for the inner nbval run: writes every cell that ran, and how it ended, as one JSON line each."""

import json
import os


def pytest_runtest_logreport(report):
    # A passed item reports its call; a failed set-up or a skip reports that instead.
    if report.when == "call" or report.outcome != "passed":
        notebook, _, cell = report.nodeid.partition("::")
        with open(os.environ["NBVAL_RECORD"], "a", encoding="utf-8") as f:
            f.write(json.dumps({"notebook": os.path.abspath(notebook), "cell": cell, "outcome": report.outcome,
                                "seconds": report.duration, "why": str(report.longrepr or "")[-3000:]}) + "\n")
