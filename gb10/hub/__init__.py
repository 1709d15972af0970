"""Models on this machine: fetched from the Hugging Face hub, listed, verified, and carried to a machine without network.

    from gb10 import hub
    hub.fetch("Qwen/Qwen3-0.6B")          # the folder with its files; what is missing is fetched, resumed, verified
    hub.folder("Qwen/Qwen3-0.6B")         # where it lies or would lie, in the course's own store
    hub.local("Qwen/Qwen3-0.6B")          # that folder if the model is whole there, else None
    hub.cached("Qwen/Qwen3-0.6B")         # the same of the Hugging Face cache
    hub.stored()                          # every model of both
    hub.verify("Qwen/Qwen3-0.6B")         # sizes, SHA-256, safetensors headers
    hub.bundle(out, ["Qwen/Qwen3-0.6B"])  # a folder that another machine installs from
    hub.install(out)                      # from such a folder, or from http://ADDRESS:PORT that hub.share serves

Names are resolved when first used: `import gb10.hub` costs nothing. (No module here has the name of a function: it would
take its place in the package once it is imported.)
"""

from importlib import import_module

_HOME = {
    "fetch": "fetching", "plan": "fetching", "Plan": "fetching",
    "folder": "store", "local": "store", "remove": "store",
    "cached": "cache",
    "stored": "listing", "Stored": "listing",
    "verify": "checking", "Verdict": "checking",
    "bundle": "bundling",
    "share": "sharing", "Share": "sharing",
    "install": "installing", "Installed": "installing",
    "Manifest": "manifest", "read_manifest": "manifest",
}
__all__ = ["Installed", "Manifest", "Plan", "Share", "Stored", "Verdict", "bundle", "cached", "fetch", "folder", "install",
           "local", "plan", "read_manifest", "remove", "share", "stored", "verify"]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"gb10.hub has no {name!r}; it has: {', '.join(__all__)}")
    return getattr(import_module(f"gb10.hub.{_HOME[name]}"), name)


def __dir__():
    return __all__
