"""What an engine's metrics page says, in the words of each engine; watching it while it works."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gb10.engines import gauges
from gb10.explore import filling

VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
vllm:num_requests_running{engine="0",model_name="pico"} 3.0
vllm:num_requests_running{engine="1",model_name="pico"} 2.0
vllm:num_requests_waiting{engine="0",model_name="pico"} 7.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="pico",reason="capacity"} 7.0
vllm:kv_cache_usage_perc{engine="0",model_name="pico"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="pico"} 0.75
vllm:prefix_cache_queries_total{engine="0",model_name="pico"} 54825.0
vllm:prefix_cache_queries_created{engine="0",model_name="pico"} 1.79e+09
vllm:prefix_cache_hits_total{engine="0",model_name="pico"} 15360.0
vllm:num_preemptions_total{engine="0",model_name="pico"} 1.0
vllm:generation_tokens_total{engine="0",model_name="pico"} 4.352e+03
vllm:cache_config_info{block_size="128",kv_cache_size_tokens="174720",num_gpu_blocks="1365"} 1.0
"""


class Page(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path not in self.server.pages:
            self.send_error(404)
            return
        kind, text = self.server.pages[self.path]
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write((text() if callable(text) else text).encode())


@pytest.fixture
def pages():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.pages = {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.pages, f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_vllms_page():
    g = gauges.parse(VLLM)
    assert g == gauges.Gauges(running=5, waiting=7, kv_used=0.75, hits=15360, queries=54825, preempted=1, tokens=4352, capacity=174720, block=128)
    assert gauges.unsaid(g) == []


def test_an_older_vllm_tells_blocks_only():
    g = gauges.parse('vllm:gpu_cache_usage_perc 0.5\nvllm:cache_config_info{block_size="16",num_gpu_blocks="1000",num_cpu_blocks="None"} 1.0')
    assert (g.kv_used, g.capacity, g.block) == (0.5, 16000, 16)


def test_the_words_of_others():
    sglang = gauges.parse('sglang:num_running_reqs{a="b"} 4\nsglang:num_queue_reqs 2\nsglang:token_usage 0.28\nsglang:cached_tokens_total{cache_source="device"} 30\n'
                          'sglang:cached_tokens_total{cache_source="host"} 10\nsglang:prompt_tokens_total 80\nsglang:max_total_num_tokens 5000')
    assert (sglang.running, sglang.waiting, sglang.kv_used, sglang.hits, sglang.queries, sglang.capacity) == (4, 2, 0.28, 40, 80, 5000)
    trt = gauges.parse("trtllm_kv_cache_utilization 0.4\ntrtllm_kv_cache_reused_blocks_total 6\ntrtllm_kv_cache_missed_blocks_total 2")
    assert (trt.kv_used, trt.hits, trt.queries, trt.running) == (0.4, 6, 8, None)
    llama = gauges.parse("llamacpp:requests_processing 1\nllamacpp:requests_deferred 3")
    assert (llama.running, llama.waiting) == (1, 3) and "kv_used" in gauges.unsaid(llama)


@pytest.mark.parametrize("text", ["", "# nothing", "python_info 1.0", "<html>no</html>", "vllm:num_requests_running many"])
def test_a_page_without_them_is_none(text):
    assert gauges.parse(text) is None


def test_counters_are_differences_and_states_are_not():
    before, after = gauges.Gauges(running=5, hits=10, queries=20), gauges.Gauges(running=1, hits=15, queries=40, tokens=7)
    assert after.since(before) == gauges.Gauges(running=1, hits=5, queries=20, tokens=7)


def test_where_the_page_is(pages):
    served, url = pages
    assert gauges.read(url) is None
    served["/v1/metrics"] = ("text/plain", "vllm:num_requests_running 1")
    assert gauges.read(url).running == 1
    served["/prometheus/metrics"] = ("text/plain", "trtllm_num_requests_running 2")
    served["/metrics"] = ("application/json", "[]")              # TensorRT-LLM's other page
    assert gauges.read(url).running == 2
    assert gauges.read("http://127.0.0.1:9/v1") is None


def test_watching_an_engine_fill(pages):
    served, url = pages
    start, steps = time.perf_counter(), iter(range(1000))
    served["/metrics"] = ("text/plain", lambda: f"vllm:num_requests_running {min(8, next(steps))}\nvllm:num_requests_waiting 2\n"
                                                f"vllm:kv_cache_usage_perc {0.5 if time.perf_counter() - start > 0.1 else 0.1}\n"
                                                f"vllm:generation_tokens_total {100 * (time.perf_counter() - start):.0f}\n")
    w = filling.watch(url, lambda: time.sleep(0.4) or "done", every=0.02)
    assert w.result == "done" and len(w.samples) >= 5 and [s.seconds for s in w.samples] == sorted(s.seconds for s in w.samples)
    assert w.most("waiting") == 2 and w.most("kv_used") == 0.5 and 20 <= w.change.tokens <= 400
    picture = filling.show(w, 1000)
    assert picture.png.startswith(b"\x89PNG") and "2 waiting" in picture.alt and "at most 50.0 % full of 1,000 tokens" in picture.alt


def test_watching_an_engine_that_tells_nothing(pages):
    w = filling.watch(pages[1], lambda: 7, every=0.01)
    assert w.result == 7 and w.samples == () and w.change is None
    assert "can't be seen" in filling.show(w)


def test_the_watcher_ends_with_work_that_fails(pages):
    pages[0]["/metrics"] = ("text/plain", "vllm:num_requests_running 1")
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="broke"):
        filling.watch(pages[1], lambda: (_ for _ in ()).throw(RuntimeError("it broke")), every=0.01)
    time.sleep(0.1)
    assert threading.active_count() <= before + 1
