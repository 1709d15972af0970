"""The stream itself: every group of weights in turn, by as many threads as there are cores."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from gb10.errors import UserError, WorkFailed
from gb10.quantize.inside.header import TensorInfo
from gb10.quantize.streaming import layout as layouts
from gb10.quantize.streaming.encode import Encoder, Files, Unusable
from gb10.quantize.streaming.journal import NAME, Journal, hidden, partial
from gb10.quantize.streaming.layout import Layout
from gb10.quantize.streaming.plan import Plan, quantization, quantization_config
from gb10.quantize.streaming.planning import make_plan
from gb10.quantize.streaming.source import Source, read_source

Progress = Callable[[int, int], None]  # (bytes of the source that are done, all of them), from any thread
Work = Callable[["Job", Journal, Progress | None], None]
SPARE_DISK = 64 << 20                  # bytes left free
_NOT_COPIED = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf", ".onnx", ".py", ".pyc", ".pkl",
               ".joblib", ".npz", ".npy", ".partial", ".incomplete", ".part", ".zip", ".gz", ".tar")
_REWRITTEN = {"config.json", "hf_quant_config.json", "model.safetensors.index.json", "pytorch_model.bin.index.json",
              NAME, "README.md"}       # a model card is of that model
SMALL = 256 << 20                      # bytes of the largest file that is taken along: tokenizers, licences, templates


@dataclass(frozen=True)
class Job:
    """A run, worked out: nothing is written yet."""

    source: Source
    plan: Plan
    layout: Layout
    groups: list[tuple[str, ...]] = field(default_factory=list)        # those to quantize, then the tensors to copy

    @property
    def read_bytes(self) -> int:
        return sum(self.source.tensors[name].bytes for group in self.groups for name in group)


@dataclass(frozen=True)
class Streamed:
    """What was made of what, and how fast."""

    folder: Path
    read_bytes: int
    written_bytes: int
    seconds: float
    quantized: int                     # weights
    kept: int                          # tensors that were copied
    left: tuple[str, ...]              # tensors that the export has not
    zero: tuple[str, ...]              # weights that are all zero
    resumed_bytes: int                 # of the source that an earlier run had done

    @property
    def rate(self) -> float:
        """Bytes of the source per second, of what this run did itself."""
        return (self.read_bytes - self.resumed_bytes) / self.seconds if self.seconds else 0.0


def prepare(model: str | Path) -> Job:
    """Read the headers of a checkpoint folder and plan. Raises UserError for what can't be streamed."""
    source = read_source(model)
    plan = make_plan(source)
    # The big ones first: the last threads then wait for small ones only.
    groups = sorted((*plan.groups, *((name,) for name in plan.kept)),
                    key=lambda g: -sum(source.tensors[n].bytes for n in g))
    return Job(source, plan, layouts.lay_out(source, plan), groups)


def stream(model: str | Path | Job, out: str | Path, *, force: bool = False, threads: int | None = None,
           progress: Progress | None = None, durable: bool = False, by: Work | None = None) -> Streamed:
    """Quantize a checkpoint folder to weight-only NVFP4, as ModelOpt's W4A16_NVFP4 export: same tensors, same bytes.

    out: a folder that isn't there yet; with force it may hold an earlier checkpoint, which is replaced at the end. Beside
    it lies `.NAME.partial` while the run lasts; after an interruption the same call goes on where that stopped.
    threads: one for each core if left out. progress(done, total) is called with bytes of the source, from any thread.
    durable: return only once the disk has everything (fsync); otherwise the system writes it out in its own time.
    by: who does the work; the threads of this process if left out (cluster.py has another).
    Raises UserError for a wrong request (nothing is written), WorkFailed if the work can't be finished.
    """
    job = model if isinstance(model, Job) else prepare(model)
    out = Path(os.path.abspath(out))
    refuse_out(job.source.folder, out, force)
    journal = Journal(out, {"made": "w4a16 stream 1", "source": job.source.fingerprint, "plan": job.plan.digest()})
    started = time.perf_counter()
    try:
        refuse_full_disk(job, out, journal)
        journal.start(job.layout.sizes, job.layout.headers)
        resumed = sum(job.source.tensors[n].bytes for i in journal.done for n in job.groups[i])
        write_beside(job, journal.folder)
        (by or Threads(threads or cores()))(job, journal, progress)
        if durable:
            _sync(journal.folder)
        journal.finish(job.layout.sizes)
        if durable:
            _sync_folder(out.parent)
    except Unusable:
        journal.close(keep=False)                    # the next run would fail at the same weight
        raise
    except UserError:
        journal.close(keep=bool(journal.done))       # what an earlier run had done is not lost
        raise
    except OSError as e:
        raise WorkFailed(f"{e.strerror or e}{f': {e.filename}' if e.filename else ''}. What is done is kept: the same "
                         f"command goes on.") from e
    finally:
        journal.close()
    return Streamed(out, job.read_bytes, job.layout.nbytes, time.perf_counter() - started, len(job.plan.quantized),
                    len(job.plan.kept), job.plan.left,
                    tuple(sorted(name for names in journal.zero.values() for name in names)), resumed)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Output:
    """The files that grow, and how much of the source they hold by now."""

    def __init__(self, job: Job, journal: Journal, progress: Progress | None):
        self.job, self.journal, self.progress = job, journal, progress
        self.todo = [i for i in range(len(job.groups)) if i not in journal.done]
        self.quantized = frozenset(job.plan.quantized)
        self.total = job.read_bytes
        self.done = self.total - sum(self.bytes_of(i) for i in self.todo)
        self.lock, self.files = threading.Lock(), Files(journal.folder, os.O_WRONLY)
        self.count(0)

    def infos(self, i: int) -> list[TensorInfo]:
        return [self.job.source.tensors[name] for name in self.job.groups[i]]

    def bytes_of(self, i: int) -> int:
        return sum(info.bytes for info in self.infos(i))

    def write(self, name: str, at: int, data: memoryview) -> None:
        place = self.job.layout.places[name]
        fd, position = self.files(partial(place.file)), place.offset + at
        while data:
            n = os.pwrite(fd, data, position)
            data, position = data[n:], position + n

    def count(self, n: int) -> None:
        with self.lock:
            self.done += n
            done = self.done
        if self.progress:
            self.progress(done, self.total)


class Threads:
    """The groups of a job, shared out over threads; the first failure, or Ctrl-C, stops them all."""

    def __init__(self, threads: int):
        self.threads = threads

    def __call__(self, job: Job, journal: Journal, progress: Progress | None) -> None:
        out, source, stopped = Output(job, journal, progress), Files(job.source.folder), threading.Event()
        mine = threading.local()

        def stop() -> None:
            if stopped.is_set():
                raise WorkFailed("stopped.")

        def one(i: int) -> None:
            if not hasattr(mine, "encoder"):
                mine.encoder = Encoder(source, out.count, stop, self.threads)
            infos, zero = out.infos(i), []
            if infos[0].name in out.quantized:
                zero = mine.encoder.group(infos, out.write)
            else:
                mine.encoder.copy(infos[0], out.write, job.plan.cast.get(infos[0].name))
            journal.note(i, zero)

        try:
            with ThreadPoolExecutor(self.threads, "gb10-stream") as pool:
                futures = [pool.submit(one, i) for i in out.todo]
                try:
                    for future in futures:
                        future.result()
                except BaseException:
                    stopped.set()
                    pool.shutdown(wait=True, cancel_futures=True)
                    raise
        finally:
            source.close()
            out.files.close()


# ---------------------------------------------------------------- before and after

def refuse_out(model: Path, out: Path, force: bool) -> None:
    """UserError where a checkpoint can't go to `out`; nothing is changed."""
    from gb10.quantize.checkpoint import is_checkpoint

    if not out.name:
        raise UserError(f"{out} can't be replaced by a checkpoint: name a folder in it.")
    here, there = model.resolve(), out.resolve()
    if here == there or here in there.parents or there in here.parents or hidden(there) in (here, *here.parents):
        raise UserError(f"{out} is the model itself, lies in it, or holds it: name another folder.")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UserError(f"{out} is not a folder: name a new one, or that of an earlier checkpoint.")
    if out.is_dir() and any(out.iterdir()):
        if not is_checkpoint(out):
            raise UserError(f"{out} is not empty and holds no checkpoint; it is left as it is: name another folder.")
        if not force:
            raise UserError(f"{out} holds a checkpoint already: --force replaces it, './course inspect {out}' shows what "
                            f"it is.")


def refuse_full_disk(job: Job, out: Path, journal: Journal) -> None:
    there = sum(f.stat().st_blocks * 512 for f in journal.folder.iterdir() if f.is_file())
    free = shutil.disk_usage(out.parent).free + there
    if job.layout.nbytes + SPARE_DISK > free:
        raise UserError(f"{out} would take {job.layout.nbytes / 1e6:,.1f} MB, {SPARE_DISK / 1e6:.0f} MB are left free, and "
                        f"{free / 1e6:,.1f} MB are free there: make room, or name a folder on another disk.")


def write_beside(job: Job, folder: Path) -> None:
    """config.json with the quantization in it, hf_quant_config.json, the index, and what lies beside the weights."""
    for path in sorted(job.source.folder.iterdir()):
        if path.name not in _REWRITTEN and path.is_file() and path.suffix not in _NOT_COPIED \
                and not path.name.startswith(".") and path.stat().st_size <= SMALL:
            shutil.copyfile(path, folder / path.name)
    index = layouts.index(job.layout)
    if index is not None:
        _dump(folder / "model.safetensors.index.json", index, 2)
    _dump(folder / "hf_quant_config.json", quantization(job.plan), 4)
    config = dict(job.source.config)
    theta = (config.get("rope_parameters") or {}).get("rope_theta") if isinstance(config.get("rope_parameters"), dict) else None
    if theta is not None:
        config.setdefault("rope_theta", theta)       # where loaders older than transformers 5 look for it
    _dump(folder / "config.json", {**config, "quantization_config": quantization_config(job.plan)}, 2)


def _dump(path: Path, what: dict, indent: int) -> None:
    path.write_text(json.dumps(what, indent=indent) + ("\n" if indent == 2 else ""), encoding="utf-8")


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):       # some file systems can't
            os.fsync(fd)
    finally:
        os.close(fd)
