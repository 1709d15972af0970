"""The benchmark as functions, for notebooks: the same work and the same results, no command line."""

from __future__ import annotations

from gb10.bench import journal, options
from gb10.bench.outcome import Outcome


class Result:
    """A run's figures. `rows` as --json has them, `groups` with whole distributions, `str()` as the command prints it."""

    def __init__(self, run: journal.Run):
        self.run = run
        self._outcome = Outcome(run)
        self.groups = self._outcome.groups
        self.rows = self._outcome.result()["runs"]
        self.comparison = self._outcome.comparison
        self.warnings = self._outcome.warnings

    def __str__(self) -> str:
        return "\n".join(self._outcome.lines())

    def write(self, *, html: str | None = None, md: str | None = None, csv: str | None = None, json: str | None = None) -> list[str]:
        """Write reports; returns the names of the files."""
        from types import SimpleNamespace

        return self._outcome.write(SimpleNamespace(html=html, md=md, csv=csv, json=json))


def measure(url: str | list[str], *, model: str | list[str] | None = None, concurrency=(1,), requests: int | None = None, quiet: bool = True,
            **settings) -> Result:
    """Measure one server, or several in turn. Other settings as the flags of the command, with _ for -: max_tokens, prompt_tokens,
    seconds, rate, any_length, turns, extra (a dict), …

    Raises gb10.errors.UserError and WorkFailed with one sentence. Ctrl-C (the stop button) ends with what was done.
    """
    from gb10.bench import endpoint, live
    from gb10.bench.campaign import Campaign
    from gb10.bench.worker import Worker

    o = options.defaults()
    o.url, o.model = ([v] if isinstance(v, str) else v for v in (url, model))
    o.concurrency = ",".join(str(c) for c in ([concurrency] if isinstance(concurrency, int) else concurrency))
    o.requests = requests
    for name, value in settings.items():
        if not hasattr(o, name):
            raise TypeError(f"measure() has no setting {name!r}")
        if name == "extra" and isinstance(value, dict):
            import json

            value = json.dumps(value)
        setattr(o, name, value if name != "rate" or value is None else str(value))
    options.check(o)
    with Worker() as worker:
        return Result(Campaign(o, endpoint.identified(o), worker, live.view(quiet)).execute())


def saved(name: str | None = None, under=None) -> Result:
    """A saved run: by name, number (1 is the newest) or folder; the newest without one."""
    return Result(journal.find(name, under))
