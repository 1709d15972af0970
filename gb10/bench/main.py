"""The command: python3 appendix/llm_benchmark.py, or ./course bench."""

from __future__ import annotations

import os
import sys

from gb10.errors import CourseError, UserError


def main(argv: list[str] | None = None, prog: str = "./course bench") -> int:
    """Do what is asked; returns the exit code. Prints a sentence instead of a traceback for what a user can cause."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        return run(argv, prog)
    except CourseError as e:
        print(f"{prog}: {e.message}", file=sys.stderr)
        return e.exit_code
    except KeyboardInterrupt:
        print(f"\n{prog}: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def run(argv: list[str], prog: str) -> int:
    from gb10.bench import options

    o = options.parser(prog).parse_args(argv)
    o.argv = argv
    if o.explain is not None:
        return explain(o.explain)
    if o.leaderboard:
        return leaderboard(o)
    if o.report is not None or o.list:
        return report(o)
    o.key = os.environ.get(o.key_env) or None
    if o.selftest:
        return selftest(o)
    if o.resume is not None:
        return resume(o)
    if not (o.url or o.engine) and not argv and sys.stdin.isatty() and sys.stdout.isatty():
        from gb10.bench import menu

        menu.choose(o)
    options.check(o)
    return measure(o)


def measure(o, run=None) -> int:
    from gb10.bench.worker import Worker

    with Worker() as worker:             # it starts while the servers are asked who they are
        from gb10.bench import live
        from gb10.bench.campaign import Campaign
        from gb10.bench.endpoint import identified

        campaign = Campaign(o, identified(o), worker, live.view(o.quiet))
        run = campaign.execute(run)
    code = show(o, run, groups=campaign.groups)
    return 130 if campaign.interrupted else 1 if campaign.trouble else code


def show(o, run, against=None, groups=None) -> int:
    """The result to the terminal and to the files that were asked for."""
    from gb10.bench.outcome import Outcome

    outcome = Outcome(run, against, groups)
    out = sys.stderr if "-" in (o.json, o.html, o.md, o.csv) else sys.stdout
    print("\n".join(outcome.lines()), file=out)
    code, told = outcome.judge(getattr(o, "expectations", ()))
    for text in told:
        print(text, file=out)
    for path in outcome.write(o):
        print(f"Written: {path}", file=out)
    print(f"Kept in {run.folder}", file=out)
    return code


def resume(o) -> int:
    """Go on with an interrupted run, with the settings that it was started with."""
    from gb10.bench import options
    from gb10.bench.journal import find
    from gb10.bench.resume import settings

    run = find(o.resume, _results(o))
    again = settings(run, o)
    options.check(again)
    return measure(again, run)


def report(o) -> int:
    from gb10.bench import journal, options
    from gb10.bench.expect import Expectation

    if o.list:
        for i, run in enumerate(journal.runs(_results(o)), 1):
            e = run.meta["endpoints"]
            levels = ",".join(dict.fromkeys(str(c.get("rate") or c["concurrency"]) for c in run.meta["cells"]))
            print(f"{i:>3}  {run.id}  {' and '.join(x['engine'] for x in e)}, {e[0]['model']}, at once: {levels}" +
                  ("" if run.meta.get("ended") and not run.meta.get("stopped") else "  (not finished: --resume goes on)"))
        return 0
    if len(o.report) > 2:
        raise UserError("--report takes one run, or two to hold one against the other.")
    options.files(o)
    o.expectations = [Expectation(text) for text in o.expect]
    runs = [journal.find(name, _results(o)) for name in o.report or ["last"]]
    code = show(o, *runs)
    return code if o.expectations else 0


def leaderboard(o) -> int:
    from pathlib import Path

    from gb10.bench import options, outcome
    from gb10.bench.report import leaderboard as board

    if o.html:
        options.writable(o.html, "--html")
    found = board.entries(o.leaderboard)
    print(board.table(found), end="")
    if o.html:
        outcome.write(Path(o.html), board.page(found))
        print(f"Written: {o.html}")
    return 0


def explain(name: str) -> int:
    from gb10.bench import explain as definitions

    text = definitions.text(name)
    if not text:
        raise UserError(f"there is no figure '{name}'; there are {', '.join(definitions.DEFINITIONS)}.")
    print(text)
    return 0


def selftest(o) -> int:
    import json

    from gb10.bench import selftest as test

    rows = test.run(say=(lambda *_: None) if o.json == "-" else print)
    faults = [f"{r['streams']} streams: {fault}" for r in rows for fault in test.faults(r)]
    if o.json:
        from pathlib import Path

        from gb10.bench import outcome

        text = json.dumps({"levels": rows, "faults": faults}, indent=1) + "\n"
        sys.stdout.write(text) if o.json == "-" else outcome.write(Path(o.json), text)
    if o.json != "-":
        for r in rows:
            if r["ttft_p50"] is not None:
                print(f"At {r['streams']} streams your client reads {r['true_ttft_p50']:.2f} ms as {r['ttft_p50']:.2f} ms, and a token every "
                      f"{r['true_tpot_p50']:.3f} ms as one every {r['tpot_p50']:.3f} ms.")
        print("Within the limits: " + ("yes." if not faults else "NO. " + "; ".join(faults) + ". A busy machine does that: try again with it idle."))
    return 1 if faults else 0


def _results(o):
    from pathlib import Path

    return Path(o.results).expanduser() if o.results else None
