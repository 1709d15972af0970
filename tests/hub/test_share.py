"""A bundle served to a room: read-only, nothing but what the manifest names, many at once."""

import http.client
import json
import re
import signal
import socket
import threading
import time

import pytest
from hub_server import REPO

from gb10 import hub
from gb10.errors import UserError, WorkFailed
from gb10.hub import installing, listing, sharing, store


@pytest.fixture
def out(there, tmp_path):
    hub.fetch(REPO, quiet=True)
    hub.bundle(tmp_path / "stick", [REPO], quiet=True)
    (tmp_path / "stick" / "private.txt").write_text("not in the manifest")
    (tmp_path / "stick" / "models" / "someone--pico" / "notes.json").write_text("not in the manifest either")
    return tmp_path / "stick"


@pytest.fixture
def served(out):
    s = hub.share(out, port=0)
    threading.Thread(target=s.serve, daemon=True).start()
    yield s
    s.close()


@pytest.fixture
def ask(served):
    def call(path, method="GET", **headers):
        c = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
        try:
            c.putrequest(method, path, skip_host=False)
            for k, v in headers.items():
                c.putheader(k, v)
            c.endheaders()
            answer = c.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())
        finally:
            c.close()

    return call


WEIGHTS = "/models/someone--pico/model.safetensors"


def test_files_come_whole_in_ranges_and_as_heads(ask, there):
    data = there.files["model.safetensors"]
    assert ask("/manifest.json")[0] == 200 and json.loads(ask("/manifest.json")[1])["format"] == "gb10-bundle"
    status, body, headers = ask(WEIGHTS)
    assert (status, body, headers["Accept-Ranges"]) == (200, data, "bytes")
    assert ask(WEIGHTS, Range="bytes=100-")[:2] == (206, data[100:])
    assert ask(WEIGHTS, Range="bytes=100-199")[:2] == (206, data[100:200])
    assert ask(WEIGHTS, Range="bytes=-10")[:2] == (206, data[-10:])
    assert ask(WEIGHTS, Range="bytes=100-199")[2]["Content-Range"] == f"bytes 100-199/{len(data)}"
    assert ask(WEIGHTS, Range=f"bytes={len(data)}-")[0] == 416
    status, body, headers = ask(WEIGHTS, method="HEAD")
    assert (status, body, int(headers["Content-Length"])) == (200, b"", len(data))


@pytest.mark.parametrize(("header", "is_"), [
    (None, None), ("bytes=0-", (0, 9)), ("bytes=3-5", (3, 5)), ("bytes=3-99", (3, 9)), ("bytes=-4", (6, 9)),
    ("bytes=-99", (0, 9)), ("bytes=10-", ()), ("bytes=-0", ()), ("bytes=5-3", None), ("bytes=1-2,4-5", None), ("bytes=-", None),
    ("lines=1-2", None), ("bytes=x-", None)])
def test_ranges(header, is_):
    assert sharing.byte_range(header, 10) == is_


PATHS = (
    "/", "/private.txt", "/models", "/models/", "/models/someone--pico/", "/models/someone--pico/notes.json",
    "/../private.txt", "/models/../private.txt", "/models/../manifest.json", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd",
    "/models/someone--pico/../someone--pico/config.json", "/models/someone--pico/..%2f..%2fprivate.txt", "/manifest.json/",
    "/models\\someone--pico\\config.json", "http://127.0.0.1/private.txt", "/manifest.json%00", "/" + "a" * 5000)


def test_nothing_but_what_the_manifest_names(ask):
    assert {path: ask(path)[:2] for path in PATHS} == dict.fromkeys(PATHS, (404, b""))


def test_it_can_only_be_read(ask, out):
    before = sorted(out.rglob("*"))
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert ask("/manifest.json", method=method)[0] == 405
    assert sorted(out.rglob("*")) == before


def test_a_link_put_in_a_files_place_meanwhile_is_not_followed(ask, out):
    file = out / "models" / "someone--pico" / "config.json"
    file.unlink()
    file.symlink_to(out / "private.txt")
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        ask("/models/someone--pico/config.json")
    assert ask("/manifest.json")[0] == 200


def test_it_listens_on_loopback_unless_told(served):
    assert served.urls == [f"http://127.0.0.1:{served.port}"]
    for address in sharing.own_addresses():
        with socket.socket() as s:
            s.settimeout(1)
            assert s.connect_ex((address, served.port)) != 0


def test_a_damaged_bundle_is_not_shared(out):
    (out / "models" / "someone--pico" / "vocab.json").unlink()
    with pytest.raises(WorkFailed, match="is missing"):
        hub.share(out, port=0)


def test_a_port_that_is_taken_and_an_address_of_nobody(out, served):
    with pytest.raises(UserError, match="is taken: take another with --port"):
        hub.share(out, port=served.port)
    with pytest.raises(UserError, match="192.0.2.1 is no address of this machine"):
        hub.share(out, bind="192.0.2.1", port=0)


@pytest.mark.parametrize("url", ["http://", "https://127.0.0.1:1", "ftp://x", "http://u:p@host:1", "http://host:99999", "http://h/x"])
def test_what_is_no_address_of_a_share(url):
    with pytest.raises(UserError, match="is no address of a share") as e:
        hub.install(url)
    assert "u:p" not in e.value.message


def test_nobody_there(monkeypatch):
    monkeypatch.setattr(installing.time, "sleep", lambda s: None)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        with pytest.raises(WorkFailed, match=r"doesn't answer.*is './course models share' running there"):
            hub.install(f"http://127.0.0.1:{s.getsockname()[1]}")


def test_two_machines_install_at_once_from_the_command(course, out, there, machine):
    """The whole way: the command serves, two machines without a hub install by the line that it prints, Ctrl-C ends it."""
    sharing_ = course.start("share", out, "--port", 0)
    try:
        printed = ""
        while "Ctrl-C" not in printed:
            printed += sharing_.stdout.readline()
        url = re.search(r"\./course models install (http://127\.0\.0\.1:\d+)\n", printed)[1]
        machines = [machine(f"machine{i}", HF_HUB_OFFLINE="1", http_proxy="http://127.0.0.1:9") for i in (1, 2)]
        running = [m.start("install", url, "--json") for m in machines]
        for m, p in zip(machines, running, strict=True):
            shown, err = p.communicate(timeout=60)
            assert p.returncode == 0, err
            (made,) = json.loads(shown)["models"]
            assert made["repo"] == REPO and made["already"] is False
            for name, data in there.files.items():
                there_ = m.models / "someone--pico" / name
                assert not there_.exists() or there_.read_bytes() == data
    finally:
        sharing_.send_signal(signal.SIGINT)
        _, err = sharing_.communicate(timeout=20)
    assert sharing_.returncode == 130 and "Traceback" not in err
    assert "Only this machine can reach it" in err


def test_another_address_is_announced_loudly(course, out):
    p = course.start("share", out, "--port", 0, "--bind", "0.0.0.0")
    try:
        printed = ""
        while "Ctrl-C" not in printed:
            printed += p.stdout.readline()
    finally:
        p.send_signal(signal.SIGINT)
        _, err = p.communicate(timeout=20)
    assert "WARNING: everybody who can reach this address can read these files" in err
    assert "http://0.0.0.0" not in printed, "an address that another machine can't call"


@pytest.fixture
def slow(served, monkeypatch):
    """The share sends 1 MB/s."""
    def sendfile(self, file, offset=0, count=None):
        file.seek(offset)
        for _ in range(0, count, 50_000):
            self.sendall(file.read(min(50_000, count)))
            time.sleep(0.05)

    monkeypatch.setattr(socket.socket, "sendfile", sendfile)
    return served


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGINT])
def test_an_installation_that_was_ended_goes_on(slow, second, there, sig, monkeypatch):
    part = second.models / "someone--pico" / "model.safetensors.part"
    url = slow.urls[0]
    code, _, err = second.killed_when(lambda: part.exists() and part.stat().st_size > 200_000, "install", url, sig=sig)
    assert code == (-9 if sig == signal.SIGKILL else 130), err
    if sig == signal.SIGINT:
        assert "what has come is kept" in err and "Traceback" not in err
    kept = part.stat().st_size
    assert 200_000 < kept < 2_000_000
    monkeypatch.setattr(store, "FOLDER", second.models)
    assert hub.local(REPO) is None and [(m.repo, m.whole) for m in listing.own()] == [(REPO, False)]
    starts, real = [], sharing.byte_range
    monkeypatch.setattr(sharing, "byte_range", lambda header, size: starts.append(header) or real(header, size))
    hub.install(url, quiet=True)
    assert f"bytes={kept}-" in starts
    assert (second.models / "someone--pico" / "model.safetensors").read_bytes() == there.files["model.safetensors"]
    assert hub.local(REPO) and hub.verify(REPO, quiet=True).ok


def test_a_share_that_breaks_off_is_gone_on_with(served, monkeypatch, tmp_path, there):
    broken = []
    real = socket.socket.sendfile

    def sendfile(self, file, offset=0, count=None):
        if count > 1_000_000 and not broken:
            broken.append(offset)
            real(self, file, offset, 500_000)
            self.shutdown(socket.SHUT_RDWR)
            raise BrokenPipeError
        return real(self, file, offset, count)

    monkeypatch.setattr(socket.socket, "sendfile", sendfile)
    monkeypatch.setattr(store, "FOLDER", tmp_path / "second" / "models")
    (made,) = hub.install(served.urls[0], quiet=True)
    assert broken and (made.path / "model.safetensors").read_bytes() == there.files["model.safetensors"]
