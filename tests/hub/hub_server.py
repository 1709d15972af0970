"""A stand-in for the Hugging Face hub on loopback: what model_info and a transfer ask for, and its bad days.

As at the hub, a large file's ETag is its SHA-256 and a small one's git's hash. Files are served with ranges; `break_after`
ends a transfer in the middle, `status` refuses everything, `gated` hands out files only to `token`, `changed` puts other
bytes in the place of a file's, `rate` slows down, `elsewhere` redirects large files to another host, as the hub does.
"""

import hashlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SHA = "0123456789abcdef0123456789abcdef01234567"
REPO, TOKEN = "someone/pico", "hf_secret_of_the_test"
LARGE = 300_000       # bytes from which a file is kept as LFS


class Hub:
    def __init__(self, folder: Path, repo: str):
        self.repo, self.files = repo, {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}
        self.sha = SHA
        self.requests: list[tuple[str, str, str | None]] = []      # method, path, Range
        self.tokens: set[str] = set()
        self.status = None              # (HTTP status, X-Error-Code or None)
        self.headers: dict[str, str] = {}                          # with `status`: Retry-After, for instance
        self.break_after = None         # bytes after which the next large transfer breaks off, once
        self.gated, self.token = False, None
        self.changed: dict[str, bytes] = {}
        self.rate = None                # bytes per second
        self.ranges = True
        self.elsewhere = None           # URL
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
                    more = {"X-Error-Code": code, "X-Error-Message": code} if code else {}
                    return self.send(status, b"{}", hub.headers | more, head)
                path = self.path.split("?")[0]
                if re.fullmatch(rf"/api/models/{hub.repo}(/revision/[\w.-]+)?", path):
                    return self.send(200, json.dumps(hub.listing()).encode(), {"Content-Type": "application/json"}, head)
                name = path.rsplit("/", 1)[1]
                if path != f"/{hub.repo}/resolve/{hub.sha}/{name}" or name not in hub.files:
                    return self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, head)
                if hub.gated and self.headers["Authorization"] != f"Bearer {hub.token}":
                    return self.send(401 if not self.headers["Authorization"] else 403, b"{}", {"X-Error-Code": "GatedRepo"}, head)
                if hub.elsewhere and hub.large(name):
                    return self.send(302, b"", {"Location": hub.elsewhere + path, "X-Repo-Commit": hub.sha, "X-Linked-ETag":
                                     f'"{hub.etag(name)}"', "X-Linked-Size": str(len(hub.files[name]))}, head)
                return self.file(name, head)

            def file(self, name, head):
                data = hub.changed.get(name, hub.files[name])
                headers = {"ETag": f'"{hub.etag(name)}"', "X-Repo-Commit": hub.sha, "Accept-Ranges": "bytes"}
                status = 200
                if hub.ranges and (m := re.match(r"bytes=(\d+)-", self.headers["Range"] or "")):
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
                if head:
                    return
                body = body[:only]
                step = max(hub.rate // 20, 1) if hub.rate else len(body) or 1
                for i in range(0, len(body), step):
                    self.wfile.write(body[i:i + step])
                    self.wfile.flush()
                    if hub.rate:
                        time.sleep(0.05)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):          # a client that was killed
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def large(self, name: str) -> bool:
        return len(self.files[name]) >= LARGE

    def etag(self, name: str) -> str:
        data = self.files[name]
        return hashlib.sha256(data).hexdigest() if self.large(name) else hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def listing(self) -> dict:
        def sibling(name):
            size = len(self.files[name])
            lfs = {"lfs": {"size": size, "sha256": self.etag(name), "pointerSize": 134}} if self.large(name) else {}
            return {"rfilename": name, "size": size, "blobId": "0" * 40 if lfs else self.etag(name), **lfs}

        return {"id": self.repo, "modelId": self.repo, "sha": self.sha, "siblings": [sibling(n) for n in self.files],
                "private": False, "gated": "manual" if self.gated else False, "tags": [], "downloads": 0, "likes": 0}

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def cached_model(cache, repo, files):
    """A model in the layout of the Hugging Face cache; returns its snapshot."""
    top = cache / f"models--{repo.replace('/', '--')}"
    snapshot = top / "snapshots" / ("c" * 40)
    for folder in (top / "blobs", top / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    (top / "refs" / "main").write_text("c" * 40)
    for f in files.iterdir():
        data = f.read_bytes()
        blob = top / "blobs" / hashlib.sha256(data).hexdigest()
        blob.write_bytes(data)
        (snapshot / f.name).symlink_to(blob)
    return snapshot
