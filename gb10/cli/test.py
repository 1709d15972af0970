"""./course test: the whole suite with the course's own pytest."""

from gb10.errors import WorkFailed

HELP = "Run the whole test suite. Everything after 'test' goes to pytest (paths are taken from the course's folder)."
EXAMPLES = """\
  ./course test                        everything: some 45 minutes on 2 cores
  ./course test tests/cli -x           one folder, stop at the first failure
  ./course test -k "quantize and not browser"
"""
RAW = True
# Two folders of tests at a time (tests/conftest.py says what belongs together).
IN_PAIRS = ("-n", "2", "--no-loadscope-reorder", "--durations", "12")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def add_arguments(parser):
    parser.set_defaults(rest=[])


def find_browser(which=None) -> str | None:
    """Path of a Chromium for the browser tests, or None."""
    from shutil import which as default

    return next(filter(None, map(which or default, BROWSERS)), None)


def exit_code(pytest_code: int) -> int:
    """pytest's exit code -> ours: 4 (wrong usage) is a wrong request, 2 an interruption, the rest a failure."""
    return {0: 0, 2: 130, 4: 2}.get(pytest_code, 1)


def run(args) -> int:
    import importlib.util
    import os
    import subprocess
    import sys

    from gb10 import paths

    for module, package in (("pytest", "pytest"), ("xdist", "pytest-xdist"), ("nbval", "nbval")):
        if importlib.util.find_spec(module) is None:
            raise WorkFailed(f"{package} is not installed in {sys.prefix}: run ./course test, which installs it, or "
                             "pip install -e '.[test]'.")
    if find_browser() is None:
        line = "!" * 100
        print(f"{line}\n!!  No Chromium here: THE BROWSER TESTS WILL BE SKIPPED. On Debian and Ubuntu: "
              f"apt-get install chromium\n{line}", flush=True)
    if not args.rest:
        print("The whole test suite: some 45 minutes on 2 cores.", flush=True)
    command = [sys.executable, "-m", "pytest", *(args.rest or [*IN_PAIRS, "tests"])]
    env = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=paths.ROOT, env=env)
    while True:
        try:
            return exit_code(process.wait())
        except KeyboardInterrupt:
            continue    # Ctrl-C reaches pytest too: it cleans up, prints its summary and ends with 2
