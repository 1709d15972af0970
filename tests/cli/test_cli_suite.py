"""./course test: arguments reach pytest, and its verdict comes back as the course's exit codes."""

import os

import pytest

from gb10.cli import test as suite


@pytest.fixture(autouse=True)
def quick(env):
    """pytest without the plugins that are installed: they take seconds to load and aren't what is tested here."""
    env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"


@pytest.fixture
def scratch(tmp_path):
    f = tmp_path / "test_scratch.py"
    f.write_text("def test_good(): pass\ndef test_bad(): assert False\n")
    return str(f)


@pytest.mark.parametrize(("options", "code", "said"), [
    (["-k", "good"], 0, "1 passed, 1 deselected"),
    (["--", "-k", "good"], 0, "1 passed, 1 deselected"),
    ([], 1, "1 failed, 1 passed"),
    (["--no-such-option"], 2, "unrecognized arguments"),
    (["-k", "neither"], 1, "2 deselected"),
])
def test_options_reach_pytest(course, scratch, options, code, said):
    p = course("test", *options, scratch, "-p", "no:cacheprovider", "--rootdir", os.path.dirname(scratch))
    assert p.returncode == code and said in p.stdout + p.stderr


def test_a_missing_browser_is_said_loudly(course, scratch, tmp_path):
    p = course("test", "-k", "good", scratch, "-p", "no:cacheprovider", PATH=str(tmp_path))
    assert "THE BROWSER TESTS WILL BE SKIPPED" in p.stdout and p.returncode == 0


def test_a_browser_is_found():
    assert suite.find_browser({"google-chrome": "/x/google-chrome"}.get) == "/x/google-chrome"
    assert suite.find_browser({}.get) is None
