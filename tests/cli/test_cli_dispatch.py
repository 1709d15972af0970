"""The dispatcher: help, exit codes, one sentence for every failure, and what it must not import."""

import subprocess
import sys
import textwrap
import time

import pytest

from gb10 import cli
from gb10.paths import ROOT


def test_help_teaches_and_lists_only_what_exists(course):
    p = course("--help")
    assert p.returncode == 0 and not p.stderr
    assert "first:  ./course lab" in p.stdout
    for name, (line, module) in cli.commands().items():
        assert f"  {name} " in p.stdout and line in p.stdout
        assert (ROOT / (module.replace(".", "/") + ".py")).is_file(), f"{name} is listed but has no module"
    assert course().stdout == course("help").stdout == p.stdout


@pytest.mark.parametrize("name", cli.commands())
def test_each_sub_command_explains_itself(course, name):
    p = course(name, "--help")
    assert p.returncode == 0, p.stderr
    assert p.stdout.startswith(f"usage: ./course {name}")
    assert "Examples:" in p.stdout and f"./course {name}" in p.stdout.split("Examples:")[1]


def test_version(course):
    from gb10 import __version__

    assert course("--version").stdout == f"gb10 {__version__}\n"


@pytest.mark.parametrize(("typed", "meant"), [("chekc", "check"), ("labs", "lab"), ("rest", "reset")])
def test_unknown_sub_command_names_the_nearest(course, typed, meant):
    p = course(typed)
    assert p.returncode == 2 and p.stdout == ""
    assert p.stderr == f"./course: there is no sub-command '{typed}': did you mean './course {meant}'?\n"


def test_unknown_sub_command_without_a_near_one(course):
    p = course("xyzzy")
    assert p.returncode == 2 and "'./course --help' lists them" in p.stderr and p.stderr.count("\n") == 1


@pytest.mark.parametrize("argv", [("check", "--jsn"), ("lab", "--port", "x"), ("lab", "--port", "0"), ("reset", "a", "b")])
def test_wrong_options_cost_one_sentence(course, argv):
    p = course(*argv)
    assert p.returncode == 2 and p.stdout == ""
    assert p.stderr.count("\n") == 1 and p.stderr.startswith(f"./course {argv[0]}: ")


FAKE = """
import sys, types
from gb10 import cli
def run(args):
    {body}
module = types.SimpleNamespace(HELP="h", add_arguments=lambda p: None, run=run)
sys.modules["fake"] = module
cli.TABLE = (("G", (("fake", "help", "fake"),)),)
sys.exit(cli.main(["fake"]))
"""


def fake(body, **kw):
    code = FAKE.format(body=textwrap.indent(textwrap.dedent(body), "    ").strip())
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, timeout=30,
                          check=False, **kw)


@pytest.mark.parametrize(("body", "code", "said"), [
    ("return 0", 0, ""),
    ("return None", 0, ""),
    ("return 1", 1, ""),
    ("from gb10.errors import UserError; raise UserError('no such model.')", 2, "./course: no such model.\n"),
    ("from gb10.errors import WorkFailed; raise WorkFailed('the engine died.')", 1, "./course: the engine died.\n"),
    ("raise KeyboardInterrupt", 130, "\n./course: stopped.\n"),
    ("raise OSError(28, 'No space left on device', '/x')", 1,
     "./course: No space left on device: /x. (GB10_DEBUG=1 shows where.)\n"),
])
def test_exit_codes(body, code, said):
    p = fake(body)
    assert (p.returncode, p.stderr) == (code, said)


def test_a_defect_shows_its_traceback():
    p = fake("raise ZeroDivisionError")
    assert p.returncode == 1 and "Traceback" in p.stderr and "ZeroDivisionError" in p.stderr


def test_a_reader_that_goes_away_is_no_error(env):
    p = subprocess.run(f"{sys.executable} -c '{FAKE.format(body='print(chr(10) * 1000000)')}' | head -1", shell=True,
                       cwd=ROOT, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert p.stderr == ""


LOADED = "import sys; {}; print(*sorted(m for m in sys.modules if '.' not in m))"


@pytest.mark.parametrize(("code", "forbidden"), [
    ("import gb10", {"torch", "numpy", "argparse", "subprocess", "importlib.metadata"}),
    ("import gb10.machine; gb10.machine.banner()", {"torch", "numpy", "psutil", "rich"}),
    ("from gb10.cli import main; main(['--help'])", {"torch", "numpy", "argparse", "subprocess", "rich"}),
    ("from gb10.cli import main; main(['check', '--json'])", {"torch", "numpy", "jupyter_server", "transformers"}),
    ("from gb10.cli import main, lab", {"torch", "numpy", "jupyter_server"}),
])
def test_imports_stay_light(code, forbidden, env):
    p = subprocess.run([sys.executable, "-c", LOADED.format(code)], capture_output=True, text=True, check=True,
                       timeout=60, cwd=ROOT, env=env)
    assert not forbidden & set(p.stdout.splitlines()[-1].split())


def test_help_is_quick(course):
    """Asked: under 0.3 s. The best of five, since the machine may be busy."""

    def once():
        start = time.perf_counter()
        course("--help")
        return time.perf_counter() - start

    assert min(once() for _ in range(5)) < 0.3
