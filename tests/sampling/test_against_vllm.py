"""The filters against vLLM's own code, loaded from its environment: which tokens survive, and with what logits."""

import json
import os
import subprocess

import numpy as np
import pytest

from gb10 import sampling
from gb10.engines import vllm_env

ROWS = 60
# Runs in vLLM's Python: its own functions on the rows of the file, answers beside it.
PROBE = """
import json, sys
import numpy as np, torch
from vllm.model_executor.layers.utils import apply_penalties
from vllm.v1.sample.logits_processor.builtin import MinPLogitsProcessor
from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p_pytorch
from vllm.v1.sample.sampler import Sampler

data = np.load(sys.argv[1])
cases = json.loads(sys.argv[2])
out = {}
for i, c in enumerate(cases):
    row = torch.from_numpy(data["logits"][i:i + 1].copy())
    V = row.shape[1]
    prompt, output = (torch.tensor([c[name] + [V]]) for name in ("prompt", "output"))      # V is vLLM's padding
    row = apply_penalties(row, prompt, output, *(torch.tensor([c[n]]) for n in ("presence", "frequency", "repetition")))
    row = Sampler.apply_temperature(row, torch.tensor([c["temperature"]]), all_random=True)
    least = MinPLogitsProcessor.__new__(MinPLogitsProcessor)
    least.min_p_count, least.min_p = 1, torch.tensor([[c["min_p"]]])
    row = least.apply(row)
    k, p = c["top_k"], c["top_p"]
    row = apply_top_k_top_p_pytorch(row, torch.tensor([k]) if k else None, torch.tensor([p]) if p < 1 else None, allow_cpu_sync=True)
    out[str(i)] = row[0].numpy()
np.savez(sys.argv[3], **out)
"""


@pytest.fixture(scope="module")
def vllm_python():
    if reason := vllm_env.why_not():
        pytest.skip(f"vLLM's own filters are not here to compare with: {reason}")
    return vllm_env.ensure()


def cases(rng, vocabulary):
    for i in range(ROWS):
        some = lambda n: [int(t) for t in rng.integers(0, vocabulary, n)]
        yield {"prompt": some(5), "output": some(4) * int(rng.integers(1, 4)),
               "presence": float(rng.choice([0, 0.5, -1])), "frequency": float(rng.choice([0, 0.7, -0.4])),
               "repetition": float(rng.choice([1, 1.3, 0.8])), "temperature": float(rng.choice([0.3, 0.7, 1, 2])),
               "min_p": float(rng.choice([0, 0.05, 0.4, 1])), "top_k": int(rng.choice([0, 1, 7, 40, vocabulary])),
               "top_p": float(rng.choice([1, 0.95, 0.5, 0.01])), "ties": i % 3 == 0}


def test_the_same_tokens_survive_with_the_same_logits(vllm_python, tmp_path):
    rng = np.random.default_rng(5)
    vocabulary = 300
    asked = list(cases(rng, vocabulary))
    logits = rng.normal(0, 3, (ROWS, vocabulary)).astype(np.float32)
    for row, case in zip(logits, asked, strict=True):
        if case["ties"]:
            row[:] = np.round(row)                   # many equal logits: the k-th has company
            case["top_p"] = 1.0                      # which of equals top_p takes depends on a sort, in vLLM too
    np.savez(tmp_path / "in.npz", logits=logits)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"VLLM_TARGET_DEVICE": "cpu", "TORCHDYNAMO_DISABLE": "1"}
    done = subprocess.run([vllm_python, "-c", PROBE, tmp_path / "in.npz", json.dumps(asked), tmp_path / "out.npz"], check=False,
                          capture_output=True, text=True, timeout=240, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = np.load(tmp_path / "out.npz")
    for i, case in enumerate(asked):
        settings = sampling.Settings(case["temperature"], case["top_k"], case["top_p"], case["min_p"], case["repetition"],
                                     case["presence"], case["frequency"])
        ours = sampling.steps(logits[i], settings, "vllm", case["prompt"], case["output"])[-1]
        kept = np.isfinite(theirs[str(i)])
        # One token at the very edge of top_p may fall either way: FP32 sums there, FP64 here.
        differ = np.flatnonzero(ours.kept != kept)
        assert len(differ) == 0 or (len(differ) == 1 and _at_the_edge(logits[i], settings, case, differ[0])), (case, differ)
        if not len(differ):
            np.testing.assert_allclose(ours.probs[kept], sampling.softmax(theirs[str(i)])[kept], rtol=2e-5)


def _at_the_edge(row, settings, case, token):
    """Whether the mass before this token lies within FP32's error of top_p."""
    from dataclasses import replace

    before = sampling.steps(row, replace(settings, top_p=1.0), "vllm", case["prompt"], case["output"])[-1].probs
    likelier = before[before > before[token]].sum()
    return abs(likelier - settings.top_p) < 1e-6


def test_the_comparison_can_fail():
    """Another order gives other survivors on rows such as these."""
    row = np.random.default_rng(1).normal(0, 3, 300)
    settings = sampling.Settings(temperature=2.0, top_p=0.9)
    ours, other = (sampling.steps(row, settings, order)[-1].kept for order in ("vllm", "llamacpp"))
    assert ours.sum() > other.sum()


