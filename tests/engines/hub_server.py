"""A stand-in for the Hugging Face hub on loopback: what model_info and snapshot_download ask for, and its bad days.

Files are served with ranges; `break_after` ends a transfer in the middle, `status` refuses everything.
"""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SHA = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    def __init__(self, folder: Path, repo: str):
        self.repo, self.files = repo, {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}
        self.requests: list[tuple[str, str, str | None]] = []      # method, path, Range
        self.tokens: set[str] = set()
        self.status = None              # (HTTP status, X-Error-Code or None)
        self.break_after = None         # bytes after which the next large transfer breaks off, once
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                self.do_GET(head=True)

            def do_GET(self, head=False):
                hub.requests.append((self.command, self.path, self.headers["Range"]))
                if self.headers["Authorization"]:
                    hub.tokens.add(self.headers["Authorization"])
                if hub.status:
                    status, code = hub.status
                    return self.send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code} if code else {}, head)
                path = self.path.split("?")[0]
                if re.fullmatch(rf"/api/models/{hub.repo}(/revision/\w+)?(/tree/.*)?", path):
                    return self.send(200, json.dumps(hub.listing("/tree/" in path)).encode(),
                                     {"Content-Type": "application/json"}, head)
                name = path.rsplit("/", 1)[1]
                if path != f"/{hub.repo}/resolve/{SHA}/{name}" or name not in hub.files:
                    return self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, head)
                return self.file(name, head)

            def file(self, name, head):
                data = hub.files[name]
                headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": SHA, "Accept-Ranges": "bytes"}
                status = 200
                if m := re.match(r"bytes=(\d+)-", self.headers["Range"] or ""):
                    start = int(m[1])
                    headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
                    status, data = 206, data[start:]
                if not head and hub.break_after and len(data) > hub.break_after:
                    self.send(status, data, headers, head, only=hub.break_after)
                    hub.break_after = None
                    self.close_connection = True
                    return None
                return self.send(status, data, headers, head)

            def send(self, status, body, headers, head, only=None):
                self.send_response(status)
                for k, v in headers.items():
                    self.send_header(k, v)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if not head:
                    self.wfile.write(body[:only])
                    self.wfile.flush()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def listing(self, tree: bool):
        entries = [{"type": "file", "path": n, "rfilename": n, "size": len(d), "oid": "0" * 40} for n, d in self.files.items()]
        return entries if tree else {"id": self.repo, "modelId": self.repo, "sha": SHA, "siblings": entries, "private": False,
                                     "tags": [], "downloads": 0, "likes": 0}

    def close(self):
        self.server.shutdown()
        self.server.server_close()
