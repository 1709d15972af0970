"""Fetching a model, against a stand-in hub on loopback: only what is needed, resumed, every refusal a sentence."""

import hashlib
import json
import shutil

import pytest
from hub_server import REPO, SHA, TOKEN

from gb10 import hub
from gb10.engines import model
from gb10.errors import UserError, WorkFailed
from gb10.hub import names, store


def test_only_what_is_needed_is_fetched_and_the_revision_is_recorded(there, pico):
    folder = hub.fetch(REPO, quiet=True)
    assert model.look(folder).parameters == model.look(pico).parameters
    here = {p.name for p in folder.iterdir() if p.is_file()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= here
    assert not here & {"pytorch_model.bin", "training_args.pt", "modeling_evil.py"}
    assert (folder / "model.safetensors").read_bytes() == (pico / "model.safetensors").read_bytes()
    note = json.loads((folder / names.NOTE).read_text())
    assert (note["repo"], note["revision"], note["complete"]) == (REPO, SHA, True)

    asked = len(there.requests)
    assert hub.fetch(REPO, quiet=True) == folder
    assert len(there.requests) == asked, "a model that is here is used without asking the hub"


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(there, pico, capsys):
    size = (pico / "model.safetensors").stat().st_size
    there.break_after = size // 2
    folder = hub.fetch(REPO)
    assert (folder / "model.safetensors").read_bytes() == (pico / "model.safetensors").read_bytes()
    starts = [int(r.split("=")[1].split("-")[0]) for _, path, r in there.requests if r and "safetensors" in path]
    assert len(starts) == 1 and size // 4 < starts[0] <= size // 2
    assert f"{SHA[:12]}" in capsys.readouterr().err


def test_what_one_call_left_the_next_one_finishes(there, pico):
    size = (pico / "model.safetensors").stat().st_size
    there.break_after = size // 2
    with pytest.raises(WorkFailed, match="What has come is kept; run this again"):
        hub.fetch(REPO, quiet=True, tries=1)
    part = hub.folder(REPO) / "model.safetensors.part"
    kept = part.stat().st_size
    assert 0 < kept <= size // 2
    assert not json.loads((hub.folder(REPO) / names.NOTE).read_text())["complete"]
    assert hub.fetch(REPO, quiet=True, tries=1).is_dir()
    assert ("GET", f"/{REPO}/resolve/{SHA}/model.safetensors", f"bytes={kept}-") in there.requests
    assert not part.exists()


def test_a_file_that_differs_from_the_hubs_hash_is_not_kept(there):
    """What lies in the part is not what the hub has: found by the hash, thrown away, fetched anew."""
    folder = hub.folder(REPO)
    folder.mkdir(parents=True)
    (folder / "model.safetensors.part").write_bytes(b"\0" * 1000)
    fetched = hub.fetch(REPO, quiet=True)
    assert (fetched / "model.safetensors").read_bytes() == there.files["model.safetensors"]


def test_a_file_that_was_lost_is_fetched_again(there):
    folder = hub.fetch(REPO, quiet=True)
    (folder / "tokenizer.json").unlink()
    assert (hub.fetch(REPO, quiet=True) / "tokenizer.json").exists()


@pytest.mark.parametrize(("status", "code", "kind", "says"), [
    (403, "GatedRepo", UserError, "is gated: accept its terms .* no HF_TOKEN"),
    (401, "GatedRepo", UserError, "is gated"),
    (401, "RepoNotFound", UserError, "the hub has no model someone/pico .*HF_TOKEN is not set"),
    (404, "RepoNotFound", UserError, "the hub has no model"),
    (429, None, WorkFailed, "asks to slow down"),
    (503, None, WorkFailed, r"trouble of its own \(HTTP 503\)"),
])
def test_refusals_are_explained(there, status, code, kind, says):
    there.status = status, code
    with pytest.raises(kind, match=says) as e:
        hub.fetch(REPO, quiet=True)
    assert "\n" not in e.value.message
    assert not hub.folder(REPO).exists(), "nothing was written"


def test_no_network(there):
    there.close()
    with pytest.raises(WorkFailed, match="connection to the hub failed"):
        hub.fetch(REPO, quiet=True)


def test_pickled_weights_are_not_fetched(there):
    there.files.pop("model.safetensors")
    with pytest.raises(UserError, match="offers no safetensors"):
        hub.fetch(REPO, quiet=True)


def test_too_little_disk_is_refused_before_anything_is_fetched(there, monkeypatch):
    monkeypatch.setattr(store.shutil, "disk_usage", lambda p: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(WorkFailed, match=r"needs 0\.\d\d GB of disk, 0\.00 GB are free"):
        hub.fetch(REPO, quiet=True)
    assert not any("/resolve/" in path for _, path, _ in there.requests)


def test_the_token_comes_from_the_environment_and_goes_into_no_file(there, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.fetch(REPO)
    assert there.tokens == {f"Bearer {TOKEN}"}
    for f in store.FOLDER.rglob("*"):
        assert f.is_dir() or b"hf_secret" not in f.read_bytes()
    out = capsys.readouterr()
    assert "hf_secret" not in out.out + out.err


def test_the_sha256_of_every_file_is_recorded(there):
    folder = hub.fetch(REPO, quiet=True)
    note = json.loads((folder / names.NOTE).read_text())
    assert note["sha256"] == {f: hashlib.sha256(there.files[f]).hexdigest() for f in note["files"]}
    assert note["files"].keys() == {f for f in there.files if names.wanted(f)}


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_file_that_is_not_what_the_hub_announced_is_refused(there, name):
    """The large one is told by its SHA-256, the small one by git's hash."""
    there.changed[name] = there.files[name][:-1] + bytes([there.files[name][-1] ^ 1])
    with pytest.raises(WorkFailed, match="differs from what|broke off"):
        hub.fetch(REPO, quiet=True)
    assert not (hub.folder(REPO) / name).exists() and hub.local(REPO) is None
    there.changed.clear()
    assert (hub.fetch(REPO, quiet=True) / name).read_bytes() == there.files[name]


def test_a_hub_without_ranges_starts_the_file_anew(there):
    there.ranges = False
    there.break_after = 1_000_000
    folder = hub.fetch(REPO, quiet=True)
    assert (folder / "model.safetensors").read_bytes() == there.files["model.safetensors"]


def test_another_revision_replaces_files_of_the_same_size_and_takes_away_what_it_lacks(there):
    there.files["extra.safetensors"] = there.files["model.safetensors"]
    folder = hub.fetch(REPO, quiet=True)
    there.sha = "f" * 40
    del there.files["extra.safetensors"]
    config = there.files["config.json"]
    there.files["config.json"] = config.replace(b"qwen3", b"qwen9")
    before = len(there.requests)
    assert hub.fetch(REPO, revision="f" * 40, quiet=True) == folder
    assert (folder / "config.json").read_bytes() == there.files["config.json"] != config
    assert not (folder / "extra.safetensors").exists(), "an engine would load it"
    assert not any("model.safetensors" in path for _, path, _ in there.requests[before:]), "what is the same stays"
    assert store.read(folder).revision == "f" * 40


@pytest.mark.parametrize(("headers", "says"), [
    ({"Retry-After": "37"}, "wait 37 s"), ({"Retry-After": "600"}, "wait 10 min"),
    ({"RateLimit": '"api";r=0;t=55'}, "wait 55 s"), ({"Retry-After": "soon"}, "wait some minutes"), ({}, "wait some minutes")])
def test_how_long_the_hub_wants_us_to_wait_is_said(there, headers, says):
    there.status, there.headers = (429, None), headers
    with pytest.raises(WorkFailed, match=says) as e:
        hub.fetch(REPO, quiet=True)
    assert "or set HF_TOKEN" in e.value.message


def test_a_gated_model_is_listed_by_the_hub_and_its_files_are_not_handed_out(there, monkeypatch):
    there.gated, there.token = True, TOKEN
    with pytest.raises(UserError, match=r"accept its terms on https://huggingface.co/someone/pico.*"
                                        r"fine-grained.*huggingface.co/settings/tokens.*there is no HF_TOKEN"):
        hub.fetch(REPO, quiet=True)
    assert not store.FOLDER.exists()
    assert (hub.plan(REPO).gated, hub.plan(REPO).access) == (True, False)
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(UserError, match="the token in HF_TOKEN has no access yet"):
        hub.fetch(REPO, quiet=True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert hub.plan(REPO).access and hub.local(REPO) is None
    assert hub.fetch(REPO, quiet=True) == hub.local(REPO)


def test_the_token_goes_to_the_hubs_host_and_to_no_other(there, monkeypatch, pico):
    """Large files come from another host, to which the hub redirects."""
    from hub_server import Hub

    other = Hub(pico, REPO)
    try:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        there.elsewhere = other.url.replace("127.0.0.1", "localhost")
        folder = hub.fetch(REPO, quiet=True)
        assert (folder / "model.safetensors").read_bytes() == there.files["model.safetensors"]
        assert any("model.safetensors" in path for method, path, _ in other.requests if method == "GET")
        assert there.tokens and not other.tokens
    finally:
        other.close()


def test_a_repositorys_own_note_and_odd_names_are_not_fetched(there):
    there.files |= {names.NOTE: b'{"complete": true}', ".hidden.json": b"{}", "LICENSE.part": b"", "a:b.json": b"{}"}
    folder = hub.fetch(REPO, quiet=True)
    assert store.read(folder).repo == REPO
    assert not {".hidden.json", "LICENSE.part", "a:b.json"} & {p.name for p in folder.iterdir()}


@pytest.mark.parametrize("repo", ["pico", "a/b/c", "../x", "a/..", "a--b/c", "-a/b", "a/b.", "a/b\\c", "a/b\n", "/etc", "ä/b", "",
                                  "a/" + "b" * 95])
def test_what_can_be_no_name_on_the_hub_gets_no_folder(repo):
    with pytest.raises(UserError, match="has the form owner/name"):
        hub.folder(repo)


def test_two_at_once_fetch_it_once(there):
    import threading

    there.rate = 10_000_000
    results = []
    threads = [threading.Thread(target=lambda: results.append(hub.fetch(REPO, quiet=True))) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    assert results == [hub.folder(REPO)] * 2
    assert sum(m == "GET" and path.endswith("/model.safetensors") for m, path, _ in there.requests) == 1
