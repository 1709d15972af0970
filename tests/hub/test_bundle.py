"""Offline bundles: verified while written, resumed, installed anywhere, and nothing believed of what they say."""

import hashlib
import json
import os
import shutil

import pytest
from hub_server import REPO, SHA, cached_model

from gb10 import hub
from gb10.errors import UserError, WorkFailed
from gb10.hub import bundling, installing, manifest, receive, sources, store


@pytest.fixture
def out(there, tmp_path):
    """A bundle with the model."""
    hub.fetch(REPO, quiet=True)
    hub.bundle(tmp_path / "stick", [REPO], quiet=True)
    return tmp_path / "stick"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch, out):
    """From here on the store is that of another machine, which has no hub."""
    monkeypatch.setattr(store, "FOLDER", tmp_path / "second" / "models")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(installing.time, "sleep", lambda s: None)
    return store


def rewrite(out, change):
    body = json.loads((out / "manifest.json").read_text())
    change(body)
    (out / "manifest.json").write_text(json.dumps(body))


def replace(path, data: bytes):
    """Write a file anew, so that what it was linked with stays as it is."""
    path.unlink()
    path.write_bytes(data)


def test_a_bundle_says_what_it_holds_and_holds_it(out, there):
    body = json.loads((out / "manifest.json").read_text())
    assert (body["format"], body["version"]) == ("gb10-bundle", 1)
    assert body["course"] and len(body["made"]) == 10
    (m,) = body["models"]
    assert (m["repo"], m["revision"]) == (REPO, SHA)
    assert {f["name"] for f in m["files"]} == set(store.read(hub.folder(REPO)).files)
    for f in m["files"]:
        data = (out / "models" / "someone--pico" / f["name"]).read_bytes()
        assert (f["size"], f["sha256"]) == (len(data), hashlib.sha256(data).hexdigest()) and data == there.files[f["name"]]
    weights = "model.safetensors"
    assert os.path.samefile(out / "models" / "someone--pico" / weights, hub.folder(REPO) / weights), "links cost no disk"
    assert sorted(p.name for p in out.rglob("*") if p.is_file()) == sorted([*store.read(hub.folder(REPO)).files, "manifest.json"])


def test_where_links_can_not_be_made_the_files_are_copied(there, tmp_path, monkeypatch):
    hub.fetch(REPO, quiet=True)
    monkeypatch.setattr(bundling.os, "link", lambda *a: (_ for _ in ()).throw(PermissionError(1, "no links here")))
    hub.bundle(tmp_path / "fat", [REPO], quiet=True)
    copied = tmp_path / "fat" / "models" / "someone--pico" / "model.safetensors"
    assert copied.read_bytes() == there.files["model.safetensors"] and copied.stat().st_nlink == 1


def test_a_model_that_was_damaged_since_makes_no_bundle(there, tmp_path):
    file = hub.fetch(REPO, quiet=True) / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(WorkFailed, match="model.safetensors of someone/pico is not what was fetched.*models verify"):
        hub.bundle(tmp_path / "stick", [REPO], quiet=True)
    assert not (tmp_path / "stick" / "manifest.json").exists()
    with pytest.raises(UserError, match="was not finished"):
        hub.install(tmp_path / "stick")


def test_an_unfinished_bundle_is_gone_on_with(out, there):
    """The manifest and a file are missing, another is cut off: what is right stays, links or not."""
    folder = out / "models" / "someone--pico"
    (out / "manifest.json").unlink()
    (folder / "tokenizer.json").unlink()
    replace(folder / "model.safetensors", there.files["model.safetensors"][:1000])
    (folder / "config.json.link").write_bytes(b"left by a kill")
    kept = (folder / "vocab.json").stat().st_ino
    hub.bundle(out, [REPO], quiet=True)
    assert hub.read_manifest((out / "manifest.json").read_bytes(), "it").models[0].repo == REPO
    assert (folder / "model.safetensors").read_bytes() == there.files["model.safetensors"]
    assert (folder / "vocab.json").stat().st_ino == kept


def test_a_model_is_added_to_a_bundle_and_a_newer_revision_takes_the_place_of_the_old(out, there):
    second = hub.folder("someone/other")
    shutil.copytree(hub.folder(REPO), second)
    store.write(second, store.Note("someone/other", "a" * 40, None, True, store.read(second).files))
    made = hub.bundle(out, ["someone/other"], quiet=True)
    assert [m.repo for m in made.models] == [REPO, "someone/other"]
    store.write(second, store.Note("someone/other", "b" * 40, None, True, store.read(second).files))
    made = hub.bundle(out, ["someone/other"], quiet=True)
    assert [m.revision for m in made.models] == [SHA, "b" * 40]


@pytest.mark.parametrize(("what", "says"), [
    ("someone/absent", "is not whole on this machine: fetch it first"), ("nonsense", "has the form owner/name")])
def test_what_is_not_here_makes_no_bundle(there, tmp_path, what, says):
    with pytest.raises(UserError, match=says):
        hub.bundle(tmp_path / "stick", [what], quiet=True)
    assert not (tmp_path / "stick").exists()


def test_a_folder_with_a_manifest_of_another_kind_is_not_touched(there, tmp_path):
    hub.fetch(REPO, quiet=True)
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "manifest.json").write_text('{"name": "an app"}')
    with pytest.raises(UserError, match="is no bundle of this course"):
        hub.bundle(tmp_path / "web", [REPO], quiet=True)
    assert (tmp_path / "web" / "manifest.json").read_text() == '{"name": "an app"}'


def test_a_stick_without_room_is_refused_before_anything_is_written(there, tmp_path, monkeypatch):
    hub.fetch(REPO, quiet=True)
    monkeypatch.setattr(bundling, "_on_one_disk", lambda out: False)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda p: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(WorkFailed, match=r"the bundle needs 0\.00 GB of disk, 0\.00 GB are free"):
        hub.bundle(tmp_path / "stick", [REPO], quiet=True)
    assert not (tmp_path / "stick").exists()


@pytest.mark.parametrize(("code", "says"), [(28, "the disk is full.*goes on where it stopped"), (27, "FAT32 ends at 4 GB"),
                                            (30, "can't be written")])
def test_what_the_stick_says_is_explained(there, tmp_path, monkeypatch, code, says):
    hub.fetch(REPO, quiet=True)

    def fails(*a):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(bundling.os, "link", fails)
    monkeypatch.setattr(bundling, "receive", fails)
    with pytest.raises(WorkFailed, match=says):
        hub.bundle(tmp_path / "stick", [REPO], quiet=True)


def test_what_is_installed_is_found_without_any_network(out, elsewhere, there):
    asked = len(there.requests)
    (made,) = hub.install(out, quiet=True)
    assert (made.repo, made.revision, made.path, made.already) == (REPO, SHA, hub.folder(REPO), False)
    assert hub.local(REPO) == hub.fetch(REPO, quiet=True) == made.path
    for name in store.read(made.path).files:
        assert (made.path / name).read_bytes() == there.files[name]
        assert not os.path.samefile(made.path / name, out / "models" / "someone--pico" / name)
    assert hub.verify(REPO, quiet=True).ok and len(there.requests) == asked
    assert hub.install(out, quiet=True)[0].already


def test_an_installation_goes_on_with_what_is_there_and_believes_none_of_it(out, elsewhere, there):
    """Half a file is gone on with; a file of the right size and another content is brought anew; so is a wrong half."""
    folder = hub.folder(REPO)
    folder.mkdir(parents=True)
    weights = there.files["model.safetensors"]
    (folder / "model.safetensors.part").write_bytes(weights[:1_000_000])
    (folder / "config.json").write_bytes(b" " * len(there.files["config.json"]))
    (folder / "tokenizer.json.part").write_bytes(b" " * 1000)
    read = []
    real = sources.Folder.open

    def spy(self, entry, file, start):
        read.append((file.name, start))
        return real(self, entry, file, start)

    sources.Folder.open, keep = spy, sources.Folder.open
    try:
        hub.install(out, quiet=True)
    finally:
        sources.Folder.open = keep
    assert ("model.safetensors", 1_000_000) in read and ("config.json", 0) in read
    assert [start for name, start in read if name == "tokenizer.json"] == [1000, 0]
    assert all((folder / f).read_bytes() == there.files[f] for f in store.read(folder).files)


def test_a_tampered_file_is_not_installed(out, elsewhere):
    file = out / "models" / "someone--pico" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[1_000_000] ^= 1
    replace(file, bytes(data))
    with pytest.raises(WorkFailed, match="model.safetensors of someone/pico differs from what the manifest.*is damaged"):
        hub.install(out, quiet=True)
    assert hub.local(REPO) is None and not (hub.folder(REPO) / "model.safetensors").exists()


@pytest.mark.parametrize(("harm", "says"), [
    (lambda f: f.unlink(), "is missing or can't be read"),
    (lambda f: replace(f, b"short"), "has 5 bytes and not"),
    (lambda f: (f.unlink(), f.symlink_to("/etc/hostname")), "is a link"),
    (lambda f: (f.unlink(), os.mkfifo(f)), "is no file"),
    (lambda f: (f.parent.rename(f.parent.with_name("away")), f.parent.symlink_to("away")), "missing or a link"),
])
def test_a_damaged_bundle_is_refused_before_anything_is_written(out, elsewhere, harm, says):
    harm(out / "models" / "someone--pico" / "vocab.json")
    with pytest.raises(WorkFailed, match=says):
        hub.install(out, quiet=True)
    assert not store.FOLDER.exists()


def _file(body, **values):
    body["models"][0]["files"][0].update(values)


def _model(body, **values):
    body["models"][0].update(values)


@pytest.mark.parametrize(("change", "says"), [
    *[(lambda b, n=n: _file(b, name=n), "is not a file that belongs") for n in (
        "../config.json", "/etc/cron.json", "..\\config.json", "a/b.json", "C:evil.json", "", ".", "..", "x.json\0", "x\n.json",
        "pytorch_model.bin", "evil.py", ".bashrc.json", "gb10-revision.json", "GB10-revision.json", "x.json.part", 7, None,
        "x" * 300 + ".json", "\u202enosj.json")],
    *[(lambda b, n=n: _model(b, repo=n), "is not a model's name") for n in ("../../x", "a/../b", "a", "/a/b", "a\\b/c", 3, None)],
    *[(lambda b, n=n: _file(b, size=n), "impossible size") for n in (-1, 1.5, True, "9", None, 2**60)],
    *[(lambda b, n=n: _file(b, sha256=n), "has no SHA-256") for n in ("", "xyz", "A" * 64, None)],
    *[(lambda b, n=n: _model(b, revision=n), "has no revision") for n in ("", "../x", "a/b", None)],
    (lambda b: b["models"].append(b["models"][0]), "lists a model twice"),
    (lambda b: b["models"][0]["files"].append(b["models"][0]["files"][0]), "lists a file twice"),
    (lambda b: _model(b, files=[]), "lists no files"), (lambda b: b.update(models=[]), "lists no models"),
    (lambda b: b.update(models="x"), "lists no models"),
    (lambda b: _model(b, files=[{"name": "config.json", "size": 1, "sha256": "0" * 64}]), "no safetensors weights"),
    (lambda b: b.update(version=2), "of format version 2, and this course reads 1"),
    (lambda b: b.update(version=True), "of format version"),
    (lambda b: b.update(format="zip"), "is no bundle of this course"),
])
def test_a_manifest_that_can_not_be_trusted_is_refused(change, says):
    body = {"format": "gb10-bundle", "version": 1, "made": "2026-11-27", "course": "0.1.0", "models": [
        {"repo": REPO, "revision": SHA, "files": [{"name": n, "size": 7, "sha256": "0" * 64} for n in (
            "config.json", "model.safetensors")]}]}
    assert hub.read_manifest(json.dumps(body).encode(), "it").models[0].bytes == 14
    change(body)
    with pytest.raises(UserError, match=says) as e:
        hub.read_manifest(json.dumps(body).encode(), "it")
    assert "\n" not in e.value.message


def test_nothing_is_written_for_a_manifest_that_leads_out_of_its_folder(out, elsewhere, tmp_path):
    rewrite(out, lambda b: _file(b, name="../../../escaped.json"))
    with pytest.raises(UserError, match="can't be trusted.*nothing was written"):
        hub.install(out, quiet=True)
    assert not store.FOLDER.exists() and not list(tmp_path.rglob("escaped*"))


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"format": NaN}'])
def test_what_is_no_manifest_is_refused(raw):
    with pytest.raises(UserError, match="is no bundle"):
        manifest.read_manifest(raw, "it")


def test_a_full_disk_is_refused_before_anything_is_written(out, elsewhere, monkeypatch):
    monkeypatch.setattr(store.shutil, "disk_usage", lambda p: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(WorkFailed, match=r"the installation needs 0\.00 GB of disk, 0\.00 GB are free"):
        hub.install(out, quiet=True)
    assert not store.FOLDER.exists()


def test_another_revision_that_works_is_not_written_over(out, elsewhere):
    hub.install(out, quiet=True)
    rewrite(out, lambda b: _model(b, revision="f" * 40))
    with pytest.raises(UserError, match=r"is here at revision 0123456789ab, the bundle has ffffffffffff.*models remove"):
        hub.install(out, quiet=True)
    assert hub.local(REPO)


def test_a_model_that_the_bundle_does_not_hold(out, elsewhere):
    with pytest.raises(UserError, match="doesn't hold a/b: it holds someone/pico"):
        hub.install(out, ["a/b"], quiet=True)


def test_a_link_in_the_stores_place_is_not_written_through(out, elsewhere, tmp_path):
    (tmp_path / "home").mkdir(exist_ok=True)
    hub.folder(REPO).parent.mkdir(parents=True)
    hub.folder(REPO).symlink_to(tmp_path / "home")
    with pytest.raises(UserError, match="is a link to somewhere else"):
        hub.install(out, quiet=True)
    assert not list((tmp_path / "home").iterdir())


def test_a_model_of_the_hugging_face_cache_is_bundled(there, cache, tmp_path, pico):
    snapshot = cached_model(cache, "else/model", pico)
    made = hub.bundle(tmp_path / "stick", ["else/model"], quiet=True)
    assert (made.models[0].repo, made.models[0].revision) == ("else/model", snapshot.name)
    copied = tmp_path / "stick" / "models" / "else--model" / "model.safetensors"
    assert copied.read_bytes() == (pico / "model.safetensors").read_bytes() and not copied.is_symlink()


def test_receive_never_leaves_a_wrong_file_in_place(tmp_path):
    target, data = tmp_path / "x", b"0123456789"
    sha256 = hashlib.sha256(data).hexdigest()

    def source(*pieces, start=None):
        import contextlib

        return lambda have: contextlib.nullcontext((have if start is None else start, pieces))

    with pytest.raises(receive.Incomplete):
        receive.receive(target, 10, sha256, source(b"012", b"34"), lambda n: None)
    assert (tmp_path / "x.part").read_bytes() == b"01234" and not target.exists()
    assert receive.receive(target, 10, sha256, source(b"56789"), lambda n: None) == sha256
    assert target.read_bytes() == data and not (tmp_path / "x.part").exists()
    for pieces in ((b"0123456788",), (b"0123456789", b"x")):
        target.unlink(missing_ok=True)
        with pytest.raises(receive.Differs):
            receive.receive(target, 10, sha256, source(*pieces), lambda n: None)
        assert not list(tmp_path.iterdir())
    (tmp_path / "x.part").write_bytes(b"zz")
    assert receive.receive(target, 10, sha256, source(data, start=0), lambda n: None) == sha256, "a source without ranges"
