"""./course refresh: rebuild the notebooks from their sources, or check that they are what the sources give."""

HELP = "Rebuild the notebooks from their sources (lessons/*/solutions/*.py), with the outputs that are kept in git."
EXAMPLES = """\
  ./course refresh                 all lessons
  ./course refresh 03              lesson 03 alone
  ./course refresh --run           make the kept outputs anew (after a change in gb10 or in the shipped model)
  ./course refresh --check         write nothing; exit code 1 when a notebook isn't what its source gives
"""


def add_arguments(parser):
    parser.add_argument("lesson", metavar="LESSON", nargs="?", help="its number or folder name; all lessons if left out")
    parser.add_argument("--run", action="store_true", help="run the notebooks even where their code hasn't changed")
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")


def run(args) -> int:
    from gb10 import notebooks

    if args.check:
        problems = notebooks.stale(args.lesson)
        for line in problems:
            print(line)
        if not problems:
            print(f"{2 * len(notebooks.sources(args.lesson))} notebooks are what their sources give.")
        return 1 if problems else 0
    changed = notebooks.refresh(args.lesson, run=args.run)
    print(f"{len(changed)} notebook{'' if len(changed) == 1 else 's'} rewritten.")
    return 0
