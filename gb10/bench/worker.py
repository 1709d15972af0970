"""The parent's end of the load process (`gb10.bench.loadproc`)."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Self

from gb10.bench.spec import Spec
from gb10.errors import WorkFailed
from gb10.paths import ROOT

# -S: no site-packages, no .pth files; -E: no PYTHON* variables. Both cost time and memory.
BARE = ("-S", "-E")


class Worker:
    """The parent's end. `run(spec, progress)` returns the totals; `stop()` ends a cell that runs."""

    def __init__(self):
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from gb10.bench.loadproc import main; main()"
        # its own session: Ctrl-C is for the parent
        self.process = subprocess.Popen([sys.executable, *BARE, "-c", code], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        self.pid = self.process.pid

    def run(self, spec: Spec, progress=lambda row: None) -> dict:
        """Run one cell. Raises WorkFailed when the load process failed or died."""
        try:
            self.process.stdin.write(spec.to_json().encode() + b"\n")
            self.process.stdin.flush()
        except (OSError, ValueError):        # ValueError: stop() has closed it
            raise self._died() from None
        for line in self.process.stdout:
            try:
                row = json.loads(line)
            except ValueError:               # it died in the middle of a word
                break
            if "p" in row:
                progress(row["p"])
            elif "failed" in row:
                raise WorkFailed(row["failed"])
            else:
                return row["done"]
        raise self._died()

    def _died(self) -> WorkFailed:
        code = self.process.wait()
        said = self.process.stderr.read().decode("utf-8", "replace").strip().splitlines()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return WorkFailed(f"the load process {how}" + (f": {said[-1]}" if said else "") +
                          "; what had finished before is in the result file.")

    def stop(self) -> None:
        """Let it give up what it does; the totals still come."""
        try:
            self.process.stdin.close()
        except OSError:
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.stop()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()
