"""ModelOpt, imported and called without its noise."""

from __future__ import annotations

import contextlib
import io
import warnings


def modelopt():
    """ModelOpt's quantization package; its import takes some seconds and warns about what only a GPU needs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import modelopt.torch.quantization as mtq
    return mtq


@contextlib.contextmanager
def quiet():
    """Without ModelOpt's warnings, prints and progress bars."""
    nowhere = io.StringIO()
    with (warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere)):
        warnings.simplefilter("ignore")
        yield
