"""The efficiency audit: the claim's outcomes on servers of known truth, what makes two runs incomparable, whom it picks."""

import copy
import random
from types import SimpleNamespace

import pytest

from gb10 import bench
from gb10.bench.compare import interval
from gb10.bench.selftest import Truth
from gb10.explore import audit, audit_sides
from gb10.explore.audit import CONFIRMED, NOT_COMPARABLE, NOT_SHOWN, REFUTED, Claim

# ---------------------------------------------------------------- against servers of known truth


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Three servers: 60, 40 and 40 ms to the first token, the third with tokens three times as slow (a busy machine adds some
    milliseconds to all of them)."""
    folder = str(tmp_path_factory.mktemp("runs"))
    with Truth(ttft=60, itl=6, tokens=6) as a, Truth(ttft=40, itl=6, tokens=6) as b, Truth(ttft=40, itl=18, tokens=6) as c:
        return bench.measure([a.url, b.url, c.url], requests=18, max_tokens=6, results=folder)


def test_a_server_that_is_faster_confirms_the_claim_and_refutes_the_opposite(results):
    found = audit.verdict(results, Claim(faster=1, slower=0, least=1.1))
    assert found.outcome == CONFIRMED and found.low < 1.5 < found.high + 0.1 and found.ratio == pytest.approx(1.5, rel=0.1)
    back = audit.verdict(results, Claim(faster=0, slower=1, least=1.1))
    assert back.outcome == REFUTED and "It is slower" in back.text and back.ratio == pytest.approx(1 / found.ratio)
    assert (back.low, back.high) == pytest.approx((1 / found.high, 1 / found.low))


def test_equal_servers_refute_it_and_a_claim_at_the_truth_is_not_shown(results):
    assert audit.verdict(results, Claim(faster=2, slower=1, least=1.3)).outcome == REFUTED
    truth = audit.verdict(results, Claim(faster=1, slower=0, least=1.1)).ratio
    found = audit.verdict(results, Claim(faster=1, slower=0, least=truth))
    assert found.outcome == NOT_SHOWN and "more blocks" in found.text


def test_the_metric_decides(results):
    """The third server is as soon with its first token as the second, and a third as fast with the others."""
    assert audit.verdict(results, Claim(faster=1, slower=2, metric=audit.SPEED, least=1.5)).outcome == CONFIRMED
    assert audit.verdict(results, Claim(faster=1, slower=2, metric=audit.WHOLE)).outcome == CONFIRMED
    assert audit.verdict(results, Claim(faster=2, slower=1, metric=audit.SPEED)).outcome == REFUTED


def test_faster_by_less_than_asked_is_refuted_and_says_so():
    found = audit.judge(Claim(1, 0, least=1.1), 1.03, 1.05, 1.07)
    assert found.outcome == REFUTED and "It is faster, by less than that" in found.text
    assert audit.judge(Claim(1, 0, least=1.1), 0.97, 1.0, 1.03).text.endswith("asked was 1.10 at least.")
    assert audit.judge(Claim(1, 0, least=1.1), 1.1, 1.2, 1.3).outcome == CONFIRMED      # the limit itself is enough
    assert audit.judge(Claim(1, 0, least=1.1), 1.0, 1.05, 1.1).outcome == NOT_SHOWN
    assert "0.0087 times as fast" in audit.judge(Claim(1, 0), 0.0052, 0.0087, 0.0147).text


def test_equal_engines_are_seldom_confirmed():
    """Six pairs of equal engines, drawn 400 times: the judge names a winner in no more than the few per cent it may."""
    rng, wrong = random.Random(0), 0
    for n in range(400):
        low, middle, high = interval([rng.gauss(0, 0.1) for _ in range(6)], seed=n)
        wrong += audit.judge(Claim(1, 0, least=1.0), 1 + low, 1 + middle, 1 + high).outcome == CONFIRMED
    assert wrong <= 20


# ---------------------------------------------------------------- traps: not the same work

def test_an_answer_that_ends_early_is_no_victory(tmp_path):
    with Truth(ttft=20, itl=5, tokens=8) as a, Truth(ttft=20, itl=5, tokens=8, short=4) as b:
        run = bench.measure([a.url, b.url], requests=6, max_tokens=8, any_length=True, results=str(tmp_path))
        fixed = bench.measure([a.url, b.url], requests=6, max_tokens=8, results=str(tmp_path))
    found = audit.verdict(run, Claim(1, 0, metric=audit.WHOLE))
    assert found.outcome == NOT_COMPARABLE and "the answers had 4.0 and 8.0 tokens" in found.text and not found.ratio
    assert audit.verdict(fixed, Claim(1, 0, metric=audit.WHOLE)).outcome != NOT_COMPARABLE       # with the length asked for


def test_a_server_that_answers_no_request_is_not_compared(tmp_path):
    with Truth(ttft=5, itl=1, tokens=4) as a, Truth(ttft=5, itl=1, tokens=4, shape="dropped") as b:
        run = bench.measure([a.url, b.url], requests=6, max_tokens=4, results=str(tmp_path))
    found = audit.verdict(run, Claim(0, 1))
    assert found.outcome == NOT_COMPARABLE and "no request of the second came to its end" in found.text


TRAPS = {
    "prompt": (lambda r: r["input_tokens"].update(p50=r["input_tokens"]["p50"] * 1.2), "the prompts had"),
    "no count": (lambda r: r.update(input_tokens=None), "doesn't say how many tokens"),
    "cache": (lambda r: r.update(cached_tokens=int(r["ok"] * r["input_tokens"]["p50"] * 0.9)), "came from a cache"),
    "length": (lambda r: r.update(output_tokens=r["output_tokens"] - r["ok"]), "the answers had"),
    "errors": (lambda r: r.update(errors={"stalled": 2}), "2 requests of the second failed"),
    "short": (lambda r: r.update(errors={"short": 1}), "1 requests of the second failed or ended early"),
    "load": (lambda r: r.update(concurrency=4), "were in flight"),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_each_trap_is_found(results, trap):
    spoil, said = TRAPS[trap]
    a, b = copy.deepcopy(results.rows[:2])
    assert audit.differences(a, b) == []
    spoil(b)
    assert any(said in sentence for sentence in audit.differences(a, b)), audit.differences(a, b)


@pytest.mark.parametrize("harmless", [lambda r: r["input_tokens"].update(p50=r["input_tokens"]["p50"] * 1.04),
                                      lambda r: r.update(cached_tokens=3 * r["ok"])])
def test_a_few_tokens_of_a_template_are_no_other_work(results, harmless):
    a, b = copy.deepcopy(results.rows[:2])
    harmless(b)
    assert audit.differences(a, b) == []


def test_a_late_client_is_told_with_the_verdict(results):
    busy = SimpleNamespace(rows=copy.deepcopy(results.rows), comparison=results.comparison)
    for row in busy.rows:
        row["times_doubtful"] = True
    assert "the machine is busy" in audit.verdict(busy, Claim(1, 0)).text
    quiet = SimpleNamespace(rows=[r | {"times_doubtful": False} for r in results.rows], comparison=results.comparison)
    assert "busy" not in audit.verdict(quiet, Claim(1, 0)).text


def test_sides_that_were_not_measured_are_refused(results):
    assert audit.verdict(results, Claim(7, 0)).outcome == NOT_COMPARABLE
    assert audit.verdict(SimpleNamespace(rows=results.rows, comparison=[]), Claim(1, 0)).outcome == NOT_COMPARABLE
    for wrong in ({"faster": 1, "slower": 1}, {"faster": 1, "slower": 0, "least": 0.9}):
        with pytest.raises(ValueError, match="two different sides"):
            Claim(**wrong)


# ---------------------------------------------------------------- in turns; pictures

@pytest.mark.parametrize("seed", range(5))
def test_turns_cancel_a_drift_and_one_after_the_other_does_not(seed):
    after, turns = (audit.drifting(order, warmer=0.02, seed=seed) for order in ("AAAAAABBBBBB", "ABBAABBAABBA"))
    assert audit.paired_ratio(after) > 1.08 and abs(audit.paired_ratio(turns) - 1) < 0.02
    assert audit.paired_ratio(audit.drifting("ABBAABBAABBA", slower=0.1, seed=seed)) == pytest.approx(1.1, rel=0.02)
    assert audit.median_ratio(audit.drifting("AABB", warmer=0, noise=0, slower=0.25)) == 1.25


def test_an_order_is_made_of_a_and_b():
    for wrong in ("", "ABC"):
        with pytest.raises(ValueError, match="letters A and B"):
            audit.drifting(wrong)


def test_the_picture_shows_what_was_judged(results):
    findings = {"first token": audit.verdict(results, Claim(1, 0)), "nobody": audit.verdict(results, Claim(7, 0))}
    picture = audit.show(findings, 1.1)
    assert picture.png.startswith(b"\x89PNG") and "confirmed" in picture.alt and "nobody: not comparable" in picture.alt
    axes = audit.draw(findings, 1.1).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["first token"]
    assert audit.show({"nobody": findings["nobody"]}, 1.1).startswith("Nothing was judged")


def test_bits_per_weight():
    assert audit.bits_per_weight(4_500, 8_000) == 4.5


# ---------------------------------------------------------------- whom

def engine(name, *models):
    return {"engine": name, "url": f"http://127.0.0.1:1/{name}", "models": list(models)}


@pytest.mark.parametrize(("found", "pair"), [
    ([engine("TensorRT-LLM", "nvidia/Qwen3-8B-FP4"), engine("Ollama", "llama3.2:3b", "qwen3:8b")], ("qwen3:8b", "nvidia/Qwen3-8B-FP4")),
    ([engine("vLLM", "nvidia/Llama-3.1-8B-Instruct-NVFP4"), engine("Ollama", "llama3.1:8b")],
     ("llama3.1:8b", "nvidia/Llama-3.1-8B-Instruct-NVFP4")),
    ([engine("vLLM", "nvidia/Qwen3-8B-NVFP4"), engine("llama.cpp", "Qwen3-8B-Q4_K_M")], ("Qwen3-8B-Q4_K_M", "nvidia/Qwen3-8B-NVFP4")),
    ([engine("vLLM", "nvidia/Qwen3-14B-NVFP4"), engine("Ollama", "qwen3:8b")], None),          # another size
    ([engine("vLLM", "Qwen/Qwen3-8B"), engine("Ollama", "qwen3:8b")], None),                   # in BF16
    ([engine("vLLM", "nvidia/Qwen3-8B-NVFP4")], None),
    ([engine("vLLM on the CPU", "pico-nvfp4"), engine("Ollama", "pico")], None),               # the course's own, on the CPU
    ([], None),
])
def test_two_servers_of_the_same_model_are_picked(found, pair):
    sides = audit_sides.pick(found)
    assert (sides and tuple(s.model for s in sides)) == pair
    if sides:
        assert [s.format for s in sides] == ["Q4_K_M", "NVFP4"] and sides[0].title == f"Q4_K_M in {sides[0].engine}"


def test_the_format_of_a_tag_is_told():
    found = [engine("TensorRT-LLM", "nvidia/Qwen3-8B-FP4"), engine("Ollama", "qwen3:8b-q8_0")]
    assert audit_sides.pick(found)[0].format == "Q8_0"


def test_the_names_of_one_model():
    same = ("qwen3:8b", "Qwen3-8B", "nvidia/Qwen3-8B-NVFP4", "nvidia/Qwen3-8B-FP4", "qwen3:8b-q4_K_M")
    assert len({audit_sides.base(n) for n in same}) == 1
    assert len({audit_sides.base(n) for n in ("qwen3:8b", "qwen3:14b", "qwen2.5:8b", "llama3.1:8b", "qwen3-coder:8b")}) == 5
    assert audit_sides.is_nvfp4("x-NVFP4") and audit_sides.is_nvfp4("Qwen3-8B-FP4") and not audit_sides.is_nvfp4("Qwen3-8B-MXFP4")


def test_a_stand_in_pair_can_be_measured_as_on_a_spark(tmp_path):
    """The Spark's path with servers of known truth that call themselves what Ollama and vLLM would."""
    from gb10.engines.find import running

    with Truth(ttft=30, itl=5, tokens=4, owner="library", model="qwen3:8b") as a, \
            Truth(ttft=20, itl=5, tokens=4, owner="vllm", model="nvidia/Qwen3-8B-NVFP4") as b:
        sides = audit_sides.pick(running((("Ollama", a.url), ("vLLM", b.url)), timeout=5))
        assert [s.url for s in sides] == [a.url, b.url]
        run = bench.measure([s.url for s in sides], model=[s.model for s in sides], requests=12, max_tokens=4, results=str(tmp_path))
    assert audit.verdict(run, Claim(faster=1, slower=0)).outcome == CONFIRMED
