"""A model by its name on the hub: only its config.json and the index of its weights are asked for."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gb10 import catalog, roofline

SHA = "0123456789abcdef0123456789abcdef01234567"
CONFIG = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": 1024, "num_hidden_layers": 4,
          "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 64, "intermediate_size": 4096, "vocab_size": 32768,
          "auto_map": {"AutoModelForCausalLM": "modeling_trap.Trap"}}


class Hub:
    def __init__(self):
        self.files = {"config.json": json.dumps(CONFIG),
                      "model.safetensors.index.json": '{"metadata": {"total_size": 123456}, "weight_map": {}}'}
        self.asked, self.refuse = [], None              # refuse: (status, X-Error-Code)
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                name = self.path.split("?")[0].split("/resolve/main/")[-1]
                hub.asked.append(name)
                body = hub.files.get(name, "").encode()
                status, code = hub.refuse or ((200, None) if body else (404, "EntryNotFound"))
                self.send_response(status)
                for key, value in {"ETag": f'"{abs(hash(body))}"', "X-Repo-Commit": SHA, "X-Error-Code": code,
                                   "X-Error-Message": code, "Content-Length": str(len(body))}.items():
                    if value:
                        self.send_header(key, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    from huggingface_hub import constants

    hub = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


def test_by_name(hub):
    m = catalog.model("somebody/Fresh-Model")
    assert m.name == "Fresh-Model" and m.file_bytes == 123456 and m.source.url.endswith("somebody/Fresh-Model/blob/main/config.json")
    assert m.params == catalog.from_config(CONFIG, "x").params
    assert roofline.fit(m, weights="nvfp4").ok
    files = {name for name in hub.asked if not name.startswith("/api/")}              # no weights, no code
    assert files == {"config.json", "model.safetensors.index.json"}


def test_what_was_fetched_is_there_without_the_hub(hub):
    catalog.model("somebody/Fresh-Model")
    hub.asked.clear()
    hub.refuse = (503, None)
    assert catalog.model("somebody/Fresh-Model").params > 0
    assert "config.json" not in hub.asked


def test_without_an_index(hub):
    del hub.files["model.safetensors.index.json"]
    assert catalog.model("somebody/Small-Model").file_bytes is None


@pytest.mark.parametrize(("refuse", "says"), [((401, "RepoNotFound"), "no model"), ((404, "RepoNotFound"), "no model"),
                                             ((403, "GatedRepo"), "gated"), ((404, "EntryNotFound"), "no config.json"),
                                             ((500, None), "can't be reached")])
def test_refusals_are_one_sentence(hub, refuse, says):
    hub.refuse = refuse
    with pytest.raises(ValueError, match=says) as e:
        catalog.model("somebody/Other-Model")
    assert "\n" not in str(e.value)


def test_a_catalogue_name_asks_nobody(hub):
    assert catalog.model("Qwen/Qwen3-8B").name == "Qwen3-8B" and hub.asked == []
