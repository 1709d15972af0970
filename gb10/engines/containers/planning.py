"""The exact compose command and environment with which an engine would be started, within the memory there is."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace

from gb10 import catalog, machine
from gb10.engines.containers import models
from gb10.engines.containers.budget import Budget, budget, cache_tokens
from gb10.engines.containers.spec import Spec, reasoning_parser, spec
from gb10.errors import UserError

GIB = 2**30
# The addresses and the interface of NVIDIA's playbooks for two Sparks (build.nvidia.com/playbooks/connect-two-sparks).
SPARKS = {"SPARKS_HEAD": "192.168.100.10", "SPARKS_INTERFACE": "enp1s0f1np1"}
WORKER = "192.168.100.11"
EVERYWHERE = ("0.0.0.0", "::")      # addresses that include 127.0.0.1


@dataclass(frozen=True)
class Plan:
    """What would be run."""

    spec: Spec
    chosen: models.Chosen
    budget: Budget
    kv: str
    machine: str
    port: int
    role: str = ""                  # "", or "head" or "worker" of two Sparks
    notes: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    address: str = "127.0.0.1"      # where this machine reaches it

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}/v1"

    @property
    def file(self) -> str:
        return self.spec.file(bool(self.role))

    @property
    def service(self) -> str:
        return f"{self.spec.name}-worker" if self.role == "worker" else self.spec.name

    def compose(self, *words: str) -> list[str]:
        """A compose command, to be run in the course's folder."""
        profile = ["--profile", self.role] if self.role else []
        return ["docker", "compose", "-f", self.file, *profile, *words]

    @property
    def command(self) -> list[str]:
        return self.compose("up", "--detach")

    def to_dict(self) -> dict:
        """As ./course up --dry-run --json prints it."""
        b = self.budget
        return {"engine": self.spec.name, "url": self.url, "model": self.chosen.name, "checkpoint": self.chosen.given,
                "weights": self.chosen.weights, "kv": self.kv, "machine": self.machine, "users": b.users, "context": b.context,
                "fits": True, "verdict": b.verdict, "needs_bytes": b.parts(), "available_bytes": round(b.available),
                "command": self.command, "environment": self.environment, "notes": list(self.notes)}


def plan(engine: str, model: str | None = None, *, weights: str | None = None, kv: str | None = None, machine: str | None = None,
         users: int | None = None, context: int | None = None, port: int | None = None, name: str | None = None,
         two_sparks: bool = False, worker: bool = False) -> Plan:
    """What ./course up would run. machine: one of the catalogue; None is the one at hand, with what it has free now.

    Raises UserError with one sentence: no such engine, no such model, it would not fit.
    """
    engine_ = spec(engine)
    if two_sparks and not engine_.two_sparks:
        raise UserError(f"{engine_.title} over two Sparks is not started by ./course up: vllm and sglang are. (TensorRT-LLM's "
                        f"way, with mpirun over ssh, is NVIDIA's playbook's; Ollama and NIM use one machine.)")
    bind = _bind(engine_)
    if two_sparks and bind:
        raise UserError("over two Sparks the head listens on 127.0.0.1 only: unset GB10_BIND, and reach it with ssh -L.")
    if name is not None and engine_.name in ("ollama", "nim"):
        raise UserError(f"{engine_.title} calls its models by names of its own: leave --name out.")
    hardware, free, said = _machine(machine)
    chosen = models.choose(engine_, model, weights, name, local=machine is None)
    try:
        cache = catalog.kv_format(kv or "bf16").name
        if cache not in engine_.kv:
            raise UserError(f"a KV cache in {cache} is not what {engine_.title} is started with: take {' or '.join(engine_.kv)}.")
    except ValueError as e:
        raise UserError(str(e)) from None
    users, context = _positive(users, "--users"), _positive(context, "--context")
    b = budget(chosen.model, chosen.weights, cache, hardware, engine_.counts_as, users=users, context=context,
               available=free, machines=2 if two_sparks else 1)
    role = ("worker" if worker else "head") if two_sparks else ""
    made = Plan(engine_, chosen, b, cache, hardware.name, engine_.host_port(port), role,
                (*said, *chosen.notes, *_about(b, users, context), *(_two(engine_, chosen, b, cache, role) if role else ())),
                address=bind if bind and bind not in EVERYWHERE else "127.0.0.1")
    return replace(made, environment=_environment(made, bind))


def _positive(n: int | None, what: str) -> int | None:
    if n is not None and not 1 <= n <= 10**7:
        raise UserError(f"{what} {n} makes no sense: give a whole number, 1 or more.")
    return n


def _bind(engine: Spec) -> str | None:
    """GB10_BIND, if it is set: beyond this machine only where the engine itself asks for a key."""
    bind = os.environ.get("GB10_BIND", "").strip()
    if bind in ("", "127.0.0.1", "::1", "localhost"):
        return None
    if not engine.has_key:
        raise UserError(f"GB10_BIND is set, but {engine.title} asks nobody for a key, so it listens on 127.0.0.1 only: unset "
                        f"GB10_BIND, and reach it from another machine with ssh -L {engine.port}:127.0.0.1:{engine.port}.")
    if not os.environ.get("GB10_API_KEY"):
        raise UserError(f"GB10_BIND is {bind}: everybody on that network could use the engine. Set GB10_API_KEY to a key of your "
                        f"own, too, or unset GB10_BIND.")
    return bind


def _machine(name: str | None) -> tuple[catalog.Machine, float | None, tuple[str, ...]]:
    """(the machine, bytes free on it now or None for all, what to say about that)."""
    try:
        if name is not None and name != "this":
            found = catalog.machine(name)
            if not found.compute_capability:
                raise UserError(f"{found.title} has no NVIDIA GPU, which these containers need: --machine gb10, for instance.")
            return found, None, ()
    except ValueError as e:
        raise UserError(str(e)) from None
    here = machine.detect()
    if not here.gpus:
        return catalog.machine("gb10"), None, ("this machine has no NVIDIA GPU: planned for a DGX Spark (--machine gb10)",)
    return _here(here)


def _here(here: machine.Machine) -> tuple[catalog.Machine, float | None, tuple[str, ...]]:
    base = catalog.machine("gb10")
    gpu = here.gpus[0]
    total = here.memory_total_bytes if here.unified_memory else gpu.memory_bytes
    if not total:
        raise UserError(f"how much memory {gpu.name} has can't be told: nvidia-smi doesn't say. Plan with --dry-run --machine NAME.")
    source = base.source
    figures = (catalog.Figure("memory_visible", total / GIB, "GiB", source),
               *(f for f in base.figures if not f.name.startswith("memory")))
    this = replace(base, name="this", title=f"this machine ({gpu.name})", unified=here.unified_memory, figures=figures)
    free = here.memory_available_bytes if here.unified_memory else None
    return this, free, ()


def _about(b: Budget, users: int | None, context: int | None) -> list[str]:
    notes = []
    if b.verdict == "tight":
        notes.append(f"tight: {b.left / GIB:.1f} GiB are left to the system, which likes {b.memory.keep_free / GIB:.1f}; close the desktop")
    if (users is None and b.users < 8) or (context is None and b.context < 16384):
        notes.append(f"room for {b.users} at once of {b.context} tokens; the usual 8 of 16384 would not fit")
    return notes


def _two(engine: Spec, chosen: models.Chosen, b: Budget, kv: str, role: str) -> list[str]:
    missing = [key for key in (*SPARKS, "SPARKS_SELF") if not os.environ.get(key)]
    other = f"./course up {engine.name} --model {chosen.asked} --weights {chosen.weights} --kv {kv} --users {b.users} --context {b.context} --name {chosen.name} --two-sparks"
    notes = [f"on the other Spark: {other}{' --worker' if role == 'head' else ''}"]
    if missing:
        notes.append(f"not set, so as in NVIDIA's playbook: {', '.join(missing)} (addresses on the cable, and the interface that "
                     f"ibdev2netdev shows as Up)")
    return notes


def _nim_image(reckoned: str) -> str:
    """NIM_IMAGE may name another tag; another NIM would be started with a memory that was reckoned for this one."""
    image = os.environ.get("NIM_IMAGE") or reckoned
    if image.rpartition(":")[0] != reckoned.rpartition(":")[0]:
        raise UserError(f"NIM_IMAGE is {image}, whose memory ./course up can't reckon: docker compose -f compose/nim.yml up starts it, "
                        f"or take the model with --model.")
    return image


def _environment(plan: Plan, bind: str | None) -> dict[str, str]:
    """What compose reads; names as in compose/.env.example. No secret is in it: those stay in the shell."""
    s, c, b = plan.spec, plan.chosen, plan.budget
    env = {"MODEL": c.given, "NAME": c.name, "PORT": str(plan.port), "CONTEXT": str(b.context), "USERS": str(b.users),
           "LIMIT": f"{b.limit_gib}g"}
    if s.name == "nim":     # its image is its model
        env = {"IMAGE": _nim_image(c.given), **{k: env[k] for k in ("PORT", "CONTEXT", "LIMIT")},
               "MEMORY": f"{b.share(s.memory):.2f}"}
    elif s.name == "ollama":
        env["KV"] = s.kv[plan.kv]
        del env["NAME"]
    else:
        env |= {"MEMORY": f"{b.share(s.memory):.2f}", "KV": s.kv[plan.kv],
                "REASONING": reasoning_parser((c.given.split("/")[-1], c.model.name), s.name)}
        if s.name == "sglang":
            env["QUANTIZATION"] = "modelopt_fp4" if c.weights == "nvfp4" else ""
        # The share alone does not hold: an engine that weighs free memory while it loads takes page cache for used, and finds
        # too little left for its KV cache (vllm-project/vllm #35313, #44740). So the cache is told in bytes, or in tokens.
        env |= {"vllm": {"KV_BYTES": str(round(b.memory.kv))}}.get(s.name, {"TOKENS": str(b.users * cache_tokens(b.context))})
    env = {f"{s.prefix}_{key}": value for key, value in env.items()}
    if c.folder:
        env["HF_HUB_OFFLINE"] = "1"             # it is here: ask nobody
    if c.store or (c.folder and plan.machine == "this"):
        env["GB10_MODELS"] = str(c.store or c.folder.parent)
    if plan.machine == "this":      # what it writes is the reader's, not root's
        env["GB10_USER"] = f"{os.environ.get('SUDO_UID') or os.getuid()}:{os.environ.get('SUDO_GID') or os.getgid()}"
    if bind or os.environ.get("GB10_BIND"):
        env["GB10_BIND"] = bind or ""       # this machine's own address is what it listens on anyway, without a key
    if plan.role:
        env |= {key: os.environ.get(key) or usual for key, usual in SPARKS.items()}
        env["SPARKS_SELF"] = os.environ.get("SPARKS_SELF") or (env["SPARKS_HEAD"] if plan.role == "head" else WORKER)
    return env
