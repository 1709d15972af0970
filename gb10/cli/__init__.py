"""The sub-commands of ./course: one table, one module each, imported only when called.

A sub-command NAME lives in `gb10/cli/NAME.py`, which has

    HELP                      one line, for its own --help
    EXAMPLES                  (optional) lines of text shown below its --help
    add_arguments(parser)     what it understands
    run(args) -> int          the work; returns the exit code
    RAW = True                (optional) it takes its arguments unparsed, as `args.rest`
    OWN_HELP = True           (optional, with RAW) --help too

Exit codes: 0 done, 1 the work failed, 2 the request was wrong, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import sys

PROG = "./course"

# (group, ((name, help line, module), …)): the order is the order of the help page.
TABLE = (
    ("Learn", (
        ("lab", "open JupyterLab on the syllabus, with the lessons laid out in work/", "gb10.cli.lab"),
        ("reset", "put a clean copy of a lesson into work/, keeping yours beside it", "gb10.cli.reset"),
        ("check", "is this machine ready? every failed line says how to mend it", "gb10.cli.check"),
    )),
    ("Quantize", (
        ("quantize", "a BF16 checkpoint in, a quantized one out; w4a16 streams models of any size", "gb10.cli.quantize"),
        ("inspect", "what is in a checkpoint: formats, bits, scales, what stayed; no weight is read", "gb10.cli.inspect"),
    )),
    ("Serve", (
        ("fit", "does a model fit, and how fast would it be? with a band", "gb10.cli.fit"),
        ("models", "download, list, verify; an offline bundle for a room with bad wifi", "gb10.cli.models"),
        ("up", "start an engine on 127.0.0.1, guarded against wedging the machine", "gb10.cli.up"),
        ("status", "what is up, where, and with which model", "gb10.cli.status"),
        ("logs", "what the engine has written", "gb10.cli.logs"),
        ("down", "stop the engine", "gb10.cli.down"),
    )),
    ("Measure", (
        ("bench", "how fast is it, for how many users? menu, flags, reports", "gb10.cli.bench"),
    )),
    ("Work on the course", (
        ("test", "run the whole test suite (options go to pytest)", "gb10.cli.test"),
        ("refresh", "rebuild the notebooks from their sources", "gb10.cli.refresh"),
    )),
)

EXAMPLES = """\
Examples:
  first:  ./course lab                sets everything up, opens JupyterLab on the syllabus
          ./course check              what this machine can do, and what is missing
          ./course up                 serve the shipped model; then: ./course status, ./course down
          ./course up vllm --model Qwen3-8B --weights nvfp4 --dry-run --machine gb10
                                      what a Spark would be told, and what memory that takes
          ./course bench              how fast is what is up? a menu; then: ./course bench --report
          ./course reset 03           a fresh copy of lesson 03; yours is kept beside it
          ./course test -k quantize   a part of the test suite

Each sub-command explains itself:  ./course lab --help
"""


def commands() -> dict[str, tuple[str, str]]:
    """name -> (help line, module), in the order of the help page."""
    return {name: (line, module) for _, rows in TABLE for name, line, module in rows}


def help_text() -> str:
    title = "Blackwell at Your Desk: NVFP4 and LLM serving on the DGX Spark, hands on."
    lines = [f"Usage: {PROG} SUB-COMMAND [options]", "", title, ""]
    for group, rows in TABLE:
        lines.append(f"{group}:")
        lines += [f"  {name:<9} {line}" for name, line, _ in rows]
        lines.append("")
    return "\n".join(lines) + "\n" + EXAMPLES


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, commands(), n=1, cutoff=0.5)
    ask = f"did you mean '{PROG} {near[0]}'?" if near else f"'{PROG} --help' lists them."
    return f"there is no sub-command '{name}': {ask}"


def _parser(name: str, module):
    import argparse

    class Parser(argparse.ArgumentParser):
        """A wrong option costs one sentence, not a page of usage."""

        def error(self, message):
            self.exit(2, f"{self.prog}: {message}. What it understands: {self.prog} --help\n")

    examples = getattr(module, "EXAMPLES", None)
    parser = Parser(
        prog=f"{PROG} {name}", description=module.HELP, epilog=examples and f"Examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )
    module.add_arguments(parser)
    return parser


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        if len(argv) > 1 and argv[0] == "help":
            return _dispatch([argv[1], "--help"])
        print(help_text(), end="")
        return 0
    if argv[0] in ("-V", "--version"):
        from gb10 import __version__

        print(f"gb10 {__version__}")
        return 0
    name, rest = argv[0], argv[1:]
    if name not in commands():
        print(f"{PROG}: {_unknown(name)}", file=sys.stderr)
        return 2
    from importlib import import_module

    module = import_module(commands()[name][1])
    parser = _parser(name, module)
    if getattr(module, "RAW", False) and (getattr(module, "OWN_HELP", False) or rest[:1] not in (["-h"], ["--help"])):
        args = parser.parse_args([])
        args.rest = rest[1:] if rest[:1] == ["--"] else rest
    else:
        args = parser.parse_args(rest)
    return module.run(args) or 0


def main(argv: list[str] | None = None) -> int:
    """Run one sub-command and return its exit code; never raises for what a user can cause."""
    argv = sys.argv[1:] if argv is None else argv
    from gb10.errors import CourseError

    try:
        code = _dispatch(argv)
        sys.stdout.flush()
        return code
    except CourseError as e:
        print(f"{PROG}: {e.message}", file=sys.stderr)
        return e.exit_code
    except KeyboardInterrupt:
        print(f"\n{PROG}: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) went away. What is still buffered would complain at exit: let it go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as e:
        if os.environ.get("GB10_DEBUG"):
            raise
        what = f"{e.strerror or e}" + (f": {e.filename}" if e.filename else "")
        print(f"{PROG}: {what}. (GB10_DEBUG=1 shows where.)", file=sys.stderr)
        return 1
