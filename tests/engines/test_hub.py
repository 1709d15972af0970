"""Fetching a model, against a stand-in hub on loopback: only what is needed, resumed, every refusal a sentence."""

import json
import shutil

import pytest
from hub_server import SHA, Hub

from gb10.engines import hub, model
from gb10.errors import UserError, WorkFailed

REPO = "someone/pico"


@pytest.fixture
def there(pico, tmp_path, monkeypatch):
    """A hub that offers pico, together with pickles that must not be fetched."""
    source = tmp_path / "source"
    shutil.copytree(pico, source)
    for bad in ("pytorch_model.bin", "training_args.pt", "modeling_evil.py"):
        (source / bad).write_bytes(b"pickled or worse")
    server = Hub(source, REPO)
    monkeypatch.setattr(hub, "FOLDER", tmp_path / "models")
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(hub.time, "sleep", lambda s: None)
    yield server
    server.close()


def test_only_what_is_needed_is_fetched_and_the_revision_is_recorded(there, pico):
    folder = hub.fetch(REPO, quiet=True)
    assert model.look(folder).parameters == model.look(pico).parameters
    here = {p.name for p in folder.iterdir() if p.is_file()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= here
    assert not here & {"pytorch_model.bin", "training_args.pt", "modeling_evil.py"}
    assert (folder / "model.safetensors").read_bytes() == (pico / "model.safetensors").read_bytes()
    note = json.loads((folder / hub.NOTE).read_text())
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
    assert not json.loads((hub.folder(REPO) / hub.NOTE).read_text())["complete"]
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
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda p: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(WorkFailed, match=r"needs 0\.\d\d GB of disk, 0\.00 GB are free"):
        hub.fetch(REPO, quiet=True)
    assert not any("/resolve/" in path for _, path, _ in there.requests)


def test_the_token_comes_from_the_environment_and_goes_into_no_file(there, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_secret_of_the_test")
    folder = hub.fetch(REPO)
    assert there.tokens == {"Bearer hf_secret_of_the_test"}
    for f in folder.rglob("*"):
        assert f.is_dir() or b"hf_secret" not in f.read_bytes()
    out = capsys.readouterr()
    assert "hf_secret" not in out.out + out.err
