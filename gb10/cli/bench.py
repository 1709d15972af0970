"""./course bench: the appendix benchmark."""

from __future__ import annotations

HELP = "Measure the engines that are up, or any OpenAI-compatible server."
RAW = OWN_HELP = True        # the benchmark has a parser of its own: it is a tool in its own right


def add_arguments(parser) -> None:
    parser.set_defaults(rest=[])


def run(args) -> int:
    from gb10.bench.main import main

    return main(args.rest)
