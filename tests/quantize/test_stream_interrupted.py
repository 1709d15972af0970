"""A stream that is killed, stopped or doubled: whole in the end, or not there, and the same bytes."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import architectures
import pytest

from gb10.errors import UserError, WorkFailed
from gb10.quantize.streaming import encode, journal
from gb10.quantize.streaming.run import stream

FILE = "model.safetensors"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return architectures.save("qwen3", tmp_path_factory.mktemp("interrupted") / "model")


@pytest.fixture(scope="module")
def want(model, tmp_path_factory):
    return (stream(model, tmp_path_factory.mktemp("want") / "out").folder / FILE).read_bytes()


def killed_after(steps, model, out, number=signal.SIGKILL):
    """Run the stream in a process that sends itself a signal after so many steps of progress; its exit code."""
    code = textwrap.dedent(f"""
        import os, sys
        from gb10.quantize.streaming.run import stream
        left = [{steps}]
        def progress(done, total):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), {int(number)})
        made = stream({str(model)!r}, {str(out)!r}, progress=progress, threads=2)
        print(made.resumed_bytes)
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_killed_again_and_again(model, want, tmp_path):
    out, chance, resumed = tmp_path / "out", random.Random(5), 0
    for _ in range(40):
        code, printed = killed_after(chance.randint(2, 25), model, out)
        if code == 0:
            resumed = int(printed)
            break
        assert code == -signal.SIGKILL
        assert not out.exists(), "a folder that isn't whole must not stand there"
        assert not any(p.suffix == ".safetensors" for p in tmp_path.rglob("*")), "nor look whole where it grows"
    assert code == 0 and resumed > 0, "each run has to add to the one before"
    assert (out / FILE).read_bytes() == want
    assert [p.name for p in tmp_path.iterdir()] == ["out"] and not (out / journal.MARK).exists()


def test_killed_while_an_earlier_checkpoint_is_there(model, want, tmp_path):
    out = stream(model, tmp_path / "out").folder
    (out / "mark").write_text("of the first")
    code, _ = killed_after(10, model, out)
    assert code == 1, "without force it is refused, and the earlier one stays"
    assert (out / "mark").exists()


def test_an_earlier_checkpoint_is_replaced_in_one_step(model, want, tmp_path, monkeypatch):
    """Killed at any moment: either checkpoint stands there, whole, and what is left over the next run removes."""
    out = stream(model, tmp_path / "out").folder
    (out / "mark").write_text("of the first")

    def killed(folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(journal.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            stream(model, out, force=True)
    assert (out / FILE).read_bytes() == want and not (out / "mark").exists()
    assert (tmp_path / ".out.partial" / "mark").exists()
    stream(model, out, force=True)
    assert (out / FILE).read_bytes() == want and [p.name for p in tmp_path.iterdir()] == ["out"]
    assert not (out / journal.MARK).exists()


def test_where_two_folders_cannot_change_places(model, want, tmp_path, monkeypatch):
    out = stream(model, tmp_path / "out").folder
    (out / "mark").write_text("of the first")
    monkeypatch.setattr(journal, "_exchange", lambda a, b: False)
    stream(model, out, force=True)
    assert (out / FILE).read_bytes() == want and [p.name for p in tmp_path.iterdir()] == ["out"]
    assert not (out / "mark").exists()


@pytest.mark.parametrize("what", ["folder", "file", "link"])
def test_what_is_not_ours_is_left_alone(what, model, tmp_path):
    there = tmp_path / ".out.partial"
    if what == "folder":
        there.mkdir()
        (there / "diary.txt").write_text("rain")
    elif what == "file":
        there.write_text("rain")
    else:
        there.symlink_to(tmp_path)
    with pytest.raises(UserError, match="in the way|can't be made"):
        stream(model, tmp_path / "out")
    assert there.is_symlink() or (there / "diary.txt" if what == "folder" else there).read_text() == "rain"


def interrupted(model, out, monkeypatch):
    """Leave a run that got through a part of its groups."""
    def progress(done, total):
        if done > total * 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream(model, out, progress=progress, threads=1)
    folder = journal.hidden(out)
    assert (folder / journal.NAME).read_text().count("\n") > 3
    return folder


def test_it_goes_on(model, want, tmp_path, monkeypatch):
    folder = interrupted(model, tmp_path / "out", monkeypatch)
    with (folder / journal.NAME).open("a") as f:
        f.write("[1")                                # a line that was cut off is no line
    made = stream(model, tmp_path / "out")
    assert 0 < made.resumed_bytes < made.read_bytes and (made.folder / FILE).read_bytes() == want


@pytest.mark.parametrize("what", ["the machine was restarted", "the model changed", "a file is missing",
                                  "a file is shorter", "the journal is broken"])
def test_it_begins_anew_where_it_cannot_be_sure(what, model, want, tmp_path, monkeypatch):
    folder = interrupted(model, tmp_path / "out", monkeypatch)
    grown = folder / journal.partial(FILE)
    grown.write_bytes(b"\xff" * grown.stat().st_size)          # as after a loss of power: nothing of it may be trusted
    if what == "the machine was restarted":
        monkeypatch.setattr(journal, "_boot", lambda: "another")
    elif what == "the model changed":
        os.utime(model / FILE)
    elif what == "a file is missing":
        grown.unlink()
    elif what == "a file is shorter":
        os.truncate(grown, 100)
    else:
        (folder / journal.NAME).write_text("{")
    made = stream(model, tmp_path / "out")
    assert made.resumed_bytes == 0 and (made.folder / FILE).read_bytes() == want


def test_the_gate_above_can_fail(model, want, tmp_path, monkeypatch):
    """Broken bytes behind an intact journal would be taken: the journal is what decides."""
    folder = interrupted(model, tmp_path / "out", monkeypatch)
    grown = folder / journal.partial(FILE)
    grown.write_bytes(b"\xff" * grown.stat().st_size)
    assert (stream(model, tmp_path / "out").folder / FILE).read_bytes() != want


def test_two_at_once(model, tmp_path):
    out, states = tmp_path / "out", []

    def progress(done, total):
        if not states:
            states.append(True)
            with pytest.raises(UserError, match="another run"):
                stream(model, out)

    stream(model, out, progress=progress)
    assert states and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_refusal_keeps_what_an_earlier_run_had_done(model, tmp_path, monkeypatch):
    import shutil

    folder = interrupted(model, tmp_path / "out", monkeypatch)
    with monkeypatch.context() as m:
        m.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))
        with pytest.raises(UserError, match="free there"):
            stream(model, tmp_path / "out")
    assert folder.exists() and stream(model, tmp_path / "out").resumed_bytes > 0


def test_a_disk_that_fills_up_meanwhile(model, want, tmp_path, monkeypatch):
    real, left = os.pwrite, [20]

    def pwrite(*args):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return real(*args)

    with monkeypatch.context() as m:
        m.setattr(os, "pwrite", pwrite)
        with pytest.raises(WorkFailed, match="No space left"):
            stream(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert (stream(model, tmp_path / "out").folder / FILE).read_bytes() == want


def test_a_file_that_shrinks_meanwhile(tmp_path, monkeypatch):
    source = architectures.save("qwen3", tmp_path / "model")

    def progress(done, total):
        if done == 0:
            os.truncate(source / FILE, 2000)

    with pytest.raises(WorkFailed, match="became shorter"):
        stream(source, tmp_path / "out", progress=progress)
    assert not (tmp_path / "out").exists()


def test_ctrl_c_on_the_command(model, want, tmp_path):
    """A checkpoint of some size, so that there is time to press it."""
    big = tmp_path / "big"
    make_big(big)
    argv = [sys.executable, "-m", "gb10", "quantize", str(big), str(tmp_path / "out"), "--threads", "1"]
    for _ in range(5):
        process = subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while not (tmp_path / ".out.partial" / journal.NAME).exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        if process.returncode == 130:
            break
        subprocess.run(["rm", "-r", str(tmp_path / "out")], check=True)          # it was faster
    assert process.returncode == 130 and "goes on" in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()
    done = subprocess.run([*argv, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["quantized"] == 14
    assert stream(big, tmp_path / "again").folder.joinpath(FILE).read_bytes() == (tmp_path / "out" / FILE).read_bytes()


def make_big(folder):
    """150 MB, of which nearly all is one layer's matrices."""
    import torch
    from safetensors.torch import save_file

    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048, "intermediate_size": 4096,
              "num_hidden_layers": 2, "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 256,
              "torch_dtype": "bfloat16"}
    h, f = 2048, 4096
    tensors = {"model.embed_tokens.weight": (256, h), "model.norm.weight": (h,), "lm_head.weight": (256, h)}
    for i in range(2):
        at = f"model.layers.{i}."
        tensors |= {at + "input_layernorm.weight": (h,), at + "post_attention_layernorm.weight": (h,),
                    at + "self_attn.q_proj.weight": (h, h), at + "self_attn.k_proj.weight": (h // 2, h),
                    at + "self_attn.v_proj.weight": (h // 2, h), at + "self_attn.o_proj.weight": (h, h),
                    at + "mlp.gate_proj.weight": (f, h), at + "mlp.up_proj.weight": (f, h), at + "mlp.down_proj.weight": (h, f)}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(0)
    save_file({n: (torch.randn(s, generator=generator) * .02).bfloat16() for n, s in tensors.items()}, folder / FILE)
    return folder


@pytest.mark.parametrize("threads", [2, 24])
def test_memory_does_not_grow_with_the_model(threads, tmp_path):
    """Far less than the 2 GB that are promised, and most of it Python itself; with as many threads as a Spark has, too."""
    make_big(tmp_path / "model")
    done = subprocess.run([sys.executable, "-m", "gb10", "quantize", str(tmp_path / "model"), str(tmp_path / "out"),
                           "--json", "--threads", str(threads)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["peak_rss_bytes"] < 2e9 / 3


def test_threads_share_what_there_is():
    for threads in (1, 2, 20, 72, 500):
        one = encode.Encoder(lambda name: 0, threads=threads)
        assert one.remembered * threads <= encode.ALL_REMEMBERED and one.window % (encode.STRETCH * 16 * 4) == 0
        assert one.window * threads <= encode.WINDOWS or one.window == encode.STRETCH * 16 * 4
    assert encode.Encoder(lambda name: 0, threads=20).remembered >= 2 * 12288 * 4096 // 16, "Qwen3-8B's gate and up"
