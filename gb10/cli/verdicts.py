"""./course check, second half: from facts to verdicts. Pure functions, so that every machine can be tried anywhere.

`ok` is False only for what the course needs on this rung; what is merely worth knowing is a note (`[--]`). Whatever
fails says how to mend it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from gb10.cli.probes import PORTS, Port, Trouble
from gb10.machine import GIB, Machine

# Memory to have free before starting, GiB. laptop: vLLM on CPU takes 2.0 (measured), a notebook with torch about 1.
# spark, rack: an 8B model in NVFP4 (6) with 8 of KV cache, and the 8 to 10 that must stay free on unified memory.
MEMORY_NEEDED = {"laptop": 3, "spark": 24, "rack": 24}
DISK_NEEDED = 2             # GiB for checkpoints and outputs
DISK_ENGINE = 3             # GiB more while vLLM's own environment isn't installed yet
DISK_MODELS = 60            # GiB that images and an 8B-class model take on a Spark
# What ./course up listens on, and on a Spark the services of compose/.
PORTS_NEEDED = {"laptop": {8000}, "spark": {8000, 8001, 8002}, "rack": {8000, 8001, 8002}}
CLOCK_BAND = 120            # seconds
EARLIEST_YEAR = 2026        # this release


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    detail: str
    fix: str = ""
    note: bool = False      # fine, but not there or not needed here: shown as [--]

    def to_dict(self) -> dict:
        return {"name": self.name, "ok": self.ok, "detail": self.detail, "fix": self.fix}


def good(name, detail):
    return Check(name, True, detail)


def note(name, detail, fix=""):
    return Check(name, True, detail, fix, note=True)


def bad(name, detail, fix):
    return Check(name, False, detail, fix)


def _gib(n: int) -> str:
    return f"{n / GIB:.1f} GiB"


# ---------------------------------------------------------------- the machine

def rung(m: Machine) -> Check:
    how = "declared by GB10_RUNG" if m.rung_declared else "found"
    return good("rung", f"{m.rung} ({how}): {m.cores} cores, {m.system} {m.arch}, Python {m.python}")


def gpu(m: Machine) -> Check:
    if m.gpu_trouble:
        return bad("gpu", f"nvidia-smi is here but gives nothing: {m.gpu_trouble}",
                   "run nvidia-smi by hand; after a driver update reboot; if it is only slow, sudo nvidia-smi -pm 1 "
                   "keeps the driver loaded")
    if not m.gpus:
        if m.rung == "laptop":
            return note("gpu", "no NVIDIA GPU; not needed on this rung")
        return bad("gpu", f"no NVIDIA GPU is found, but GB10_RUNG declares rung {m.rung}",
                   "install the NVIDIA driver so that nvidia-smi lists the GPU, or unset GB10_RUNG")
    first = m.gpus[0]
    cc = "unknown" if first.compute_capability is None else "{}.{}".format(*first.compute_capability)
    memory = _gib(first.memory_bytes) if first.memory_bytes else "memory shared with the CPU"
    detail = (f"{len(m.gpus)} x {first.name}, compute capability {cc}, {memory}; multiplies natively: "
              f"{', '.join(m.native_formats) or 'unknown'}")
    if any(g.is_gb10 and g.compute_capability not in (None, (12, 1)) for g in m.gpus):
        return bad("gpu", detail + "; a GB10 is 12.1", "update the NVIDIA driver (DGX Spark: the DGX Dashboard's update)")
    if first.compute_capability is None:
        return bad("gpu", detail, "this driver is too old to name the compute capability: update it")
    if m.native_formats and "fp4" not in m.native_formats:
        detail += " (FP4 is emulated here)"
    return good("gpu", detail)


def memory(m: Machine) -> Check:
    need = MEMORY_NEEDED[m.rung]
    of = f"{_gib(m.memory_available_bytes)} available of {_gib(m.memory_total_bytes)}"
    if m.memory_limit_bytes:
        of += " (this container's limit)"
    if m.memory_available_bytes >= need * GIB:
        return good("memory", of)
    return bad("memory", f"{of}; this rung wants {need} GiB",
               "./course down stops the course's engine, Kernel > Shut Down All frees the notebooks; then close other "
               "programs" + (" or raise the container's limit" if m.memory_limit_bytes else ""))


def page_cache(m: Machine) -> Check:
    detail = f"{_gib(m.page_cache_bytes)}, given back under pressure"
    if m.unified_memory and m.page_cache_bytes > 0.25 * m.memory_total_bytes:
        return note("page cache", detail + ", but cudaMemGetInfo counts it as used",
                    "before starting an engine: sudo sh -c 'sync; echo 3 > /proc/sys/vm/drop_caches'")
    return good("page cache", detail)


def swap(m: Machine) -> Check:
    if not m.swap_total_bytes:
        return good("swap", "none")
    used = m.swap_total_bytes - m.swap_free_bytes
    detail = f"{_gib(used)} used of {_gib(m.swap_total_bytes)}"
    if used > 0.5 * m.swap_total_bytes and used > GIB:
        return note("swap", detail + ": figures measured now would be those of the disk",
                    "close programs, then sudo swapoff -a && sudo swapon -a")
    return good("swap", detail)


def disk(facts: dict, m: Machine) -> Check:
    need = DISK_NEEDED + (0 if facts["engine_installed"] else DISK_ENGINE)
    detail = f"{_gib(facts['free'])} free"
    if facts["free"] < need * GIB:
        what = "" if facts["engine_installed"] else ", the engine's installation included"
        return bad("disk", f"{detail}; {need} GiB are wanted{what}",
                   "free some space (pip cache purge, docker system prune) or move the course to a bigger disk")
    if m.rung != "laptop" and facts["free"] < DISK_MODELS * GIB:
        return note("disk", f"{detail}; engine images and models take {DISK_MODELS} GiB",
                    "docker system prune; hf cache delete")
    return good("disk", detail)


# ---------------------------------------------------------------- what serves

def port(p: Port, m: Machine) -> Check:
    name, use = f"port {p.number}", PORTS[p.number]
    if not p.taken:
        return good(name, f"free (for {use})")
    if p.ours:
        return good(name, f"the course's engine: {p.ours}")
    if p.answers:
        return good(name, f"an engine answers, model {p.answers}" + (f", {p.holder}" if p.holder else ""))
    holder = p.holder or "a process that this user can't see"
    judge = bad if p.number in PORTS_NEEDED[m.rung] else note
    stop = (f"kill {p.holder.split()[1].rstrip(',')}" if p.holder.startswith("pid")
            else f"sudo ss -ltnp 'sport = :{p.number}' names it")
    return judge(name, f"taken by {holder}, which doesn't answer as a model server; it is meant for {use}",
                 f"stop that program ({stop}), or start the engine on another port: ./course up --port N")


def docker(d: dict, m: Machine) -> list[Check]:
    names = ("docker engine", "docker compose", "NVIDIA runtime")
    if m.rung == "laptop":
        found = f"engine {d['engine']} is here" if d["engine"] else "no engine here"
        return [note(names[0], f"not needed on this rung ({found})"),
                note(names[1], f"not needed on this rung ({'plugin ' + d['compose'] if d['compose'] else 'no plugin'})"),
                note(names[2], "not needed on this rung")]
    if d["engine"]:
        engine = good(names[0], f"version {d['engine']}")
    elif not d["installed"]:
        engine = bad(names[0], "docker is not installed", "install Docker Engine: https://docs.docker.com/engine/install")
    elif "permission denied" in d["why"].lower():
        engine = bad(names[0], "this user may not talk to Docker", "sudo usermod -aG docker $USER, then log in again")
    else:
        engine = bad(names[0], f"Docker doesn't answer: {d['why'] or 'no reason given'}", "sudo systemctl start docker")
    compose = good(names[1], f"plugin {d['compose']}") if d["compose"] else bad(
        names[1], "the compose plugin is missing", "sudo apt-get install docker-compose-plugin")
    if d["nvidia"]:
        runtime = good(names[2], "Docker hands GPUs to containers")
    elif not d["engine"]:
        runtime = bad(names[2], "can't be seen without Docker", "mend the docker engine first")
    else:
        runtime = bad(names[2], "Docker doesn't know the NVIDIA runtime",
                      "install nvidia-container-toolkit, then sudo nvidia-ctk runtime configure --runtime=docker && "
                      "sudo systemctl restart docker")
    return [engine, compose, runtime]


# ---------------------------------------------------------------- the hub, the clock, the course

def hub_token(where: str) -> Check:
    if where:
        return good("hf token", f"present, {where}")
    return note("hf token", "none; only gated models need one", "hf auth login, or set HF_TOKEN")


def model_cache(c: dict) -> Check:
    size = ("" if c["complete"] else "at least ") + _gib(c["bytes"])
    if not c["writable"]:
        return bad("model cache", f"{c['path']} can't be written", "sudo chown -R $USER that folder (a container may "
                   "have made it), or set HF_HOME to a folder of yours")
    return good("model cache", f"{c['path']}, {size}")


def clock(offset: float | None | Trouble, synced: bool | None | Trouble, now: float | None = None) -> Check:
    now = time.time() if now is None else now
    fix = "sudo timedatectl set-ntp true"
    detail = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now))
    if time.gmtime(now).tm_year < EARLIEST_YEAR:
        return bad("clock", f"{detail}: that is before this course was made; downloads will fail", fix)
    if isinstance(offset, (int, float)):
        if abs(offset) > CLOCK_BAND:
            side = "ahead of" if offset > 0 else "behind"
            return bad("clock", f"{detail}: {abs(offset):.0f} s {side} the network's", fix)
        return good("clock", f"{detail}, agrees with the network's")
    if synced is True:
        return good("clock", f"{detail}, kept by NTP")
    if synced is False:
        return note("clock", f"{detail}, not kept by NTP", fix)
    return note("clock", f"{detail}; no network to compare it with")


def environment(p: dict) -> Check:
    wrong = [*p["wrong"], *(f"{name} is missing" for name in p["missing"])]
    if not wrong:
        return good("packages", f"all {p['count']} pins hold")
    more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
    return bad("packages", "; ".join(wrong[:4]) + more,
               "remove the folder .venv and run ./course check: it is made anew from the pins")


def work(w: dict) -> Check:
    if not w["writable"]:
        return bad("work folder", "work/ can't be written", "sudo chown -R $USER work, in the course's folder")
    if not w["laid"]:
        return note("work folder", "no lessons laid out yet", "./course lab does it")
    return good("work folder", f"{w['laid']} files laid out, {w['changed']} changed by you")


def _unknown(name: str, t: Trouble) -> Check:
    return note(name, f"could not be found out ({t.why})")


def verdicts(facts: dict[str, object]) -> tuple[str, list[Check]]:
    """(rung, checks in the order of the page)."""
    m = facts["machine"]
    if isinstance(m, Trouble):
        return "laptop", [bad("rung", f"this machine could not be looked at ({m.why})",
                              "run it again; if it stays, run nvidia-smi by hand: it may hang")]
    checks = [rung(m), gpu(m), memory(m), page_cache(m), swap(m)]

    def add(name: str, key: str, judge) -> None:
        fact = facts[key]
        result = _unknown(name, fact) if isinstance(fact, Trouble) else judge(fact)
        checks.extend(result if isinstance(result, list) else [result])

    add("disk", "disk", lambda f: disk(f, m))
    for number in PORTS:
        add(f"port {number}", f"port {number}", lambda p: port(p, m))
    d = facts["docker"]
    if isinstance(d, Trouble):
        d = {"installed": True, "engine": "", "why": d.why, "compose": "", "nvidia": False}
    checks += docker(d, m)
    add("hf token", "hub_token", hub_token)
    add("model cache", "model_cache", model_cache)
    checks.append(clock(facts["clock_offset"], facts["ntp"]))
    add("packages", "pins", environment)
    add("work folder", "work", work)
    return m.rung, checks
