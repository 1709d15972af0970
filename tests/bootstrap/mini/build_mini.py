"""A build backend of a few lines, so that an editable install needs nothing from an index."""

import tomllib
import zipfile
from pathlib import Path


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    meta = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}"]
    meta += [f"Requires-Dist: {d}" for d in project["dependencies"]]
    for extra, requirements in project["optional-dependencies"].items():
        meta += [f"Provides-Extra: {extra}"] + [f'Requires-Dist: {r}; extra == "{extra}"' for r in requirements]
    stem = f"{project['name']}-{project['version']}"
    files = {
        "gb10_editable.pth": f"{Path.cwd()}\n",
        f"{stem}.dist-info/METADATA": "\n".join(meta) + "\n",
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: mini\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{stem}.dist-info/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{stem}.dist-info/RECORD"])
    with zipfile.ZipFile(Path(wheel_directory, f"{stem}-py3-none-any.whl"), "w") as z:
        for name, text in files.items():
            z.writestr(name, text)
    return f"{stem}-py3-none-any.whl"


build_wheel = build_editable
