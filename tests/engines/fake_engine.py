"""An engine in miniature, for tests of starting and stopping: an OpenAI-shaped server that can misbehave on command.

python fake_engine.py PORT BEHAVIOUR NAME, with BEHAVIOUR one of good, dies, silent, stubborn, family, mute, grabbed.
"""

import json
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from gb10.engines.owner import end_with_owner

port, behaviour, name = int(sys.argv[1]), sys.argv[2], sys.argv[3]
end_with_owner()
print("fake engine starts", flush=True)
if behaviour == "dies":
    print("loading\nValueError: the weights are of the wrong shape", flush=True)
    sys.exit(3)
if behaviour == "grabbed":
    raise OSError("[Errno 98] Address already in use")
if behaviour == "silent":
    time.sleep(600)
if behaviour in ("stubborn", "family"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if behaviour == "family":
    child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"])
    print(f"child {child.pid}", flush=True)


class Handler(BaseHTTPRequestHandler):
    def answer(self, data, status=200):
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer({"data": [{"id": name, "owned_by": "tests"}]})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if behaviour == "mute":
            return self.answer({"error": "no"}, 500)
        return self.answer({"choices": [{"text": "hello"}]})

    def log_message(self, *_):
        pass


ThreadingHTTPServer.allow_reuse_address = True
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
