"""What went on beside a group's requests: energy, memory, throttling; and how far the memory's limit was."""

from __future__ import annotations

from gb10.bench import telemetry
from gb10.bench.figures import Figures
from gb10.bench.journal import Run


def beside(run: Run, group: Figures) -> dict:
    """{"energy", "joules_per_token", "memory", "warnings"} of a group; empty where nothing was noted.

    Energy counts over the steady windows, as the tokens do that it is divided by (the whole stretch where there is none).
    """
    samples = [s for s in run.samples() if _is_sample(s)]
    spans = [(s.unix + a / 1e6, s.unix + b / 1e6) for s in group.segments
             for a, b in [s.bounds or (s.window.first, s.window.last)] if b is not None]
    if not samples or not spans:
        return {}
    total = next((g["memory_bytes"] for g in run.meta.get("machine", {}).get("gpus", ()) if g.get("memory_bytes")), None)
    idle = run.meta.get("idle_w")
    energies = [e for e in (telemetry.energy(samples, a, b, idle) for a, b in spans) if e and e["joules"] is not None]
    out: dict = {"memory": telemetry.memory(samples, spans[0][0], spans[-1][1]),
                 "warnings": telemetry.warnings(samples, spans[0][0], spans[-1][1], total)}
    tokens = group.window_tokens if group.steady_s else group.timeline.total
    if len(energies) == len(spans) and tokens:
        joules = sum(e["joules"] for e in energies)
        out["energy"] = {"joules": round(joules, 3), "mean_w": round(joules / sum(b - a for a, b in spans), 2), "source": energies[0]["source"]}
        out["joules_per_token"] = round(joules / tokens, 5)
        if idle is not None:
            out["joules_per_token_above_idle"] = round(sum(e["above_idle_joules"] for e in energies) / tokens, 5)
    return out


def _is_sample(row: dict) -> bool:
    """Is a line of telemetry what `gb10.bench.telemetry` writes?"""
    gpus = row.get("gpus", [])
    return isinstance(row.get("unix"), int | float) and isinstance(gpus, list) and all(isinstance(g, dict) for g in gpus) and \
        all(isinstance(row.get(k), int | float | None) for k in ("mem_total", "mem_available", "swap_used", "page_cache"))


def rooflines(run: Run, groups: list[Figures], machine: str | None = None, model: str | None = None) -> list[dict]:
    """The roofline line of every endpoint that was measured with one user.

    machine, model: names of the catalogue, where the server runs elsewhere or its model's name says nothing.
    """
    from gb10.bench import roof
    from gb10.bench.target import parse

    out = []
    for g in groups:
        if g.concurrency != 1 or g.rate is not None or not g.user_tps:
            continue
        endpoint = run.meta["endpoints"][g.endpoint]
        if machine is None and not parse(endpoint["url"]).loopback:
            line = {"text": "no roofline: the server runs on another machine; name it with --machine.", "share": None}
        else:
            context = (g.isl.percentile(50) or 0) + g.output / max(1, g.ok) / 2
            line = roof.line(model or endpoint["model"], g.user_tps, context, weights=run.meta.get("weights") or endpoint.get("quantization"),
                             machine=machine, engine=endpoint["engine"])
        out.append({"endpoint": g.endpoint} | line)
    return out
