"""Published measurements: one row per test, doubtful ones marked with the reason."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache

from gb10.catalog.source import DATA, Source, Unsourced, read_json, source

# What the sources call the machines, formats and engines of the catalogue.
MACHINES = {"DGX Spark (GB10)": "gb10", "Jetson AGX Thor": "jetson-thor", "RTX 5090": "rtx-5090",
            "RTX PRO 6000 Blackwell": "rtx-pro-6000"}
_ENGINES = (("llama.cpp", "llama.cpp"), ("ollama", "ollama"), ("vllm", "vllm"), ("sglang", "sglang"),
            ("tensorrt-llm", "trtllm"), ("tensorrt edge", "edge-llm"))


@dataclass(frozen=True)
class Measurement:
    id: str
    machine: str                  # as in the source
    model: str
    format: str
    engine: str
    batch: int | None             # None: at saturation
    prompt: int | None            # tokens of the prefill test
    output: int | None            # generated tokens
    depth: int | None             # tokens already in the KV cache
    prefill_tps: float | None     # tokens/s, sum over the batch
    decode_tps: float | None      # tokens/s, sum over the batch
    params_active: float | None   # active parameters as the source or its authors quote them
    weights_bytes: float | None   # size of the weight file
    date: str
    source: Source
    doubtful: str                 # "" = usable; else the kind of doubt
    reason: str                   # why it is doubtful, in a sentence
    spoils: tuple[str, ...]       # the columns that the doubt concerns
    note: str

    @property
    def engine_name(self) -> str:
        """The engine family: llama.cpp, ollama, vllm, sglang, trtllm, edge-llm."""
        low = self.engine.lower()
        return next((name for text, name in _ENGINES if low.startswith(text)), low)

    @property
    def machine_name(self) -> str | None:
        """The machine's name in the catalogue; None for several of them, or one that isn't there."""
        return MACHINES.get(self.machine)

    @property
    def weights(self) -> str | None:
        """The checkpoint format's name in the catalogue; None where it isn't known."""
        text = self.format.lower()
        if "mxfp4" in text:
            return "gguf-mxfp4" if text.startswith("gguf") or self.engine_name == "llama.cpp" else "mxfp4"
        table = {"gguf q8_0": "q8_0", "gguf q4_k_m": "q4_k_m", "gguf q4_0": "q4_0", "nvfp4": "nvfp4", "fp8": "fp8",
                 "bf16": "bf16"}
        return table.get(text)

    def usable(self, column: str) -> bool:
        """Is there a value in this column that nothing speaks against?"""
        return getattr(self, column) is not None and column not in self.spoils


def _number(text: str, kind=float):
    return kind(text) if text not in ("", "max") else None


def build(row: dict, doubts: dict) -> Measurement:
    """One row of the file; refuses it without a source, without a value, or with a doubt that isn't explained."""
    of = f"measurement {row['id']}"
    doubt = row["doubtful"]
    if doubt and doubt not in doubts:
        raise Unsourced(f"{of} is marked '{doubt}', which data/doubts.json doesn't explain")
    if not row["prefill_tps"] and not row["decode_tps"]:
        raise Unsourced(f"{of} measures nothing")
    why = doubts.get(doubt, {"reason": "", "spoils": ()})
    size, active = _number(row["weights_gb"]), _number(row["params_active_b"])
    return Measurement(
        row["id"], row["machine"], row["model"], row["format"], row["engine"], _number(row["batch"], int),
        _number(row["isl"], int), _number(row["osl"], int), _number(row["depth"], int), _number(row["prefill_tps"]),
        _number(row["decode_tps"]), active * 1e9 if active else None, size * 1e9 if size else None, row["date"],
        source(row.get("source"), of), doubt, why["reason"], tuple(why["spoils"]), row["note"])


@cache
def measurements() -> tuple[Measurement, ...]:
    """All of them, in the order of the file."""
    doubts = read_json("doubts.json")
    with open(DATA / "measurements.csv", encoding="utf-8", newline="") as f:
        return tuple(build(row, doubts) for row in csv.DictReader(f))
