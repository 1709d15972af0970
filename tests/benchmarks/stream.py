"""How fast is weight-only NVFP4 as a stream, beside the codec in memory and plain copying? Prints one table.

    python tests/benchmarks/stream.py [--gb 16] [--folder DIR] [--rounds 3] [--json]

Makes a checkpoint in BF16 with the shapes of Qwen3-8B (36 layers are 16.4 GB; --gb takes as many layers as fit, at least
one), several GB in DIR, and removes it afterwards. Then, in turns:

    codec        NVFP4.quantize of one layer's gate_proj and up_proj, in memory already: GB/s of BF16 that go in
    stream       `./course quantize` as a process of its own, from the command to its end, files in the page cache
    within it    the same run without the start of Python: what the command itself reports
    copy         dd of as many bytes as the stream writes, to the same folder
    durable      the stream with --durable: until the disk has everything

and the peak resident memory of the stream's process. 1 GB = 10^9 bytes. The median of the rounds is shown, and the range.
A disk that is slower than the codec shows in "copy" and "durable"; DIR in memory (/dev/shm) shows the code alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM, VOCABULARY, LAYERS = 4096, 12288, 32, 8, 128, 151936, 36       # Qwen3-8B
CONFIG = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": HIDDEN, "intermediate_size": FFN,
          "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM, "vocab_size": VOCABULARY,
          "torch_dtype": "bfloat16", "tie_word_embeddings": False, "max_position_embeddings": 40960, "rms_norm_eps": 1e-6}
SHARD = 5_000_000_000


def shapes(layers: int):
    """(name, shape) of every tensor, in the order of the layers."""
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for i in range(layers):
        at = f"model.layers.{i}."
        yield at + "input_layernorm.weight", (HIDDEN,)
        yield at + "post_attention_layernorm.weight", (HIDDEN,)
        for name, n in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            yield f"{at}self_attn.{name}_proj.weight", (n * HEAD_DIM, HIDDEN)
        yield at + "self_attn.o_proj.weight", (HIDDEN, HEADS * HEAD_DIM)
        yield at + "self_attn.q_norm.weight", (HEAD_DIM,)
        yield at + "self_attn.k_norm.weight", (HEAD_DIM,)
        yield at + "mlp.gate_proj.weight", (FFN, HIDDEN)
        yield at + "mlp.up_proj.weight", (FFN, HIDDEN)
        yield at + "mlp.down_proj.weight", (HIDDEN, FFN)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


def make(folder: Path, layers: int) -> int:
    """Write the checkpoint; returns its bytes. Gaussian weights, of which a stretch is repeated."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": layers}))
    noise = np.random.default_rng(0).standard_normal((1 << 23) + 4096, np.float32) * 0.02
    noise = (noise.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    files, size = [[]], 0
    for name, shape in shapes(layers):
        n = 2 * int(np.prod(shape))
        if size + n > SHARD and files[-1]:
            files.append([])
            size = 0
        files[-1].append((name, shape, n))
        size += n
    places, total = {}, 0
    for i, tensors in enumerate(files, 1):
        file = f"model-{i:05d}-of-{len(files):05d}.safetensors"
        header, at = {}, 0
        for name, shape, n in tensors:
            header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + n]}
            places[name], at = file, at + n
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(folder / file, "wb") as f:
            f.write(len(text).to_bytes(8, "little") + text)
            for j, (_, _, n) in enumerate(tensors):
                left, start = n, 2 * (j % 4096)
                while left:
                    part = noise[start:start + min(left, 1 << 24)]
                    f.write(part.data)
                    left -= len(part)
        total += at
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": places}))
    return total


def codec() -> float:
    """Bytes/s of NVFP4.quantize, all cores, BF16 in memory."""
    import torch

    from gb10.formats import NVFP4

    x = (torch.randn(2 * FFN, HIDDEN, generator=torch.Generator().manual_seed(0)) * 0.02).bfloat16()
    NVFP4.quantize(x)
    started, n = time.perf_counter(), 0
    while time.perf_counter() - started < 2:
        NVFP4.quantize(x)
        n += 1
    return n * x.nbytes / (time.perf_counter() - started)


def stream(model: Path, out: Path, *flags: str) -> dict:
    """One run of the command: seconds from outside, its own report, its peak memory."""
    shutil.rmtree(out, ignore_errors=True)
    os.sync()                                    # what was written before is not to be waited for in this run
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "gb10", "quantize", str(model), str(out), "--recipe", "w4a16", "--json",
                           *flags], check=False, capture_output=True, text=True, cwd=ROOT,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"stream.py: the command failed:\n{done.stderr}")
    written = sum(f.stat().st_size for f in out.iterdir())
    return {"seconds": seconds, "written": written, **json.loads(done.stdout)}


def copy(n: int, folder: Path) -> float:
    """Bytes/s of writing n bytes that are in memory."""
    path = folder / "copy"
    os.sync()
    started = time.perf_counter()
    block = memoryview(bytes(1 << 20))
    with open(path, "wb", buffering=0) as f:
        f.writelines(block for _ in range(n >> 20))
    seconds = time.perf_counter() - started
    path.unlink()
    return (n >> 20 << 20) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--gb", type=float, default=16.4, help="size of the checkpoint (default: 16.4, all 36 layers)")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where it is made")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    one_layer = 2 * sum(int(np.prod(s)) for n, s in shapes(1) if ".layers." in n)
    ends = 2 * sum(int(np.prod(s)) for n, s in shapes(0))
    layers = max(1, min(LAYERS, round((args.gb * 1e9 - ends) / one_layer)))
    work = Path(tempfile.mkdtemp(prefix="gb10-stream-", dir=args.folder))
    rows: dict[str, list[float]] = {}
    try:
        size = make(work / "model", layers)
        runs = []
        for _ in range(args.rounds):
            rows.setdefault("codec", []).append(codec())
            run = stream(work / "model", work / "out")
            runs.append(run)
            rows.setdefault("stream", []).append(size / run["seconds"])
            rows.setdefault("within it", []).append(size / run["took_s"])
            shutil.rmtree(work / "out")
            rows.setdefault("copy", []).append(copy(run["written"], work))
            rows.setdefault("durable", []).append(size / stream(work / "model", work / "out", "--durable")["seconds"])
            shutil.rmtree(work / "out")
        codec_speed = statistics.median(rows["codec"])
        table = {name: {"GB/s": statistics.median(v) / 1e9, "low": min(v) / 1e9, "high": max(v) / 1e9,
                        "of the codec": statistics.median(v) / codec_speed if name != "copy" else None}
                 for name, v in rows.items()}
        peak = max(r["peak_rss_bytes"] for r in runs)
        if args.json:
            print(json.dumps({"bytes": size, "written": runs[0]["written"], "peak_rss": peak, "rows": table}))
            return
        print(f"{size / 1e9:.2f} GB in BF16 ({layers} layers), {runs[0]['written'] / 1e9:.2f} GB written, in {args.folder}; "
              f"{os.cpu_count()} cores, {args.rounds} rounds")
        for name, row in table.items():
            share = f"{row['of the codec']:6.0%} of the codec" if row["of the codec"] is not None else "      (bytes written)"
            print(f"{name:<10}{row['GB/s']:6.2f} GB/s  ({row['low']:.2f} to {row['high']:.2f}){share}")
        print(f"peak memory of the stream: {peak / 1e6:.0f} MB")
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
