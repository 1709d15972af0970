"""For the whole suite."""

import signal
from pathlib import Path

import pytest

# A shell without job control starts what it puts into the background with Ctrl-C ignored, and every process started
# from there inherits that. Tests of Ctrl-C would then wait for nothing: take it up again, for all the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

HERE = Path(__file__).parent
# With `-n 2 --dist loadgroup` a folder is run by one worker, because its tests share servers; the longest come first.
# Notebooks and browser are one group: both let the lessons start an engine on the course's own port.
LONGEST_FIRST = ("lessons", "engines", "bootstrap")
GROUPS = {"notebooks": "lessons", "browser": "lessons"}


def group(item: pytest.Item) -> str:
    folder = item.path.relative_to(HERE).parts[0] if item.path.is_relative_to(HERE) else ""
    return GROUPS.get(folder, folder)


@pytest.hookimpl(tryfirst=True)      # before xdist reads the marks
def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    rank = {name: n for n, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(group(item), len(rank)))
