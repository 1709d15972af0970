"""The names of gb10.quantize: each resolves, whatever was imported before."""

import subprocess
import sys
from importlib import import_module

from gb10 import quantize


def test_every_name_resolves():
    for name in dir(quantize):
        assert getattr(quantize, name).__name__ == name


def test_no_module_hides_a_function():
    """Importing a sub-module sets it as an attribute of the package, where it would hide a function of its name."""
    for home in sorted(set(quantize._HOME.values())):
        import_module(f"gb10.quantize.{home}")
    for name in dir(quantize):
        assert callable(getattr(quantize, name)), name


def test_import_is_light():
    code = "import sys, gb10.quantize as q; dir(q); q.stream, q.inspect; assert not {'torch', 'modelopt'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
