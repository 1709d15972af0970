"""Start, find and stop engines.

    from gb10.engines import connect, start
    client, model = connect()                   # the engine that is up, else vLLM on the CPU with pico
    with start("out/pico-nvfp4") as server:     # one of your own; stops at the end of the block
        server.client.chat.completions.create(model=server.model, messages=[...])

Names are resolved when first used: `import gb10.engines` costs nothing.
"""

from importlib import import_module

_HOME = {
    "start": "launch", "Server": "launch",
    "chat": "talk", "connect": "find", "Connection": "find", "running": "find", "stop": "find",
}
__all__ = ["Connection", "Server", "chat", "connect", "running", "start", "stop"]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"gb10.engines has no {name!r}; it has: {', '.join(__all__)}")
    return getattr(import_module(f"gb10.engines.{_HOME[name]}"), name)


def __dir__():
    return __all__
