"""The two ways in which the course's commands fail, and the exit code of each.

Whoever finds a problem raises one of these with one clear sentence (what was wrong, what to do); the command line
prints that sentence without a traceback. Anything else that escapes is a defect and shows its traceback.
"""


class CourseError(Exception):
    """Common base: a sentence for the reader and the exit code that goes with it."""

    exit_code = 1

    def __init__(self, message: str):
        super().__init__(message)
        self.message = message


class UserError(CourseError):
    """The request was wrong (an unknown lesson, a folder that isn't a model): exit code 2, nothing was changed."""

    exit_code = 2


class WorkFailed(CourseError):
    """The request was right, the work failed (the engine died, the disk is full): exit code 1."""

    exit_code = 1
