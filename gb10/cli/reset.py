"""./course reset LESSON: a clean copy in work/, the learner's kept beside it."""

from gb10.errors import UserError

HELP = "Put a clean copy of a lesson into work/. Yours is renamed, never deleted."
EXAMPLES = """\
  ./course reset 3                           lesson 03, by its number
  ./course reset 03-quantize-with-modelopt   the same, by its name
"""


def add_arguments(parser):
    parser.add_argument("lesson", metavar="LESSON", nargs="?", help="its number, or the start of its name")


def run(args) -> int:
    from gb10 import lessons, workspace

    if not args.lesson:
        raise UserError("which lesson? One of: " + ", ".join(lessons.lessons()) + ".")
    lesson = lessons.find_lesson(args.lesson)
    old = workspace.reset(lesson)
    if old is workspace.ALREADY_CLEAN:
        print(f"work/{lesson} is a clean copy already.")
        return 0
    print(f"work/{lesson} is a clean copy now.")
    if old:
        print(f"Yours is kept in work/{old.name}")
    return 0
