"""What runs in the miniature Docker's container: an engine that starts, speaks OpenAI's protocol, and can misbehave.

served.py PORT NAME BEHAVIOUR EXIT_FILE; behaviours: never (healthy), memory, killed, gated, no-hub, old, page-cache, no-kv, option,
mute, slow; everything else is good. Ollama's own paths are answered too.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

port, name, behaviour, exit_file = int(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])
DEATHS = {
    "memory": ("(EngineCore pid=7) torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", 1),
    "killed": ("(EngineCore pid=7) INFO 11-27 08:00:00 [loader.py:1] Loading safetensors checkpoint shards:  25%", 137),
    "gated": ("huggingface_hub.errors.GatedRepoError: 403 Client Error. Access to model meta-llama/X is restricted", 1),
    "no-hub": ("requests.HTTPError: 401 Client Error: Unauthorized\nhuggingface_hub.errors.RepositoryNotFoundError: 401", 1),
    "false-alarm": ("UserWarning: sm_121 is not supported by this build of torch\ntorch.OutOfMemoryError: CUDA out of memory.", 1),
    "old": ("ValueError: Model architectures ['NewForCausalLM'] are not supported for now.", 1),
    "page-cache": ("ValueError: Free memory on device cuda:0 (20.1/121.7 GiB) on startup is less than desired GPU memory utilization", 1),
    "no-kv": ("ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`", 1),
    "option": ("vllm: error: unrecognized arguments: --kv-cache-memory-bytes=5", 2),
    "strange": ("RuntimeError: something that nobody has seen", 3),
}
print("INFO 11-27 08:00:00 [core.py:1] Initializing a V1 LLM engine", flush=True)
time.sleep(0.2)
if behaviour in DEATHS:
    text, code = DEATHS[behaviour]
    print(text, flush=True)
    exit_file.write_text(str(code))
    sys.exit(code)


class Handler(BaseHTTPRequestHandler):
    def answer(self, data, status=200):
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/health" and behaviour == "never":
            return self.answer({}, 503)
        return self.answer({"data": [{"id": name, "owned_by": "vllm"}], "version": "0.1"})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if behaviour == "mute":
            return self.answer({"error": {"message": "the engine core died"}}, 500)
        if self.path == "/api/show":
            return self.answer({}, 200 if behaviour == "offline-but-there" else 404)
        if self.path == "/api/pull":
            if behaviour in ("no-tag", "offline-but-there"):
                return self.answer({"error": "pull model manifest: file does not exist"})
            return self.answer({"status": "success"})
        return self.answer({"choices": [{"message": {"content": "hello"}}]})

    def log_message(self, *_):
        pass


ThreadingHTTPServer.allow_reuse_address = True
print("INFO 11-27 08:00:01 [api_server.py:1] Starting vLLM server", flush=True)
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
