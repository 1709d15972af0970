"""./course models as a user calls it: list, get, verify, remove, bundle, install; what it prints, its exit codes, its kills."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from hub_server import REPO, SHA, TOKEN, cached_model

from gb10 import hub
from gb10.errors import UserError
from gb10.hub import listing, store
from gb10.paths import ROOT


def test_get_list_verify_bundle_install_remove(course, second, there, tmp_path):
    got = course("get", REPO)
    assert got.returncode == 0 and str(course.models / "someone--pico") in got.stdout
    assert f"Fetching {REPO} at {SHA[:12]}" in got.stderr
    (row,) = json.loads(course("list", "--json").stdout)["models"]
    assert (row["repo"], row["where"], row["whole"], row["revision"], row["format"]) == (REPO, "course", True, SHA, "f32")
    made = course("bundle", tmp_path / "stick", REPO, "--json")
    assert made.returncode == 0 and json.loads(made.stdout)["models"][0]["repo"] == REPO
    installed = second("install", tmp_path / "stick", REPO)
    assert installed.returncode == 0 and "is installed" in installed.stdout
    (v,) = json.loads(second("verify", "--json").stdout)["models"]
    assert (v["repo"], v["ok"], v["wrong"], v["unrecorded"]) == (REPO, True, {}, [])
    assert second("get", REPO).returncode == 0, "what was installed needs no hub"


def test_list_and_remove(call, there):
    assert "No models yet" in call().stdout
    call("get", REPO)
    shown = call("list").stdout
    assert REPO in shown and "whole" in shown and "MB" in shown and SHA[:8] in shown and "f32" in shown
    assert json.loads(call("--json").stdout) == json.loads(call("list", "--json").stdout)
    shutil.copytree(hub.folder(REPO), store.FOLDER / "Mine-NVFP4", ignore=shutil.ignore_patterns("gb10-*"))
    rows = json.loads(call("list", "--json").stdout)["models"]
    assert [(r["repo"], r["whole"], r["revision"]) for r in rows] == [("Mine-NVFP4", True, ""), (REPO, True, SHA)], "one's own too"
    refused = call("remove", REPO)
    assert refused.returncode == 2 and "--yes" in refused.stderr and hub.local(REPO)
    gone = call("remove", REPO, "--yes")
    assert gone.returncode == 0 and "freed" in gone.stdout and not hub.folder(REPO).exists()
    assert call("remove", REPO, "--yes").returncode == 2
    hub.folder(REPO).symlink_to(there_ := store.FOLDER.parent)
    assert call("remove", REPO, "--yes").returncode == 2 and there_.exists()


def test_a_dry_run_writes_nothing_and_says_all(call, there, tmp_path):
    done = call("get", REPO, "--dry-run", "--json")
    found = json.loads(done.stdout)
    (m,) = found["models"]
    assert (done.returncode, m["revision"], m["gated"], m["access"], m["here"]) == (0, SHA, False, True, False)
    assert m["files"] == {f: len(d) for f, d in there.files.items() if f in m["files"]} and "model.safetensors" in m["files"]
    assert m["bytes"] == m["missing_bytes"] == sum(m["files"].values()) == found["missing_bytes"]
    assert found["fits"] and found["disk_free_bytes"] > 0
    text = call("get", REPO, "--dry-run").stdout
    assert "model.safetensors" in text and "free in" in text and "pytorch_model.bin" not in text
    assert not (tmp_path / "state").exists()


def test_a_gated_model(call, there):
    there.gated, there.token = True, TOKEN
    dry = call("get", REPO, "--dry-run", "--json")
    assert dry.returncode == 2 and json.loads(dry.stdout)["models"][0]["access"] is False
    assert "accept its terms on https://huggingface.co/someone/pico" in dry.stderr
    done = call("get", REPO)
    assert done.returncode == 2 and "accept its terms" in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert call("get", REPO, HF_TOKEN=TOKEN).returncode == 0


def test_the_token_is_in_no_file_and_in_nothing_printed(call, there, tmp_path):
    there.gated, there.token = True, TOKEN
    said = [call("get", REPO, HF_TOKEN=TOKEN), call("verify", HF_TOKEN=TOKEN), call("list", HF_TOKEN=TOKEN),
            call("bundle", tmp_path / "stick", REPO, HF_TOKEN=TOKEN)]
    there.status = 503, None
    said.append(call("get", "someone/other", HF_TOKEN=TOKEN, GB10_DEBUG="1"))
    assert [p.returncode for p in said] == [0, 0, 0, 0, 1]
    assert there.tokens == {f"Bearer {TOKEN}"}
    for p in said:
        assert TOKEN not in p.stdout + p.stderr
    files = [f for f in tmp_path.rglob("*") if f.is_file()]
    assert len(files) > 10 and not [f for f in files if TOKEN.encode() in f.read_bytes()]


@pytest.mark.parametrize(("argv", "says"), [
    (("get", "pico"), "has the form owner/name"), (("get", REPO, "../../etc"), "has the form owner/name"),
    (("get",), "required: MODEL"), (("frob",), "frob"), (("verify", "a/b"), "is not on this machine"),
    (("remove", "../x", "--yes"), "has the form owner/name"), (("bundle", "out", "a/b"), "is not whole on this machine"),
    (("install", "nowhere"), "there is no folder"), (("install", "."), "is no bundle"), (("share", "."), "is no bundle"),
    (("share", ".", "--port", "70000"), "port 70000"), (("get", REPO, "--rev", "x"), "--rev"),
])
def test_a_wrong_request_is_one_sentence_and_exit_code_2(call, there, argv, says):
    done = call(*argv)
    assert done.returncode == 2 and says in done.stderr, done.stderr
    assert done.stdout == "" and len(done.stderr.strip().splitlines()) == 1
    assert not any("/resolve/" in path for _, path, _ in there.requests)


@pytest.mark.parametrize(("harm", "says"), [
    (lambda f: f.write_bytes(f.read_bytes()[:-1] + b"\xff"), "another SHA-256"),
    (lambda f: f.write_bytes(f.read_bytes()[:-9]), "bytes and not"),
    (lambda f: f.unlink(), "is missing"),
])
def test_verify_names_the_wrong_file_and_get_mends_it(call, there, harm, says):
    call("get", REPO)
    file = store.FOLDER / "someone--pico" / "model.safetensors"
    harm(file)
    done = call("verify", REPO)
    assert done.returncode == 1 and "model.safetensors" in done.stderr and says in done.stderr
    assert f"./course models get {REPO}" in done.stderr
    assert hub.local(REPO) is None, "what is wrong is not served"
    before = len(there.requests)
    assert call("get", REPO).returncode == 0
    fetched = {path.rsplit("/", 1)[1] for method, path, _ in there.requests[before:] if method == "GET" and "/resolve/" in path}
    assert fetched == {"model.safetensors"}
    assert file.read_bytes() == there.files["model.safetensors"] and call("verify", "--json").returncode == 0
    assert hub.local(REPO)


def test_verify_finds_weights_that_do_not_belong_and_headers_that_are_cut(call, there):
    """Without recorded sums (models fetched by an earlier version) the header still tells."""
    call("get", REPO)
    folder = store.FOLDER / "someone--pico"
    note = json.loads((folder / "gb10-revision.json").read_text())
    del note["sha256"]
    (folder / "gb10-revision.json").write_text(json.dumps(note))
    (v,) = json.loads(call("verify", "--json").stdout)["models"]
    assert v["ok"] and "model.safetensors" in v["unrecorded"]
    (folder / "stray.safetensors").write_bytes(b"x")
    file = folder / "model.safetensors"
    file.write_bytes(b"\0" * file.stat().st_size)
    done = call("verify", "--json")
    (v,) = json.loads(done.stdout)["models"]
    assert done.returncode == 1 and set(v["wrong"]) == {"stray.safetensors", "model.safetensors"}
    assert "delete it" in v["wrong"]["stray.safetensors"]


def test_the_hugging_face_cache_is_listed_and_verified_and_never_deleted(call, pico, tmp_path):
    snapshot = cached_model(tmp_path / "hf" / "hub", "else/model", pico)
    cut = cached_model(tmp_path / "hf" / "hub", "else/cut", pico)
    (cut / "model.safetensors").unlink()
    rows = json.loads(call("list", "--json").stdout)["models"]
    assert [(r["repo"], r["where"], r["whole"]) for r in rows] == [("else/cut", "cache", False), ("else/model", "cache", True)]
    assert rows[1]["path"] == str(snapshot)
    assert call("verify", "else/model").returncode == 0
    assert call("remove", "else/model", "--yes").returncode == 2
    blob = (snapshot / "model.safetensors").resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"\xff")
    done = call("verify", "else/model")
    assert done.returncode == 1 and "hf download else/model --force-download" in done.stderr
    assert blob.exists()


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGINT])
def test_a_download_that_was_ended_goes_on(course, there, sig):
    there.rate = 1_000_000
    part = course.models / "someone--pico" / "model.safetensors.part"
    code, _, err = course.killed_when(lambda: part.exists() and part.stat().st_size > 200_000, "get", REPO, sig=sig)
    assert code == (-9 if sig == signal.SIGKILL else 130), err
    assert hub.local(REPO) is None and not hub.verify(REPO, quiet=True).ok
    kept, there.rate = part.stat().st_size, None
    assert course("get", REPO).returncode == 0
    assert any(r == f"bytes={kept}-" for _, path, r in there.requests if "model.safetensors" in path)
    assert hub.local(REPO) and hub.verify(REPO, quiet=True).ok


def dies(at: int, work) -> int:
    """Run work() in a process that ends before its rename number `at` as if killed: nothing flushed, nothing cleaned up."""
    pid = os.fork()
    if pid == 0:
        real, count = os.replace, itertools.count(1)
        os.replace = lambda a, b: os._exit(9) if next(count) == at else real(a, b)
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("at", [1, 2, 5, 9, 10])
def test_a_bundle_or_an_installation_that_dies_anywhere_counts_for_nothing_and_goes_on(there, tmp_path, monkeypatch, at):
    """Every step ends in a rename: 8 files and the manifest; a note, 8 files and the note that says whole."""
    first, out = hub.fetch(REPO, quiet=True), tmp_path / "stick"
    assert len(store.read(first).files) == 8
    finished = at > 9
    assert dies(at, lambda: hub.bundle(out, [REPO], quiet=True)) == (0 if finished else 9)
    assert (out / "manifest.json").exists() == finished
    if not finished:
        with pytest.raises(UserError, match="was not finished"):
            hub.install(out, quiet=True)
    hub.bundle(out, [REPO], quiet=True)
    assert os.path.samefile(out / "models" / "someone--pico" / "config.json", first / "config.json")

    monkeypatch.setattr(store, "FOLDER", tmp_path / "second" / "models")
    assert dies(at, lambda: hub.install(out, quiet=True)) == 9
    assert hub.local(REPO) is None and not any(s.whole for s in listing.own())
    hub.install(out, quiet=True)
    assert hub.verify(REPO, quiet=True).ok and hub.local(REPO)
    assert (first / "model.safetensors").read_bytes() == there.files["model.safetensors"], "the store behind the links is as it was"


def test_importing_the_room_costs_nothing():
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", "import gb10.hub, gb10.cli.models"], capture_output=True,
                          text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, timeout=30)
    loaded = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "gb10.hub" in loaded and not loaded & {"torch", "huggingface_hub", "httpx", "numpy", "gb10.hub.fetching"}
