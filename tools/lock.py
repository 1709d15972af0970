"""Make requirements.lock and environment.yml from pyproject.toml. Needs uv (https://docs.astral.sh/uv) on the PATH.

How pins are moved:

    edit the pins in pyproject.toml, then
    python tools/lock.py                    resolve again; whatever needn't move stays where it is
    python tools/lock.py --upgrade          let every package that pyproject doesn't name move to its newest
    python tools/lock.py --upgrade NAME     let these move (may be repeated)
    python tools/lock.py --sizes            (slow) print the figures for [tool.gb10.setup]; put them there by hand
    ./course test                           the next start of ./course installs the new pins

One lock serves all: Python 3.11 and 3.12, Linux on x86-64 and aarch64, macOS. It is resolved against PyPI alone, so
that torch is pinned by version and not by build: `torch==2.13.0` is satisfied by 2.13.0+cpu of PyTorch's CPU index
as well as by PyPI's CUDA build. For the same reason the lock holds no hashes: those of the two builds differ, and pip
wants either all hashes or none. pip uses it as a list of constraints (-c), so that the CUDA packages in it
are installed only where torch asks for them.

Before anything is written, every pin must have a wheel for each of the four Linux targets, or else be a source
package that is named in SOURCE_ONLY.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
CONDA = ROOT / "environment.yml"
TARGETS = [(python, machine) for python in ((3, 11), (3, 12)) for machine in ("x86_64", "aarch64")]
GLIBC = 36              # Debian 12; Ubuntu 24.04 on a Spark has 39
SOURCE_ONLY = set()     # packages that every machine can build without a compiler
HEADER = """\
# Made by tools/lock.py from pyproject.toml: do not edit. Used as constraints: pip install -c requirements.lock -e .
# One list for Python 3.11 and 3.12, x86-64 and aarch64. Why torch names no build and why there are no hashes: tools/lock.py
"""


class Stop(Exception):
    """One sentence: what is wrong, what to do."""


def uv_compile(output: Path, *options: str) -> None:
    """Resolve pyproject.toml with all extras into `output`; PyPI only, whatever this machine is configured for."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    command = ["uv", "pip", "compile", "--universal", "--python-version", "3.11", "--all-extras", "--no-config",
               "--no-header", "--quiet", *options, "pyproject.toml", "-o", str(output)]
    try:
        done = subprocess.run(command, cwd=ROOT, env=env, check=False, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        raise Stop("uv is not on the PATH; pip install uv") from None
    if done.returncode:
        raise Stop(f"uv found no resolution, nothing was changed:\n{done.stderr.strip()}")


def pins(text: str) -> list[tuple[str, str, str]]:
    """(name, version, marker or "") for every line of a lock that pins something."""
    found = [re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)(?:\s*;\s*(.+))?$", line) for line in text.splitlines()]
    return [(m[1], m[2], m[3] or "") for m in found if m]


def objections(text: str) -> list[str]:
    """What must not be in a lock that others use."""
    bad = [f"a local build is pinned: {n}=={v}" for n, v, _ in pins(text) if "+" in v]
    bad += [f"a path or an index: {line}" for line in text.splitlines()
            if not line.startswith("#") and re.search(r"(?<!via )(file:|https?:|^\s*-|^/)", line)]
    torch = [(v, marker) for n, v, marker in pins(text) if n == "torch"]
    if len(torch) != 1 or torch[0][1]:
        bad.append(f"torch must be pinned once, for all machines, but is {torch}")
    return bad


def environment(python: tuple[int, int], machine: str) -> dict[str, str]:
    """The marker variables of a Linux target."""
    dotted = "{}.{}".format(*python)
    return {"python_version": dotted, "python_full_version": dotted + ".9", "implementation_version": dotted + ".9",
            "platform_machine": machine, "sys_platform": "linux", "os_name": "posix", "platform_system": "Linux",
            "implementation_name": "cpython", "platform_python_implementation": "CPython", "extra": "",
            "platform_release": "", "platform_version": ""}


def wheel_for(package: dict, python: tuple[int, int], machine: str) -> str | None:
    """The URL of the wheel that pip would take on a Linux target, None when there is none."""
    from packaging.tags import compatible_tags, cpython_tags
    from packaging.utils import parse_wheel_filename

    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC, 16, -1)] + [f"manylinux2014_{machine}"]
    platforms += [f"manylinux_2_{minor}_{machine}" for minor in range(16, 4, -1)]
    platforms += [f"manylinux2010_{machine}", f"manylinux1_{machine}", f"linux_{machine}"]
    order = list(cpython_tags(python, platforms=platforms)) + list(compatible_tags(python, platforms=platforms))
    rank = {tag: i for i, tag in enumerate(order)}
    best = None
    for wheel in package.get("wheels", ()):
        url = wheel["url"]
        score = min((rank[tag] for tag in parse_wheel_filename(url.rsplit("/", 1)[1])[3] if tag in rank), default=None)
        if score is not None and (best is None or score < best[0]):
            best = (score, url)
    return best and best[1]


def applies(package: dict, python: tuple[int, int], machine: str) -> bool:
    from packaging.markers import Marker

    return "marker" not in package or Marker(package["marker"]).evaluate(environment(python, machine))


def check_wheels(packages: list[dict]) -> list[str]:
    """A line for every pin that some target could neither install as a wheel nor build without a compiler."""
    return [
        f"{p['name']}=={p['version']} has no wheel for Python {python[0]}.{python[1]} on {machine}"
        for python, machine in TARGETS for p in packages
        if applies(p, python, machine) and p["name"] not in SOURCE_ONLY and not wheel_for(p, python, machine)
    ]


def conda_text(project: dict) -> str:
    """environment.yml: Python and pip from conda, the packages that pyproject names from pip, under the same lock."""
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    return "\n".join([
        "# The conda twin of pyproject.toml, made by tools/lock.py: do not edit.",
        "#   conda env create -f environment.yml && conda activate gb10 && python -m gb10 lab",
        "name: gb10",
        "channels: [conda-forge]",
        "dependencies:",
        "  - python=3.11",
        "  - pip",
        "  - pip:",
        "      - -c requirements.lock",
        "      - -e .",
        *(f"      - {requirement}" for requirement in wanted),
    ]) + "\n"


def zip_sizes(url: str) -> tuple[int, int]:
    """(bytes of a wheel, bytes of what is in it), read from the end of the file, where a zip has its directory."""
    import struct
    from urllib.request import Request, urlopen

    def part(spec: str) -> tuple[bytes, int]:
        with urlopen(Request(url, headers={"Range": f"bytes={spec}"}), timeout=60) as r:
            return r.read(), int(r.headers["Content-Range"].rsplit("/", 1)[1])

    tail, size = part("-65536")
    at = tail.rindex(b"PK\x05\x06")
    count, length, offset = struct.unpack("<HII", tail[at + 10:at + 20])
    directory = tail[-(size - offset):][:length] if size - offset <= len(tail) else part(f"{offset}-{offset + length - 1}")[0]
    total, i = 0, 0
    for _ in range(count):
        total += struct.unpack("<I", directory[i + 24:i + 28])[0]
        i += 46 + sum(struct.unpack("<HHH", directory[i + 28:i + 34]))
    return size, total


def print_sizes() -> None:
    """MB to download and MB on disk (without byte code) for a Linux machine with the CUDA build of torch."""
    with tempfile.TemporaryDirectory() as tmp:
        file = Path(tmp, "pylock.toml")
        uv_compile(file, "--format", "pylock.toml", "--constraints", str(LOCK))
        packages = tomllib.loads(file.read_text())["packages"]
        for python, machine in TARGETS:
            sizes = {p["name"]: zip_sizes(wheel_for(p, python, machine)) for p in packages
                     if applies(p, python, machine)}
            cuda = {n: s for n, s in sizes.items()
                    if n in ("torch", "triton") or n.startswith(("nvidia-c", "nvidia-n", "cuda-"))}
            for what, part in (("all", sizes), ("torch and CUDA of it", cuda)):
                down, disk = (sum(s[i] for s in part.values()) / 1e6 for i in (0, 1))
                print(f"Python {python[0]}.{python[1]} {machine:8} {what:21} {len(part):4} packages, "
                      f"{down:6.0f} MB to download, {disk:6.0f} MB on disk")


def write(path: Path, text: str) -> None:
    path.with_suffix(".tmp").write_text(text)
    os.replace(path.with_suffix(".tmp"), path)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upgrade", nargs="?", const="", action="append", metavar="NAME",
                        help="let this package move to its newest version; without NAME all of them")
    parser.add_argument("--sizes", action="store_true", help="measure downloads on PyPI; changes nothing")
    args = parser.parse_args(argv)
    if args.sizes:
        print_sizes()
        return 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    moves = [option for name in args.upgrade or ()
             for option in (["--upgrade"] if not name else ["--upgrade-package", name])]
    with tempfile.TemporaryDirectory() as tmp:
        lock, pylock = Path(tmp, "requirements.lock"), Path(tmp, "pylock.toml")
        lock.write_text(LOCK.read_text() if LOCK.exists() else "")  # uv keeps what it finds there
        uv_compile(lock, *moves)
        text = lock.read_text()
        if bad := objections(text):
            raise Stop("this can't be the lock, nothing was changed:\n" + "\n".join(bad))
        uv_compile(pylock, "--format", "pylock.toml", "--constraints", str(lock))
        if bad := check_wheels(tomllib.loads(pylock.read_text())["packages"]):
            raise Stop("nothing was changed:\n" + "\n".join(bad))
    write(LOCK, HEADER + text)
    write(CONDA, conda_text(project))
    print(f"{len(pins(text))} pins, a wheel for each on {len(TARGETS)} targets; wrote {LOCK.name} and {CONDA.name}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Stop as e:
        print(f"tools/lock.py: {e}", file=sys.stderr)
        sys.exit(1)
