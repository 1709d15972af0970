"""./course quantize as a user or a script calls it."""

import json

from gb10.paths import PICO


def test_pico_becomes_four_bits(course, tmp_path):
    out = tmp_path / "out"
    p = course("quantize", str(PICO), str(out))
    assert p.returncode == 0 and "42 weights in NVFP4" in p.stdout and "11.54 MB became 4.78 MB" in p.stdout
    found = json.loads(course("inspect", str(out), "--json").stdout)
    assert not found["warnings"] and {f["format"] for f in found["formats"]} == {"NVFP4", "BF16"}
    again = course("quantize", str(PICO), str(out))
    assert again.returncode == 2 and "--force" in again.stderr and again.stderr.count("\n") == 1
    assert course("quantize", str(PICO), str(out), "--force").returncode == 0


def test_for_a_script(course, tmp_path):
    p = course("quantize", str(PICO), str(tmp_path / "out"), "--json", "--threads", "1")
    found = json.loads(p.stdout)
    assert p.stderr == "" and found["recipe"] == "w4a16" and found["quantized"] == 42 and found["kept"] == 26
    assert found["written_bytes"] == (tmp_path / "out" / "model.safetensors").stat().st_size
    assert found["planned_by"] == "rules" and found["bytes_per_s"] > 0 and found["peak_rss_bytes"] < 1e9


def test_a_dry_run_writes_nothing(course, tmp_path):
    for flags in ((), ("--recipe", "nvfp4")):
        p = course("quantize", str(PICO), str(tmp_path / "out"), "--dry-run", *flags)
        assert p.returncode == 0 and p.stdout.startswith("would ")
    assert [p.name for p in tmp_path.iterdir()] == ["home"], "and that is the tests' own"
    found = json.loads(course("quantize", str(PICO), str(tmp_path / "out"), "--dry-run", "--json").stdout)
    assert found["written_bytes"] == 4775888 and found["files"] == ["model.safetensors"]


def test_the_recipes(course):
    p = course("quantize", "--list")
    assert p.returncode == 0 and p.stdout.startswith("w4a16 ") and "checkpoint NVFP4" in p.stdout
    found = json.loads(course("quantize", "--list", "--json").stdout)
    assert found["w4a16"]["quant_algo"] == "W4A16_NVFP4" and found["nvfp4"]["calibrates"]
    assert all(r["source"].startswith("https://") and r["when"] for r in found.values())


def test_what_makes_no_sense(course, tmp_path):
    here = (str(PICO), str(tmp_path / "out"))
    for argv, words in (((), "which model"), ((str(PICO),), "where to"), ((*here, "--recipe", "nvfp"), "did you mean 'nvfp4'"),
                        ((*here, "--calib", "0"), "--calib is a number"), ((*here, "--kv", "int3"), "--kv is one of"),
                        ((*here, "--threads", "2", "--recipe", "nvfp4"), "belongs to the stream"),
                        (("Nobody/nothing", str(tmp_path / "out")), "hf download"),
                        (("/nowhere", str(tmp_path / "out")), "not a folder"),
                        ((*here, "--recipe", "nvfp4", "--calib-data", "/nowhere.txt"), "can't be read as text"),
                        ((*here, "--speed"), "unrecognized")):
        p = course("quantize", *argv)
        assert p.returncode == 2 and words in p.stderr and p.stderr.count("\n") == 1, (argv, p.stderr)
    assert [p.name for p in tmp_path.iterdir()] == ["home"], "and that is the tests' own"
