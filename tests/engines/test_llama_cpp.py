"""llama.cpp as an optional engine: fetching, unpacking, building, converting and serving, with small stand-ins for the archive,
cmake and llama-server. The real build takes minutes; GB10_TEST_LLAMA=1 runs it where cmake and the network are there."""

import hashlib
import http.server
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time

import pytest

from gb10 import paths
from gb10.engines import llama_cpp
from gb10.engines.llama_cpp import builder, converter, driver, server, source
from gb10.errors import UserError, WorkFailed

# ---------------------------------------------------------------- an archive, and a place to fetch it from


def archive(path, *more):
    """A small archive of the right shape; more: TarInfo members put behind."""
    with tarfile.open(path, "w:gz") as tar:
        files = {"CMakeLists.txt": b"project(x)", "gguf-py/gguf/__init__.py": b"", "../README.md": b"of llama-cpp-python"}
        for name, data in files.items():
            member = tarfile.TarInfo(os.path.normpath(f"{source.INSIDE}/{name}"))
            member.size, member.mtime = len(data), 1_700_000_000
            tar.addfile(member, io.BytesIO(data))
        for member in more:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return path


class Shop(http.server.BaseHTTPRequestHandler):
    """Serves one file, in parts if asked, and stops early if told to."""

    data, stop_after, seen = b"", None, []

    def do_GET(self):
        asked = self.headers.get("Range")
        Shop.seen.append(asked)
        begin = int(asked[len("bytes="):-1]) if asked else 0
        body = self.data[begin:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.stop_after is None else body[:self.stop_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A shop whose archive the pins are set to."""
    Shop.data, Shop.stop_after, Shop.seen = archive(tmp_path / "made.tar.gz").read_bytes(), None, []
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    monkeypatch.setattr(source, "URL", f"http://127.0.0.1:{running.server_port}/llama.tar.gz")
    monkeypatch.setattr(source, "SHA256", hashlib.sha256(Shop.data).hexdigest())
    monkeypatch.setattr(source, "SIZE", len(Shop.data))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield Shop
    running.shutdown()
    running.server_close()


def test_the_archive_is_fetched_once(shop, tmp_path):
    path = source.fetch(tmp_path, quiet=True)
    assert path.read_bytes() == shop.data and shop.seen == [None]
    assert source.fetch(tmp_path, quiet=True) == path and shop.seen == [None]


def test_an_interrupted_download_is_gone_on_with(shop, tmp_path):
    (tmp_path / "llama.tar.gz.part").write_bytes(shop.data[:100])
    assert source.fetch(tmp_path, quiet=True).read_bytes() == shop.data and shop.seen == ["bytes=100-"]


def test_a_download_that_breaks_off_says_so_and_is_kept(shop, tmp_path):
    shop.stop_after = 50
    with pytest.raises(WorkFailed, match="run this again|check the network"):
        source.fetch(tmp_path, quiet=True)
    assert (tmp_path / "llama.tar.gz.part").stat().st_size == 50 and not (tmp_path / "llama.tar.gz").exists()
    shop.stop_after = None
    assert source.fetch(tmp_path, quiet=True).read_bytes() == shop.data


def test_another_file_is_refused_and_deleted(shop, tmp_path):
    shop.data = shop.data[:-1] + b"?"
    with pytest.raises(WorkFailed, match="SHA-256 differs"):
        source.fetch(tmp_path, quiet=True)
    assert not list(tmp_path.glob("llama.tar.gz*"))


def test_no_network_is_said_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "URL", "http://127.0.0.1:9/llama.tar.gz")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(WorkFailed, match="can't be fetched from 127.0.0.1:9"):
        source.fetch(tmp_path, quiet=True)


def test_only_llama_cpps_tree_is_unpacked(tmp_path):
    tree = source.unpack(archive(tmp_path / "a.tar.gz"), tmp_path / "tree")
    assert sorted(p.name for p in tree.iterdir()) == ["CMakeLists.txt", "gguf-py"]
    assert (tree / "CMakeLists.txt").stat().st_mtime == 1_700_000_000


def member(name, kind=tarfile.REGTYPE, size=0, link=""):
    m = tarfile.TarInfo(name)
    m.type, m.size, m.linkname = kind, size, link
    return m


@pytest.mark.parametrize("bad", [member(f"{source.INSIDE}/../../../evil"), member("/etc/evil"),
                                 member(f"{source.INSIDE}/link", tarfile.SYMTYPE, link="/etc/passwd"),
                                 member(f"{source.INSIDE}/hard", tarfile.LNKTYPE, link="/etc/passwd"),
                                 member(f"{source.INSIDE}/device", tarfile.CHRTYPE)], ids=lambda m: m.name.rpartition("/")[2])
def test_an_archive_that_reaches_elsewhere_is_refused(tmp_path, bad):
    with pytest.raises(WorkFailed, match="was not unpacked"):
        source.unpack(archive(tmp_path / "a.tar.gz", bad), tmp_path / "tree")
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar.gz"]


def test_a_bomb_a_stump_and_something_else_are_refused(tmp_path, monkeypatch):
    whole = archive(tmp_path / "a.tar.gz")
    (tmp_path / "b.tar.gz").write_bytes(whole.read_bytes()[:60])
    with pytest.raises(WorkFailed, match="can't be unpacked"):
        source.unpack(tmp_path / "b.tar.gz", tmp_path / "tree")
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz"):
        pass
    with pytest.raises(WorkFailed, match="has no llama_cpp_python"):
        source.unpack(tmp_path / "c.tar.gz", tmp_path / "tree")
    monkeypatch.setattr(source, "UNPACKED", 20)
    with pytest.raises(WorkFailed, match="holds more than"):
        source.unpack(whole, tmp_path / "tree")
    assert not (tmp_path / "tree").exists() and not (tmp_path / "tree.part").exists()


# ---------------------------------------------------------------- building

CMAKE = """#!/usr/bin/env python3
import os, pathlib, sys, time
a = sys.argv[1:]
open(os.environ["TOLD"], "a").write(" ".join(a) + "\\n")
how = os.environ.get("CMAKE_DOES", "well")
if a[0] == "-S":
    pathlib.Path(a[3]).mkdir(); pathlib.Path(a[3], "CMakeCache.txt").write_text("x")
    sys.exit(7 if how == "no compiler" else 0)
print("[ 45%] Building CXX object", flush=True)
if how == "hangs":
    pathlib.Path(os.environ["TOLD"] + ".hangs").touch(); time.sleep(60)
if how == "fails":
    print("error: no such thing"); sys.exit(2)
out = pathlib.Path(a[1], "bin"); out.mkdir()
for name in ("llama-server", "llama-quantize"):
    (out / name).write_text(os.environ.get("PROGRAM", "#!/bin/sh\\n")); (out / name).chmod(0o755)
"""


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A PATH with a cmake of our own and nothing that is missing; returns the file that notes its calls."""
    for name in ("cmake", "c++", "make"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(CMAKE)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.path.dirname(sys.executable)}:/usr/bin:/bin")
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    return tmp_path / "told"


def test_it_is_built_once(shop, tools, tmp_path, capfd):
    home = tmp_path / "home"
    assert not llama_cpp.built(home)
    folder = llama_cpp.build(home=home, jobs=3)
    assert llama_cpp.built(home) and sorted(p.name for p in folder.iterdir()) == [builder.STAMP, "llama-quantize", "llama-server"]
    told = tools.read_text()
    assert "--target llama-server llama-quantize --parallel 3" in told and "-DLLAMA_OPENSSL=OFF" in told
    assert not (home / "build").exists() and "built" in capfd.readouterr().err
    llama_cpp.build(home=home)
    assert tools.read_text() == told and shop.seen == [None]


@pytest.mark.parametrize("lost", ["stamp", "program", "other version"])
def test_what_is_not_whole_or_not_this_version_is_built_again(shop, tools, tmp_path, lost, monkeypatch):
    folder = llama_cpp.build(home=tmp_path / "home", quiet=True)
    if lost == "stamp":
        (folder / builder.STAMP).unlink()
    elif lost == "program":
        (folder / "llama-server").unlink()
    else:
        monkeypatch.setattr(builder, "OPTIONS", (*builder.OPTIONS, "-DNEW=ON"))
    assert not llama_cpp.built(tmp_path / "home")
    llama_cpp.build(home=tmp_path / "home", quiet=True)
    assert llama_cpp.built(tmp_path / "home")


@pytest.mark.parametrize(("how", "said"), [("fails", "error: no such thing"), ("no compiler", "configuring llama.cpp failed")])
def test_a_failed_build_says_why_and_leaves_nothing_that_looks_built(shop, tools, tmp_path, monkeypatch, how, said):
    monkeypatch.setenv("CMAKE_DOES", how)
    with pytest.raises(WorkFailed, match=said):
        llama_cpp.build(home=tmp_path / "home", quiet=True)
    assert not llama_cpp.built(tmp_path / "home")
    monkeypatch.setenv("CMAKE_DOES", "well")
    llama_cpp.build(home=tmp_path / "home", quiet=True)
    assert llama_cpp.built(tmp_path / "home")


def test_an_interrupted_build_ends_its_compiler_and_goes_on_later(shop, tools, tmp_path):
    code = ("from gb10.engines.llama_cpp import builder, source\n"
            f"source.URL, source.SHA256, source.SIZE = {source.URL!r}, {source.SHA256!r}, {source.SIZE}\n"
            f"import pathlib; builder.build(home=pathlib.Path({str(tmp_path / 'home')!r}), quiet=True)")
    proc = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"CMAKE_DOES": "hangs", "PYTHONPATH": str(paths.ROOT)},
                            stderr=subprocess.PIPE)
    hangs = tools.with_name("told.hangs")
    limit = time.monotonic() + 60
    while not hangs.exists() and time.monotonic() < limit:
        time.sleep(0.05)
    proc.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in proc.communicate(timeout=30)[1]
    import psutil

    assert not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or ())]
    assert not llama_cpp.built(tmp_path / "home")
    before = tools.read_text().count("-S ")
    llama_cpp.build(home=tmp_path / "home", quiet=True)
    assert llama_cpp.built(tmp_path / "home") and tools.read_text().count("-S ") == before      # not configured anew


@pytest.mark.parametrize(("gone", "said"), [(("cmake",), "cmake is missing"), (("c++",), "a C\\+\\+ compiler is missing"),
                                            (("cmake", "make"), "cmake and make are missing")])
def test_a_missing_tool_is_said_before_anything_is_fetched(shop, tools, tmp_path, monkeypatch, gone, said):
    for name in gone:
        (tmp_path / "bin" / name).unlink()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=said):
        llama_cpp.build(home=tmp_path / "home")
    assert not shop.seen and not (tmp_path / "home").exists()


def test_a_full_disk_is_said_before_anything_is_fetched(shop, tools, tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "DISK_GB", 1e9)
    with pytest.raises(UserError, match="GB are free"):
        llama_cpp.build(home=tmp_path / "home")
    assert not shop.seen and not (tmp_path / "home").exists()


# ---------------------------------------------------------------- converting

@pytest.fixture
def home(shop, tools, tmp_path):
    """A built llama.cpp that does nothing."""
    llama_cpp.build(home=tmp_path / "home", quiet=True)
    return tmp_path / "home"


def test_picos_tokenizer_is_qwen2s_and_its_rows_suit_q4_k():
    assert driver.pattern(paths.PICO) == driver.QWEN2
    assert converter.indivisible(paths.PICO, 256) is None and converter.indivisible(paths.PICO, 7) is not None


def test_a_tokenizer_of_another_kind_has_another_pattern(tmp_path):
    assert driver.pattern(tmp_path) is None
    file = tmp_path / "tokenizer.json"
    for first, found in (({"type": "ByteLevel"}, None), (None, None), ({"type": "Split", "pattern": {"Regex": "a"}}, "a"),
                         ({"type": "Sequence", "pretokenizers": [{"type": "Digits"}, {"type": "Split", "pattern": {"Regex": "b"}}]}, "b")):
        file.write_text(json.dumps({"pre_tokenizer": first}))
        assert driver.pattern(tmp_path) == found


def test_every_tensor_of_pico_has_a_name_in_gguf_and_back():
    from gb10.engines.model import header

    back = {v: k for k, v in (driver.NAMES | driver.LAYER).items()}
    for name in header(paths.PICO / "model.safetensors"):
        parts = name.removesuffix(".weight").split(".")
        stem = f"blk.{parts[2]}.{back['.'.join(parts[3:])]}" if parts[1] == "layers" else back[".".join(parts)]
        assert driver.renamed(f"{stem}.weight") == name
    for other in ("blk.0.ssm_a.weight", "output.bias", "rope_freqs.weight", "blk.x.attn_q.weight"):
        with pytest.raises(ValueError, match="no tensor of a Qwen3"):
            driver.renamed(other)


def test_what_can_not_be_converted_is_refused(home, tmp_path):
    nvfp4 = shutil.copytree(paths.PICO, tmp_path / "pico-nvfp4")
    (nvfp4 / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "NVFP4"}}')
    for model, kind, said in ((paths.PICO, "Q3", "no GGUF format"), (tmp_path / "no", "Q8_0", "no model folder"),
                              (nvfp4, "Q4_K_M", "quantized already")):
        with pytest.raises(UserError, match=said):
            llama_cpp.convert(model, tmp_path / "x.gguf", kind, home=home)
    with pytest.raises(UserError, match="not built yet"):
        llama_cpp.convert(paths.PICO, tmp_path / "x.gguf", home=tmp_path / "elsewhere")
    assert not (tmp_path / "x.gguf").exists()


def test_a_model_that_brings_code_is_refused(home, tmp_path):
    model = shutil.copytree(paths.PICO, tmp_path / "model")
    settings = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(settings | {"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(UserError, match="code of its own"):
        llama_cpp.convert(model, tmp_path / "x.gguf", home=home)


def test_rows_that_blocks_do_not_divide_are_refused(home, tmp_path, monkeypatch):
    monkeypatch.setitem(converter.ROW, "Q4_K_M", 512)
    with pytest.raises(UserError, match="blocks of 512 weights"):
        llama_cpp.convert(paths.PICO, tmp_path / "x.gguf", home=home)


def test_a_failed_conversion_leaves_no_file(home, tmp_path, monkeypatch):
    with pytest.raises(WorkFailed, match="The whole log"):
        llama_cpp.convert(paths.PICO, tmp_path / "out" / "x.gguf", home=home)      # that tree has no converter
    assert not list((tmp_path / "out").iterdir())


# ---------------------------------------------------------------- serving

PROGRAM = f"""#!{sys.executable}
import runpy, sys
a = sys.argv
sys.argv = ["fake", a[a.index("--port") + 1], "good", a[a.index("--alias") + 1]]
runpy.run_path({str(paths.ROOT / "tests/engines/fake_engine.py")!r}, run_name="__main__")
"""


@pytest.fixture
def serving(shop, tools, tmp_path, monkeypatch, notes):
    """A built llama.cpp whose server is the tests' fake engine, and a file that begins as a GGUF."""
    monkeypatch.setenv("PROGRAM", PROGRAM)
    llama_cpp.build(home=tmp_path / "home", quiet=True)
    gguf = tmp_path / "pico-q4.gguf"
    gguf.write_bytes(b"GGUF\x03\0\0\0" + bytes(24))
    return gguf, tmp_path / "home"


def test_it_serves_and_stops(serving, port):
    gguf, home = serving
    with llama_cpp.serve(gguf, home=home, port=port, quiet=True) as server:
        assert (server.engine, server.model, server.url) == ("llama.cpp", "pico-q4", f"http://127.0.0.1:{port}/v1")
        assert server.client.completions.create(model="pico-q4", prompt="x").choices[0].text == "hello"
    assert not server.alive


def test_it_ends_with_the_process_that_started_it(serving, port, notes):
    gguf, home = serving
    code = ("import os, pathlib, time; from gb10.engines import llama_cpp, state; from gb10.engines.llama_cpp import source\n"
            f"source.SHA256 = {source.SHA256!r}\n"
            f"state.FOLDER = pathlib.Path({str(notes)!r})\n"
            f"s = llama_cpp.serve({str(gguf)!r}, home=pathlib.Path({str(home)!r}), port={port}, quiet=True)\n"
            "print(s.pid, flush=True); time.sleep(60)")
    proc = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(paths.ROOT)})
    import psutil

    pid = int(proc.stdout.readline())
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    assert len(family) == 2                     # the one that watches, and the server
    proc.kill()
    proc.wait()
    proc.stdout.close()
    _, alive = psutil.wait_procs(family, timeout=15)
    assert not alive


def test_what_is_no_gguf_is_refused(serving, tmp_path):
    _, home = serving
    (tmp_path / "text.gguf").write_text("hello, world")
    (tmp_path / "short.gguf").write_bytes(b"GGUF")
    for name, said in (("text.gguf", "no GGUF file"), ("short.gguf", "no GGUF file"), ("missing.gguf", "there is no file")):
        with pytest.raises(UserError, match=said):
            llama_cpp.serve(tmp_path / name, home=home)
    with pytest.raises(UserError, match="not built yet"):
        llama_cpp.serve(serving[0], home=tmp_path / "elsewhere")


def test_the_cause_of_a_death_is_told(tmp_path):
    log = tmp_path / "log"
    for text, said in (("couldn't bind HTTP server socket, hostname: 127.0.0.1", "another program took the port"),
                       ("llama_model_load: error loading model: tensor", "it can't load this file")):
        log.write_text(text)
        assert said in server.cause(log)
    log.write_text("all is well")
    assert server.cause(log) is None and server.cause(tmp_path / "none") is None


# ---------------------------------------------------------------- the real thing

@pytest.mark.skipif(not os.environ.get("GB10_TEST_LLAMA"), reason="builds llama.cpp, minutes: GB10_TEST_LLAMA=1")
def test_the_real_one_converts_and_serves_pico(tmp_path, notes):
    llama_cpp.build(quiet=True)
    gguf = llama_cpp.convert(paths.PICO, tmp_path / "pico.gguf", quiet=True)
    from safetensors.numpy import load_file

    numbers, original = load_file(llama_cpp.dequantize(gguf, tmp_path / "w.safetensors")), paths.PICO / "model.safetensors"
    from safetensors.torch import load_file as load_torch

    for name, weight in load_torch(original).items():
        error = abs(numbers[name] - weight.float().numpy()).max()
        assert numbers[name].shape == tuple(weight.shape) and error < 0.15 * weight.float().abs().max(), name
    with llama_cpp.serve(gguf, quiet=True) as running:
        answer = running.client.chat.completions.create(model=running.model, max_tokens=16, temperature=0,
                                                        messages=[{"role": "user", "content": "What does os.path.join do?"}])
        assert answer.choices[0].message.content
