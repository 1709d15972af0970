#!/usr/bin/env python3
"""Measure OpenAI-compatible servers (Ollama, TensorRT-LLM, vLLM, SGLang, any URL): python3 appendix/llm_benchmark.py

Needs Python 3.11 or newer and this checkout, nothing installed. --help says the rest; the work is in gb10/bench/.
"""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))

if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 - people run this with whatever python3 is
        sys.exit("llm_benchmark.py needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try python3.12.")
    if not os.path.isfile(os.path.join(ROOT, "gb10", "bench", "main.py")):
        sys.exit("llm_benchmark.py is the front of a library: copy the whole course (or its folders appendix and gb10), not this file alone.")
    sys.path.insert(0, ROOT)
    try:
        from gb10.bench.main import main
    except KeyboardInterrupt:                        # Ctrl-C that early has nothing to report
        sys.exit(130)
    sys.exit(main(prog="llm_benchmark.py"))
