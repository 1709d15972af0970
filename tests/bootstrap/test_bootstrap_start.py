"""The start of ./course when all is there, and what it answers before anything is there."""

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gb10 import cli

ROOT = Path(__file__).resolve().parents[2]


def test_parses_on_old_pythons():
    ast.parse((ROOT / "course").read_text(), feature_version=(3, 6))
    with pytest.raises(SyntaxError):  # the gate refuses newer syntax
        ast.parse("if (n := 1): pass", feature_version=(3, 6))


def test_needs_the_standard_library_only():
    tree = ast.parse((ROOT / "course").read_text())
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert {n.partition(".")[0] for n in names} - {"gb10"} <= set(sys.stdlib_module_names)


def bare(tmp_path, *argv):
    """Run the real script and the real gb10 from a folder with nothing installed."""
    folder = tmp_path / "a course"
    if not folder.exists():
        shutil.copytree(ROOT / "gb10", folder / "gb10", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy2(ROOT / "course", folder)
    done = subprocess.run([sys.executable, "-S", str(folder / "course"), *argv], text=True, capture_output=True,
                          check=False, timeout=200)
    assert not (folder / ".venv").exists() and not (folder / ".course").exists()
    return done


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"]])
def test_overview_before_installation_is_gb10s_own(tmp_path, argv):
    done = bare(tmp_path, *argv)
    assert (done.returncode, done.stdout) == (0, cli.help_text())


def test_requests_that_need_no_environment(tmp_path):
    assert bare(tmp_path, "--version").stdout.startswith("gb10 ")
    for name in cli.commands():
        done = bare(tmp_path, name, "--help")
        assert done.returncode == 0, done.stderr
        assert "./course" in done.stdout and "Traceback" not in done.stderr
    wrong = bare(tmp_path, "labb")
    assert wrong.returncode == 2
    assert "labb" in wrong.stderr and len(wrong.stderr.splitlines()) == 1


def test_sub_commands_with_the_test_extra_exist(script):
    assert set(script.NEED_TEST_EXTRA) <= set(cli.commands())


def test_hands_over_everything(installed_mini, tmp_path):
    process = installed_mini.start("show", "a b", "--json", "", "ü*", cwd=tmp_path)
    out, err = process.communicate(timeout=2000)
    seen = json.loads(out)
    assert seen["argv"] == ["show", "a b", "--json", "", "ü*"]
    assert seen["pid"] == process.pid, "there is a process in between"
    assert seen["cwd"] == str(tmp_path)
    assert seen["python"] == str(installed_mini.root / ".venv" / "bin" / "python")
    assert err == "", "a warm start says nothing"


def test_exit_codes_and_signals_pass_through(installed_mini):
    assert [installed_mini.run("fail", str(code)).returncode for code in (0, 1, 2, 7)] == [0, 1, 2, 7]
    for number in (signal.SIGTERM, signal.SIGINT):
        process = installed_mini.start("sleep")
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        process.communicate(timeout=2000)
        assert process.returncode == -number


def test_from_any_folder_and_through_a_symlink(installed_mini, tmp_path):
    (tmp_path / "gb10").mkdir()  # a folder of that name where one stands must not hide the real one
    (tmp_path / "gb10" / "__init__.py").write_text("raise SystemExit('the wrong gb10')")
    (tmp_path / "link").symlink_to(installed_mini.root / "course")
    for command in ([sys.executable, "link"], [str(tmp_path / "link")], installed_mini.command):
        seen = installed_mini.works(command=command, cwd=tmp_path)
        assert Path(seen["gb10"]).parent == installed_mini.root / "gb10"


def test_no_module_is_compiled_or_installed_again(installed_mini):
    log = installed_mini.root / ".course" / "install.log"
    before, sent = log.stat().st_mtime_ns, len(installed_mini.index.sent)
    installed_mini.works()
    assert (log.stat().st_mtime_ns, len(installed_mini.index.sent)) == (before, sent)
    assert list((installed_mini.root / ".venv").glob("lib/python3*/site-packages/__pycache__/tinydep.*.pyc"))


def test_a_warm_start_costs_less_than_100_ms(installed_mini):
    python = str(installed_mini.root / ".venv" / "bin" / "python")

    def best(command):
        times = []
        for _ in range(7):
            start = time.perf_counter()
            assert installed_mini.run("fail", "0", command=command).returncode == 0
            times.append(time.perf_counter() - start)
        return min(times)

    through = best(installed_mini.command)
    direct = best([python, "-P", "-m", "gb10"])
    print(f"own part of a warm start: {(through - direct) * 1000:.0f} ms")
    assert through - direct < 0.100


def test_a_read_only_folder_that_is_set_up_starts(installed_mini):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    installed_mini.root.chmod(0o555)
    try:
        assert installed_mini.works()
    finally:
        installed_mini.root.chmod(0o755)
