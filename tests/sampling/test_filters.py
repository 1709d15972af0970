"""The filters one by one: ties, edges, and what each leaves alone."""

import math

import numpy as np
import pytest

from gb10 import sampling

ROW = [2.0, 1.0, 0.0, -1.0, 1.0]


def kept(row):
    return np.flatnonzero(np.isfinite(row)).tolist()


def test_softmax_and_entropy():
    assert sampling.softmax([1000.0, 1000.0]).tolist() == [0.5, 0.5]
    assert sampling.softmax([0.0, -math.inf]).tolist() == [1.0, 0.0]
    assert sampling.entropy([0.25] * 4) == 2.0
    assert sampling.entropy([1.0, 0.0]) == 0.0


def test_temperature():
    assert sampling.temperature(ROW, 2.0).tolist() == [1.0, 0.5, 0.0, -0.5, 0.5]
    assert kept(sampling.temperature([1.0, 3.0, 3.0], 0.0)) == [1]
    with pytest.raises(ValueError, match="at least 0"):
        sampling.temperature(ROW, -1)


@pytest.mark.parametrize(("k", "stay"), [(1, [0]), (2, [0, 1, 4]), (3, [0, 1, 4]), (4, [0, 1, 2, 4]), (0, [0, 1, 2, 3, 4]),
                                         (-1, [0, 1, 2, 3, 4]), (5, [0, 1, 2, 3, 4]), (99, [0, 1, 2, 3, 4])])
def test_top_k_keeps_ties(k, stay):
    assert kept(sampling.top_k(ROW, k)) == stay


def test_top_p():
    row = np.log([0.5, 0.3, 0.15, 0.05])
    assert kept(sampling.top_p(row, 0.5)) == [0]
    assert kept(sampling.top_p(row, 0.51)) == [0, 1]
    assert kept(sampling.top_p(row, 0.81)) == [0, 1, 2]
    assert kept(sampling.top_p(row, 1e-9)) == kept(sampling.top_p(row, 0.0)) == [0]
    assert kept(sampling.top_p(row, 1.0)) == [0, 1, 2, 3]
    assert kept(sampling.top_p(row[::-1], 0.51)) == [2, 3]


def test_min_p():
    row = np.log([0.5, 0.3, 0.15, 0.05])
    assert kept(sampling.min_p(row, 0.31)) == [0, 1]
    assert kept(sampling.min_p(row, 0.29)) == [0, 1, 2]
    assert kept(sampling.min_p(row, 1.0)) == [0]
    assert kept(sampling.min_p(row, 0.0)) == [0, 1, 2, 3]


def test_penalties():
    row = [2.0, -2.0, 3.0, 0.5]
    assert sampling.penalize(row, prompt=[0, 1], repetition=2.0).tolist() == [1.0, -4.0, 3.0, 0.5]
    assert sampling.penalize(row, output=[0, 0, 2], frequency=0.5, presence=1.0).tolist() == [0.0, -2.0, 1.5, 0.5]
    assert sampling.penalize(row, prompt=[0, 0, 2], frequency=0.5, presence=1.0).tolist() == row


@pytest.mark.parametrize("call", [lambda r: sampling.temperature(r, 0), lambda r: sampling.top_k(r, 2), lambda r: sampling.top_p(r, 0.5),
                                  lambda r: sampling.min_p(r, 0.5), lambda r: sampling.penalize(r, [0], [1], 2.0, 1.0, 1.0)])
def test_the_argument_is_left_alone(call):
    row = np.array(ROW)
    call(row)
    assert row.tolist() == ROW


def test_a_batch_is_refused():
    with pytest.raises(ValueError, match="one row"):
        sampling.top_k([ROW, ROW], 1)


def test_the_order_matters():
    row = np.log([0.5, 0.3, 0.15, 0.05])
    settings = sampling.Settings(temperature=3.0, top_p=0.79)
    survivors = {order: kept(np.where(sampling.steps(row, settings, order)[-1].kept, 0.0, -np.inf)) for order in sampling.ORDERS}
    assert survivors["vllm"] == survivors["ollama"] == [0, 1, 2]
    assert survivors["llamacpp"] == [0, 1]


def test_each_step_says_what_it_cut():
    row = np.log([0.5, 0.3, 0.15, 0.05])
    found = {s.name: s for s in sampling.steps(row, sampling.Settings(top_k=3, top_p=0.6))}
    assert list(found) == ["model", *sampling.ORDERS["vllm"].steps]
    assert found["top_k"].cut == pytest.approx(0.05)
    assert found["top_p"].cut == pytest.approx(0.15 / 0.95)
    assert found["top_p"].kept.tolist() == [True, True, False, False]
    assert found["top_p"].probs.sum() == pytest.approx(1)


def test_at_temperature_0_the_filters_do_not_count():
    row = [1.0, 3.0, 2.0]
    last = sampling.steps(row, sampling.Settings(temperature=0, top_k=2, min_p=0.5))[-1]
    assert last.name == "greedy"
    assert last.probs.tolist() == [0, 1, 0]
    assert sampling.distribution(row, sampling.Settings(temperature=0, frequency_penalty=2.0), output=[1]).tolist() == [0, 0, 1]


def test_settings_ask_for_what_is_not_neutral():
    assert sampling.Settings().request() == {"temperature": 1.0}
    assert sampling.Settings(0.7, top_k=5, presence_penalty=1.0).request() == {"temperature": 0.7, "top_k": 5, "presence_penalty": 1.0}


def test_an_unknown_engine():
    with pytest.raises(ValueError, match="vllm, sglang"):
        sampling.steps(ROW, sampling.Settings(), "lamma")


def test_every_order_has_its_source():
    for order in sampling.ORDERS.values():
        assert order.source.startswith("https://github.com/")
        assert set(order.steps) <= {"penalties", "temperature", "top_k", "top_p", "min_p"}


def test_a_small_temperature_is_raised_where_the_engine_raises_it():
    row = [1.0, 0.99]
    assert sampling.distribution(row, sampling.Settings(0.001), "vllm").tolist() == sampling.distribution(row, sampling.Settings(0.01), "vllm").tolist()
    assert sampling.distribution(row, sampling.Settings(0.001), "llamacpp")[0] > sampling.distribution(row, sampling.Settings(0.001), "vllm")[0]
    assert sampling.steps(row, sampling.Settings(1e-6), "vllm")[-1].name != "greedy"
    assert sampling.steps(row, sampling.Settings(0), "vllm")[-1].name == "greedy"


def test_sglang_takes_top_k_and_top_p_jointly_without_min_p():
    row = np.log([0.4, 0.3, 0.2, 0.1])
    # of three, the first two have 0.78 of the probability; of all, 0.7
    settings = sampling.Settings(top_k=3, top_p=0.75)
    assert sampling.steps(row, settings, "sglang")[-1].kept.tolist() == [True, True, True, False]
    assert sampling.steps(row, settings, "vllm")[-1].kept.tolist() == [True, True, False, False]
    assert sampling.steps(row, sampling.Settings(top_k=3, top_p=0.75, min_p=0.01), "sglang")[-1].kept.tolist() == [True, True, False, False]
