"""./course check: the preflight. Facts from probes.py, verdicts from verdicts.py; here they are shown."""

import sys

HELP = ("Is this machine ready? Looks at rung, GPU, memory, disk, ports, Docker, the model hub, the clock and the "
        "course's own packages; every failed line says how to mend it.")
EXAMPLES = """\
  ./course check              [ok] fine   [--] worth knowing   [!!] needed and not there
  ./course check --json       {"rung", "ok", "checks": [{"name", "ok", "detail", "fix"}]}
  ssh SEAT 'cd course && ./course check --json'       for every seat of a room
Exit code 0 when nothing needed is missing, else 1.
"""


def add_arguments(parser):
    parser.add_argument("--json", action="store_true", help="for machines")


def lines(rung: str, checks, colour: bool = False) -> list[str]:
    """The page for people, one or two lines a check."""
    width = max(len(c.name) for c in checks)
    page = []
    for c in checks:
        mark, shade = ("[!!]", "31") if not c.ok else ("[--]", "33") if c.note else ("[ok]", "32")
        mark = f"\033[{shade}m{mark}\033[0m" if colour else mark
        page.append(f"{mark} {c.name:<{width}}  {c.detail}")
        if c.fix:
            page.append(f"     {'':<{width}}  -> {c.fix}")
    failed = [c.name for c in checks if not c.ok]
    page.append("")
    page.append(f"Not ready for rung {rung}: {', '.join(failed)}." if failed else f"Ready for rung {rung}.")
    return page


def run(args) -> int:
    import os

    from gb10 import machine
    from gb10.cli import probes, verdicts

    machine.declared_rung(os.environ)       # a wrong GB10_RUNG is a wrong request: say so before looking
    rung, checks = verdicts.verdicts(probes.gather(probes.all_probes()))
    ok = all(c.ok for c in checks)
    if args.json:
        import json

        print(json.dumps({"rung": rung, "ok": ok, "checks": [c.to_dict() for c in checks]}, indent=1))
    else:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        print("\n".join(lines(rung, checks, colour)))
    return 0 if ok else 1
