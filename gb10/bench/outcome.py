"""A run's result in all its forms: lines, files, and the exit code that goes with it."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from gb10.bench import say
from gb10.bench.beside import beside
from gb10.bench.compare import compare
from gb10.bench.figures import Figures
from gb10.bench.journal import Run
from gb10.bench.report.words import engines
from gb10.bench.summary import figures
from gb10.bench.telemetry import RAIL
from gb10.errors import WorkFailed


class Outcome:
    """The figures of one run, or of one held against another (`against`)."""

    def __init__(self, run: Run, against: Run | None = None, groups: list[Figures] | None = None):
        """groups: the run's figures, where they have been worked out already."""
        self.run, self.against = run, against
        self.groups = figures(run) if groups is None else groups
        self.other = figures(against) if against else []
        self.beside = [beside(run, g) for g in self.groups]
        self.comparison = self._compare()

    @property
    def names(self) -> list[str]:
        return engines(self.run.meta)

    def _compare(self) -> list[dict]:
        if self.against:
            pairs = [(a, b) for a in self.groups for b in self.other if (a.concurrency, a.rate) == (b.concurrency, b.rate)]
            return [row for a, b in pairs for row in compare(a, b, called_apart(self.run, self.against), paired=False)]
        by_load: dict[tuple, list[Figures]] = {}
        for g in self.groups:
            by_load.setdefault((g.concurrency, g.rate), []).append(g)
        out = []
        for same in by_load.values():
            for i, a in enumerate(same):
                for b in same[i + 1:]:
                    out += compare(a, b, (self.names[a.endpoint], self.names[b.endpoint]), paired=True)
        return out

    @property
    def energy(self) -> list[str]:
        return [f"{say.load(g, self.names)}: {found['joules_per_token']:.3g} J/token at {found['energy']['mean_w']:.0f} W "
                f"({RAIL}; {found['energy']['source']})." for g, found in zip(self.groups, self.beside, strict=True) if "joules_per_token" in found]

    # ------------------------------------------------------------ in all its forms

    @property
    def warnings(self) -> list[str]:
        out = say.remarks(self.groups, self.run.meta["workload"], self.names)
        for g, found in zip(self.groups, self.beside, strict=True):
            out += [f"{say.load(g, self.names)}: {text}" for text in found.get("warnings", ())]
        if self.against and self.run.meta["workload"] != self.against.meta["workload"]:
            out.insert(0, "The two runs did different work, so their figures can't be compared: " +
                       ", ".join(f"{k} {v} and {self.against.meta['workload'].get(k)}" for k, v in self.run.meta["workload"].items()
                                 if v != self.against.meta["workload"].get(k)) + ".")
        return list(dict.fromkeys(out))

    def lines(self) -> list[str]:
        """For a terminal."""
        meta = self.run.meta
        out = [headline(self.run), *say.table(self.groups, self.names)]
        if self.against:
            out += ["", headline(self.against), *say.table(self.other, engines(self.against.meta))]
        if self.comparison:
            out += ["", "Compared (95 % intervals):"]
            out += [f"  {say.level(row)}: {row['metric']}: {row['verdict']}" for row in self.comparison]
            out.append(f"  from {self.comparison[0]['basis']}")
        out += self.energy
        out += [line["text"] if line.get("share") is None else f"Roofline: {line['text']}" for line in meta.get("roofline") or ()]
        remarks = [*self.warnings, *meta.get("notes", ())]
        return out + ([""] + [f"- {text}" for text in remarks] if remarks else [])

    def result(self) -> dict:
        """What --json writes."""
        rows = []
        for g, found in zip(self.groups, self.beside, strict=True):
            if g.requests:
                endpoint = self.run.meta["endpoints"][g.endpoint]
                rows.append({"engine": endpoint["engine"], "model": endpoint["model"]} | g.to_dict() |
                            {k: v for k, v in found.items() if k != "warnings"})
        return {"runs": rows, "meta": self.run.meta, "comparison": self.comparison, "warnings": self.warnings}

    def write(self, o) -> list[str]:
        """The files that were asked for, each whole or not at all; returns their names."""
        written = []
        for path, text in ((o.json, self._json), (o.html, self._html), (o.md, self._markdown), (o.csv, self._csv)):
            if path == "-":
                sys.stdout.write(text())
            elif path:
                write(Path(path), text())
                written.append(path)
        return written

    def _json(self) -> str:
        return json.dumps(self.result(), indent=1) + "\n"

    def _html(self) -> str:
        from gb10.bench.report import html

        return html.page(self.run, self.groups, self.comparison, self.warnings, self.energy)

    def _markdown(self) -> str:
        from gb10.bench.report import markdown

        return markdown.text(self.run, self.groups, self.comparison, self.warnings, self.energy)

    def _csv(self) -> str:
        from gb10.bench.report import csv

        return csv.text(self.run, self.groups)

    def judge(self, expectations) -> tuple[int, list[str]]:
        """(exit code, sentences): 1 when requests failed, nothing was measured, or an expectation was not kept."""
        rows = self.result()["runs"]
        told = [found for e in expectations for found in e.check(rows)]
        failed = sum(n for g in self.groups for kind, n in g.errors.items() if kind != "short")
        empty = not any(g.ok for g in self.groups)
        code = 1 if failed or empty or not all(kept for kept, _ in told) else 0
        return code, [text for _, text in told]


def headline(run: Run) -> str:
    work = run.meta["workload"]
    who = "; ".join(f"{e['engine']}, {e['model']}, {e['url']}" for e in run.meta["endpoints"])
    prompt = f"prompts of {work['prompt_tokens']} tokens" if work.get("prompt_tokens") else "short prompts" if not work.get("prompt") else "a prompt of one's own"
    answer = f"answers of {work['max_tokens']} tokens" if work.get("fixed_length", True) else f"answers of at most {work['max_tokens']} tokens"
    return f"{who}: {prompt}, {answer}, {'cold' if work.get('cold', True) else 'warm'} prefix cache  [{run.id}]"


def called_apart(a: Run, b: Run) -> tuple[str, str]:
    """How to call two runs: by engine and model where that tells them apart, else by their ids."""
    one, two = (" and ".join(engines(run.meta)) for run in (a, b))
    if one == two:
        one, two = (f"{e['engine']} {str(e['model']).rpartition('/')[2]}" for e in (a.meta["endpoints"][0], b.meta["endpoints"][0]))
    return (one, two) if one != two else (a.id, b.id)


def write(path: Path, text: str) -> None:
    """Whole or not at all. Raises WorkFailed."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as e:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise WorkFailed(f"{path} can't be written ({e.strerror}).") from e
