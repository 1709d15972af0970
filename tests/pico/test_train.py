"""Training: a toy run as a user calls it, and an interrupted run that goes on as if nothing had happened."""
import csv
import json
import subprocess
import sys

import pytest
import torch

from appendix.pico import data, muon
from appendix.pico.train import Recipe, Trainer

from .conftest import PICO, SMALL_DOCS

TOY = Recipe(steps=12, window=64, windows=2, micro_tokens=64, answer_tokens=128, warmup=2, vocab_size=320, hidden=64,
             layers=1, ffn=64, often=2)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return data.load(tmp_path_factory.mktemp("work"), SMALL_DOCS, smoke=True)


def trainer(corpus, folder, recipe=TOY):
    return Trainer(recipe, corpus, folder, folder / "model", folder / "log.csv")


def test_interrupted_and_resumed_equals_uninterrupted(corpus, tmp_path):
    straight = trainer(corpus, tmp_path / "straight")
    losses = [straight.train_step() for _ in range(10)]
    first = trainer(corpus, tmp_path / "broken")
    for _ in range(6):
        first.train_step()
    first.save()
    first.train_step()                                           # done after the checkpoint, so it is lost
    second = trainer(corpus, tmp_path / "broken")
    assert second.resume() and second.step == 6
    assert [second.train_step() for _ in range(4)] == losses[6:]
    assert any(answer is not None for _, answer in losses[6:])


def test_a_crash_while_writing_keeps_the_previous_checkpoint(corpus, tmp_path, monkeypatch):
    run = trainer(corpus, tmp_path)
    run.train_step()
    run.save()
    run.train_step()
    monkeypatch.setattr(torch, "save", lambda state, path: (path.write_bytes(b"half"), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        run.save()
    again = trainer(corpus, tmp_path)
    assert again.resume() and again.step == 1


def test_another_recipe_is_refused_but_steps_may_change_early(corpus, tmp_path):
    run = trainer(corpus, tmp_path)
    run.train_step()
    run.save()
    with pytest.raises(SystemExit, match="lr_matrix.*--fresh"):
        trainer(corpus, tmp_path, Recipe(**{**vars(TOY), "lr_matrix": 0.1})).resume()
    assert trainer(corpus, tmp_path, Recipe(**{**vars(TOY), "steps": 20})).resume()
    while run.step < 6:
        run.train_step()
    run.save()
    with pytest.raises(SystemExit, match="steps"):
        trainer(corpus, tmp_path, Recipe(**{**vars(TOY), "steps": 20})).resume()


def test_the_schedule_warms_up_and_ends_at_zero():
    r = Recipe(steps=1000)
    assert r.rate(0) == pytest.approx(1 / 50) and r.rate(49) == r.rate(400) == 1.0
    assert r.rate(750) == pytest.approx(0.5) and r.rate(999) < 0.003
    assert [r.row_length(s) for s in (0, 399, 400, 799, 800, 999)] == [256, 256, 512, 512, 1024, 1024]
    assert [r.chat_batches(s) for s in (0, 249, 252, 251, 700)] == [0, 0, 1, 0, 2]


def test_muon_makes_updates_orthogonal():
    torch.manual_seed(0)
    for shape in ((3, 16, 48), (2, 48, 16)):
        values = torch.linalg.svdvals(muon.orthogonalize(torch.randn(shape)))
        assert 0.3 < values.min() and values.max() < 1.4


def test_smoke_as_a_user_runs_it(tmp_path):
    command = [sys.executable, str(PICO / "train.py"), "--smoke", "--work", str(tmp_path), "--docs", str(SMALL_DOCS),
               "--threads", "1", "--device", "cpu", "--steps", "12"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "tokens/s" in done.stdout and "ETA" in done.stdout and "finished at step 12" in done.stdout
    with open(tmp_path / "smoke" / "training_log.csv") as f:
        rows = list(csv.DictReader(f))
    assert float(rows[-1]["text_loss"]) < float(rows[0]["text_loss"])
    config = json.loads((tmp_path / "smoke" / "model" / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    again = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    assert again.returncode == 0 and "resuming at step 12" in again.stdout


def test_help_teaches():
    done = subprocess.run([sys.executable, str(PICO / "train.py"), "--help"], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "--smoke" in done.stdout and "interrupted" in done.stdout


def test_no_documents_is_one_clear_sentence(tmp_path):
    with pytest.raises(SystemExit, match="--docs"):
        data.load(tmp_path, tmp_path)
