"""For the whole suite."""

import signal

import pytest

# A shell without job control starts what it puts into the background with Ctrl-C ignored, and every process started
# from there inherits that. Tests of Ctrl-C would then wait for nothing: take it up again, for all the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# With `-n 2` a folder is run by one worker, because its tests share servers; the longest come first. The browser tests
# and the runs of lessons 3 and 4 are one group: all of them start an engine on the course's own port.
LONGEST_FIRST = ("serving lessons", "notebooks", "engines", "bootstrap")
SERVING = ("tests/browser/", "test_every_notebook_runs[03-", "test_every_notebook_runs[04-")


def group(nodeid: str) -> str:
    """The group of tests/FOLDER/test_file.py::test."""
    if any(part in nodeid for part in SERVING):
        return "serving lessons"
    parts = nodeid.partition("::")[0].split("/")
    return parts[parts.index("tests") + 1] if "tests" in parts[:-1] else ""


def pytest_collection_modifyitems(items):
    rank = {name: n for n, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(group(item.nodeid), len(rank)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group(nodeid)

    return ByGroup(config, log)
