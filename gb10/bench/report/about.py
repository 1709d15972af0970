"""What was measured, in a title and a few sentences: engine, model, machine, date, workload."""

from __future__ import annotations

from gb10.bench.report.words import counted, engines, finite, plain, short, size, when


def title(meta: dict) -> str:
    """"vLLM, Qwen3-8B-NVFP4", or both engines of a comparison."""
    names, models = engines(meta), [short(e.get("model")) for e in meta.get("endpoints") or []]
    if not names:
        return "A run without an endpoint"
    if len(names) == 1:
        return f"{names[0]}, {models[0]}"
    if len(set(models)) == 1:
        return f"{' and '.join(names)}, {models[0]}"
    return " and ".join(n if m in n else f"{n}, {m}" for n, m in zip(names, models, strict=True))


def machine(meta: dict) -> str:
    """"NVIDIA GB10, 20 cores, 119.6 GiB, aarch64"; "" where nothing is known."""
    m = meta.get("machine")
    m = m if isinstance(m, dict) else {}
    gpus = [plain(g.get("name"), 60) for g in m.get("gpus") or [] if isinstance(g, dict) and g.get("name")]
    parts = []
    if gpus:
        same = len(set(gpus)) == 1 and len(gpus) > 1
        parts.append(f"{len(gpus)} × {gpus[0]}" if same else " + ".join(gpus))
    elif "gpus" in m:
        parts.append("no NVIDIA GPU")
    if finite(m.get("cores")):
        parts.append(counted(int(m["cores"]), "core"))
    if finite(m.get("memory_total_bytes")):
        parts.append(size(m["memory_total_bytes"]))
    if m.get("arch"):
        parts.append(plain(m["arch"], 40))
    return ", ".join(parts)


def workload(meta: dict) -> str:
    """The workload in a sentence or two."""
    w = meta.get("workload") or {}
    api = "Completions" if w.get("api") == "completions" else "Chat requests"
    first = f"{api} of {counted(w['prompt_tokens'], 'prompt token')}" if finite(w.get("prompt_tokens")) else \
        f"{api} with prompts of the benchmark's own length"
    if finite(w.get("max_tokens")):
        first += (", answers of exactly " if w.get("fixed_length") else ", answers of at most ") + \
            counted(w["max_tokens"], "token")
    if finite(w.get("turns")) and w["turns"] > 1:
        first += f", conversations of {w['turns']} turns"
    if finite(w.get("temperature")) is not None:
        first += f", temperature {w['temperature']:g}"
    out = [first + "."]
    if w.get("cold") is True:
        out.append("Every prompt begins differently, so that no prefix cache shortens it (cold).")
    elif w.get("cold") is False:
        out.append("Prompts repeat on purpose, so that the prefix cache is warm.")
    if isinstance(w.get("extra"), dict) and w["extra"]:
        out.append(f"Sent along: {plain(', '.join(f'{k}={v}' for k, v in w['extra'].items()), 200)}.")
    return " ".join(out)


def limits(slo) -> str:
    """"TTFT ≤ 500 ms, TPOT ≤ 50 ms"; "" without any."""
    slo = slo if isinstance(slo, dict) else {}
    return ", ".join(f"{plain(k, 10).upper()} ≤ {v:g} ms" for k, v in slo.items() if finite(v) is not None)


def facts(meta: dict) -> list[tuple[str, str]]:
    """(name, value) of the few lines under the title; what isn't known is left out."""
    return known([("Machine", machine(meta)), ("Date", when(meta.get("created"))),
                  ("Seat", plain(meta.get("label"), 60)), ("Limits", limits(meta.get("slo")))])


def method(meta: dict) -> list[tuple[str, str]]:
    """(name, value) lines of how it was measured: versions, fields, seed, stamps."""
    client = meta.get("client") if isinstance(meta.get("client"), dict) else {}
    programs = (("gb10", "gb10"), ("python", "Python"))
    versions = ", ".join(f"{word} {plain(client[key], 40)}" for key, word in programs if client.get(key))
    command = " ".join(map(str, meta["command"])) if isinstance(meta.get("command"), list) else ""
    out = [("Run", plain(meta.get("id"), 120)), ("Flags", plain(command, 500)), ("Client", versions),
           ("GPU driver", plain(meta.get("driver"), 40)),
           ("Arrivals dated by", plain(client.get("stamps"), 40))]
    endpoints = meta.get("endpoints") or []
    for name, e in zip(engines(meta), endpoints, strict=True):
        of = f" ({name})" if len(endpoints) > 1 else ""
        engine = " ".join(filter(None, (plain(e.get(k), 60) for k in ("engine", "version"))))
        out += [(f"Engine{of}", engine), (f"Image{of}", plain(e.get("image"), 200)),
                (f"Model{of}", plain(e.get("model"), 200)), (f"Address{of}", plain(e.get("url"), 200)),
                (f"Fields sent{of}", _list(e.get("fields"))),
                (f"Fields refused{of}", _list(e.get("rejected")))]
    cells = [c for c in meta.get("cells") or [] if isinstance(c, dict)]
    blocks = {c.get("block") for c in cells}
    out += [("Seed", plain(meta.get("seed"), 40)), ("Cells", f"{len(cells)}" if cells else ""),
            ("Blocks", f"{len(blocks)}, in turns" if len(endpoints) > 1 and len(blocks) > 1 else ""),
            ("Started", when(meta.get("created"))), ("Ended", when(meta.get("ended")))]
    return known(out)


def known(rows: list) -> list:
    """Without those that have an empty value."""
    return [row for row in rows if row[-1]]


def _list(names) -> str:
    return ", ".join(plain(name, 60) for name in names) if isinstance(names, list) else ""
