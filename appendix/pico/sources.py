"""Where pico's text comes from, and which of it is held out.

The documentation is the Debian package python3.11-doc, fetched with apt; any folder with CPython's Doc tree
serves as well. The source is the standard library of the Python that runs this file. Both are under the PSF
licence. About 5 % of the documentation's files are held out, chosen by a hash of their path alone.
"""
import hashlib
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

DEBIAN_PACKAGE = "python3.11-doc"
SALT = "pico"                # decides which documents are held out; fixed before the first training
HELD_OUT_PERCENT = 5
ALWAYS_TRAIN = {"library/functions"}


def fetch_docs(work: Path) -> Path:
    """The folder with the documentation's *.rst.txt files, downloaded with apt and unpacked once."""
    sources = work / "docs" / "usr" / "share" / "doc" / "python3.11" / "html" / "_sources"
    if sources.is_dir():
        return sources
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise SystemExit(f"The documentation comes from the Debian package {DEBIAN_PACKAGE}, and this system has no "
                         "apt-get. Pass --docs FOLDER instead: the Doc folder of a CPython 3.11 source tree.")
    folder = work / "deb"
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("*.deb")):
        subprocess.run(["apt-get", "download", DEBIAN_PACKAGE], cwd=folder, check=True)
    package = max(folder.glob("*.deb"))
    subprocess.run(["dpkg", "-x", str(package), str(work / "docs")], check=True)
    return sources


def read_docs(folder: Path) -> dict[str, str]:
    """{"library/textwrap": rst, …} of every documentation file below `folder`, in path order."""
    docs = {}
    for path in sorted([*folder.rglob("*.rst.txt"), *folder.rglob("*.rst")]):
        name = path.relative_to(folder).as_posix().removesuffix(".txt").removesuffix(".rst")
        docs[name] = path.read_text(encoding="utf-8")
    return docs


def held_out(name: str) -> bool:
    """Whether the documentation file is kept away from training: decided by a hash of its path alone."""
    digest = hashlib.sha256(f"{SALT}:{name}".encode()).digest()
    return name not in ALWAYS_TRAIN and int.from_bytes(digest[:8], "big") % 100 < HELD_OUT_PERCENT


LEFT_OUT_SOURCE = {"test", "tests", "idlelib", "lib2to3", "encodings", "pydoc_data", "site-packages", "dist-packages",
                   "__pycache__", "ensurepip", "turtledemo", "config-3.11-x86_64-linux-gnu"}


def python_files(stdlib: Path | None = None) -> Iterator[tuple[Path, Path]]:
    """Every source file of the standard library that is not a test or a table: (path, path below the library)."""
    stdlib = stdlib or Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(stdlib.rglob("*.py")):
        rel = path.relative_to(stdlib)
        if not LEFT_OUT_SOURCE & set(rel.parts):
            yield path, rel


def modules_of(rst: str) -> tuple[set[str], set[str]]:
    """What a documentation file documents: (module names, source paths below Lib/)."""
    names = set(re.findall(r"^\s*\.\. module:: ([\w.]+)", rst, re.MULTILINE))
    paths = set(re.findall(r":source:`Lib/([\w/.-]+)`", rst))
    return names, paths


def read_source(docs: dict[str, str], stdlib: Path | None = None) -> dict[str, str]:
    """{"textwrap.py": text, …}: the standard library without tests, generated tables, and held-out modules."""
    names, paths = set(), set()
    for doc, rst in docs.items():
        if held_out(doc):
            n, p = modules_of(rst)
            names, paths = names | n, paths | p
    names |= {twin for name in names for twin in ("_" + name, "_py" + name)}
    source = {}
    for path, rel in python_files(stdlib):
        module = ".".join(rel.with_suffix("").parts).removesuffix(".__init__")
        if rel.name.startswith("_sysconfigdata"):
            continue
        inside = any(module == n or module.startswith(n + ".") for n in names)
        if inside or any(rel.as_posix() == p or rel.as_posix().startswith(p.rstrip("/") + "/") for p in paths):
            continue
        text = path.read_text(encoding="utf-8", errors="replace").strip()
        if 200 < len(text) and "\ufffd" not in text:
            source[rel.as_posix()] = re.sub(r"[ \t]+$", "", text.expandtabs(8), flags=re.MULTILINE)
    return source
