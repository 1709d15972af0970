"""When requests are sent and what is in them: closed loop, open loop, conversations, nonces and seeds."""

import itertools
import json
import math
import statistics
import threading

import pytest
from bench_helpers import Guarded, good

from gb10.bench import pace, prompts
from gb10.bench.load import Load
from gb10.bench.requests import Requests
from gb10.bench.selftest import Truth
from gb10.bench.spec import Spec

ADDRESS = [(2, ("127.0.0.1", 9))]


@pytest.fixture(scope="module")
def worker():
    with Guarded() as w:
        yield w


def spec(**more):
    return Spec(**{"addresses": ADDRESS, "host": "x", "body": {"model": "m", "stream": True, "seed": 0}, "prompt": "Tell me."} | more)


def body(request: bytes) -> dict:
    head, _, data = request.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(data)}".encode() in head
    return json.loads(data)


def in_flight(rows):
    """The numbers of requests in flight at each start and end, in order."""
    moments = sorted([(r["send"], 1) for r in rows] + [(r["send"] + r["end"], -1) for r in rows])
    count, out = 0, []
    for _, step in moments:
        count += step
        out.append(count)
    return out


# ---------------------------------------------------------------- the closed loop


def test_a_closed_loop_keeps_c_in_flight(worker):
    with Truth(ttft=10, itl=2, tokens=8) as truth:
        done = worker.run(truth.spec(concurrency=5, todo=[(0, 40)], name="pace", asked=None))
        notes = truth.notes()
    rows = done["rows"]
    assert sorted(r["i"] for r in rows) == list(range(40)) and not done["errors"] and len(notes) == 40
    assert max(in_flight(rows)) == 5 and {r["slot"] for r in rows} == set(range(5))
    for slot in range(5):                                  # a slot's next request follows its last at once
        mine = sorted((r for r in rows if r["slot"] == slot), key=lambda r: r["send"])
        waits = [b["send"] - a["send"] - a["end"] for a, b in itertools.pairwise(mine)]
        assert min(waits) >= -1 and statistics.median(waits) < 15_000


def test_only_the_numbers_that_are_left_to_do_are_sent(worker):
    with Truth(ttft=2, itl=1, tokens=2) as truth:
        rows = worker.run(truth.spec(concurrency=3, todo=[(2, 4), (7, 8), (20, 23)], asked=None))["rows"]
    assert sorted(r["i"] for r in rows) == [2, 3, 7, 20, 21, 22]


def test_fewer_requests_than_slots(worker):
    with Truth(ttft=2, itl=1, tokens=2) as truth:
        assert len(worker.run(truth.spec(concurrency=8, todo=[(0, 3)], asked=None))["rows"]) == 3


def test_seconds_end_the_starting_and_not_what_is_in_flight(worker):
    with Truth(ttft=60, itl=1, tokens=2) as truth:
        rows = worker.run(truth.spec(concurrency=2, todo=[(0, 1 << 40)], seconds=0.5, asked=None))["rows"]
        assert 4 <= len(rows) <= 18 and all(r["send"] <= 500_000 and not r.get("err") for r in rows)
        rows = worker.run(truth.spec(concurrency=2, todo=[(0, 1 << 40)], seconds=0.01, least=6, asked=None))["rows"]
        assert 6 <= len(rows) <= 7
        rows = worker.run(truth.spec(concurrency=2, todo=[(0, 1 << 40)], seconds=0.2, turns=2, asked=None))["rows"]
        assert len(rows) % 2 == 0 and all(r["send"] <= 200_000 for r in rows if r["turn"] == 0)     # what has begun is brought to its end


# ---------------------------------------------------------------- the open loop


def times(**more):
    p = pace.Open([(0, 2000)], **{"rate": 50.0, "poisson": True, "seed": 3} | more)
    out = []
    while (due := p.due()) is not None:
        out.append(due / 1e9)
        p.take()
    return out


def test_poisson_arrivals_have_exponential_gaps_and_follow_from_the_seed():
    at = times()
    gaps = [b - a for a, b in itertools.pairwise(at)]
    assert at == times() != times(seed=4) and len(at) == 2000
    assert statistics.fmean(gaps) == pytest.approx(1 / 50, rel=0.08)
    assert statistics.pstdev(gaps) == pytest.approx(1 / 50, rel=0.1)       # an exponential's deviation is its mean
    for share in (0.1, 0.5, 0.9):                                          # and its quantiles are -log(1 - share) / rate
        assert sorted(gaps)[int(share * len(gaps))] == pytest.approx(-math.log(1 - share) / 50, rel=0.15)


def test_constant_arrivals_are_constant_and_seconds_end_them():
    at = times(poisson=False, seconds=2.0)
    assert at == pytest.approx([i / 50 for i in range(len(at))]) and len(at) == pytest.approx(101, abs=1)


def test_requests_go_out_by_the_clock(worker):
    with Truth(ttft=5, itl=1, tokens=4) as truth:
        rows = worker.run(truth.spec(rate=40.0, todo=[(0, 30)], concurrency=16, asked=None))["rows"]
    late = sorted(r["send"] - r["sched"] for r in rows)
    assert [r["sched"] for r in sorted(rows, key=lambda r: r["i"])] == pytest.approx([i * 25_000 for i in range(30)], abs=2)
    assert late[0] >= 0 and statistics.median(late) < 10_000


def test_what_finds_every_connection_taken_waits_and_its_response_time_says_so(worker):
    with Truth(ttft=80, itl=1, tokens=2) as truth:
        rows = worker.run(truth.spec(rate=50.0, todo=[(0, 12)], concurrency=2, asked=None))["rows"]
    assert max(in_flight(rows)) <= 2 and len(rows) == 12 and not any(r.get("err") for r in rows)
    last = max(rows, key=lambda r: r["i"])
    assert last["send"] - last["sched"] > 150_000 and last["ttft"] < 400_000      # it waited; the service time knows nothing of it


# ---------------------------------------------------------------- conversations


def test_a_conversation_grows_by_what_was_said():
    c = Requests(spec(turns=3, nonce=True)).conversation(7)
    first = body(c.request(0))["messages"]
    second = body(c.request(1, ["Once ", b"upon"]))["messages"]
    third = body(c.request(2, ["a time"]))["messages"]
    assert [m["role"] for m in third] == ["user", "assistant", "user", "assistant", "user"]
    assert second[:1] == first and third[:3] == second and second[1]["content"] == "Once upon" and third[3]["content"] == "a time"


def test_the_turns_of_a_conversation_follow_each_other(worker):
    with Truth(ttft=5, itl=1, tokens=4) as truth:
        rows = worker.run(truth.spec(concurrency=2, todo=[(0, 4)], turns=3, asked=None))["rows"]
    assert sorted(r["i"] for r in rows) == list(range(12))
    for conversation in range(4):
        mine = sorted((r for r in rows if r["i"] // 3 == conversation), key=lambda r: r["i"])
        assert [r["turn"] for r in mine] == [0, 1, 2] and len({r["slot"] for r in mine}) == 1
        assert all(b["send"] >= a["send"] + a["end"] - 1 for a, b in itertools.pairwise(mine))
        assert mine[0]["isl"] < mine[1]["isl"] < mine[2]["isl"]


def test_a_failed_turn_ends_its_conversation(worker):
    with Truth(ttft=5, itl=1, tokens=4, shape="busy") as truth:          # every fifth request is turned away
        rows = worker.run(truth.spec(concurrency=1, todo=[(0, 4)], turns=3, asked=None))["rows"]
    failed = [r for r in rows if r.get("err")]
    assert [r["err"] for r in failed] == ["http_503"] * len(failed) and failed
    for r in failed:
        assert not [other for other in rows if other["i"] // 3 == r["i"] // 3 and other["i"] > r["i"]]


# ---------------------------------------------------------------- what is asked


def test_every_prompt_begins_with_a_number_of_its_own():
    contents = []
    for cell in range(3):
        made = Requests(spec(salt=11, cell=cell))
        contents += [body(made.single(i))["messages"][0]["content"] for i in range(200)]
    beginnings = [c[:prompts.NONCE_DIGITS] for c in contents]
    assert len(set(beginnings)) == 600 and all(b.isdigit() for b in beginnings) and {len(c) for c in contents} == {len(contents[0])}
    other = body(Requests(spec(salt=12)).single(0))["messages"][0]["content"]          # another run, the same seed
    assert other[:prompts.NONCE_DIGITS] not in beginnings and other[prompts.NONCE_DIGITS:] == contents[0][prompts.NONCE_DIGITS:]


def test_warm_on_purpose_is_the_same_prompt_each_time():
    made = Requests(spec(nonce=False))
    assert {body(made.single(i))["messages"][0]["content"] for i in range(20)} == {"Tell me."}


def test_seeds_differ_by_request_and_follow_from_the_seed():
    one, again, other = (Requests(spec(seed=s, salt=9)) for s in (1, 1, 2))
    seeds = [body(one.single(i))["seed"] for i in range(100)]
    assert len(set(seeds)) == 100 and seeds == [body(again.single(i))["seed"] for i in range(100)]
    assert seeds != [body(other.single(i))["seed"] for i in range(100)]


def test_filler_follows_from_its_seed_and_has_the_words_asked_for():
    assert prompts.text(50, 1) == prompts.text(50, 1) != prompts.text(50, 2)
    assert len(prompts.text(50, 1, 3).split()) == len(prompts.OPENING.split()) + 53 and prompts.text(2, 1, 3).endswith(" a a a")
    assert len(set(prompts.WORDS)) == 256 and {len(w) for w in prompts.WORDS} == {5}


def test_the_completions_api_gets_a_prompt():
    asked = body(Requests(spec(api="completions", body={"model": "m"})).single(0))
    assert asked["prompt"].endswith(" Tell me.") and "messages" not in asked


def test_text_that_looks_like_a_placeholder_stays_text():
    prompt = "@@nonce@@ 987654321 @@request@@ \"quoted\" \\ ünï"
    made = Requests(spec(prompt=prompt))
    asked = body(made.single(3))
    assert asked["messages"][0]["content"].endswith(" " + prompt) and asked["seed"] != 987654321


def test_a_cell_in_this_process_does_the_same():
    """The load loop needs no process of its own; a notebook or a test can run it."""
    import socket

    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        sock, _ = listener.accept()
        while sock.recv(65536):
            sock.sendall(good(3))

    threading.Thread(target=serve, daemon=True).start()
    rows = []
    done = Load(spec(addresses=[(2, listener.getsockname())], todo=[(0, 3)]), rows.append).run()
    listener.close()
    assert done["done"] == 3 and [r["n"] for r in rows] == [3, 3, 3]
