"""llama.cpp, built on this machine: a second engine to compare with, and the home of GGUF. An optional step.

    from gb10.engines import llama_cpp
    llama_cpp.build()                                    # once, some 7 minutes on two cores; needs cmake and a C++ compiler
    gguf = llama_cpp.convert(folder, "pico.gguf")        # a model folder as a Q4_K_M GGUF
    with llama_cpp.serve(gguf) as server: ...            # as engines.start()

The source is the one inside the llama-cpp-python package, whose version and hash are pinned (see source.py). It is built for
the CPU; on a Spark Ollama or a llama.cpp with CUDA serves GGUF, and the benchmark finds it by its port.
Names are resolved when first used.
"""

from importlib import import_module

_HOME = {"build": "builder", "built": "builder", "missing": "builder",
         "convert": "converter", "dequantize": "converter", "serve": "server"}
__all__ = ["build", "built", "convert", "dequantize", "missing", "serve"]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"gb10.engines.llama_cpp has no {name!r}; it has: {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return __all__
