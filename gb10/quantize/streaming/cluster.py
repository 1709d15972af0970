"""The stream, spread over the machines of a Ray cluster: each group of weights is a task, the bytes are the same.

The model must lie at the same path on every machine (a shared folder, or the same download); what a worker reads is held
against samples of this machine's copy. Workers send back what they made, 28 % of what they read, and this machine writes
it: no folder has to be shared for the output. A worker that dies has its group done again by another one.

Two Sparks: `ray start --head --node-ip-address A` on one, `ray start --address A:6379` on the other, both from the course's
environment; then `./course quantize MODEL OUT --ray` on the one that is to have the result. Ray asks nobody for a
password: start it in a network of your own, such as the cable between two Sparks.
"""

from __future__ import annotations

import contextlib
import os
import socket
import zlib
from pathlib import Path

from gb10.errors import CourseError, UserError, WorkFailed
from gb10.quantize.inside.header import TensorInfo
from gb10.quantize.streaming.encode import Encoder, Files
from gb10.quantize.streaming.journal import Journal
from gb10.quantize.streaming.layout import parts
from gb10.quantize.streaming.run import Job, Output, Progress, Streamed, stream

AHEAD = 2                              # tasks in flight for each core of the cluster
RETRIES = 5                            # how often a group is tried anew when its worker or machine dies
SAMPLE = 4096                          # bytes at the start, middle and end of a tensor


def stream_on_ray(job: Job, out: str | Path, *, address: str = "auto", force: bool = False, durable: bool = False,
                  progress: Progress | None = None) -> Streamed:
    """`stream` by the workers of a Ray cluster. address: as `ray.init` takes it; "local" starts one on this machine.

    Raises UserError without Ray or without a cluster at that address.
    """
    with _connected(address):
        return stream(job, out, force=force, durable=durable, progress=progress, by=_spread)


def _spread(job: Job, journal: Journal, progress: Progress | None) -> None:
    """Tensors that stay are copied here, meanwhile; groups go out, and what comes back is written."""
    import ray

    task = ray.remote(max_retries=RETRIES, num_cpus=1, scheduling_strategy="SPREAD")(quantize_group)
    out, source = Output(job, journal, progress), Files(job.source.folder)
    encoder, kept, flying = Encoder(source, out.count), [], {}
    waiting = []
    for i in out.todo:
        (waiting if out.infos(i)[0].name in out.quantized else kept).append(i)
    waiting.reverse()
    most = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
    try:
        while waiting or kept or flying:
            while waiting and len(flying) < most:
                i = waiting.pop()
                infos = out.infos(i)
                samples = [sample(source(t.file), t) for t in infos]
                flying[task.remote(str(job.source.folder), infos, samples, code_version())] = i
            if kept:                             # one at a time, between looks at what has come back
                i = kept.pop()
                info = out.infos(i)[0]
                encoder.copy(info, out.write, job.plan.cast.get(info.name))
                journal.note(i)
            ready, _ = ray.wait(list(flying), timeout=0 if kept else None) if flying else ([], [])
            for reference in ready:
                i = flying.pop(reference)
                made, empty = _result(reference)
                for name, data in made.items():
                    out.write(name, 0, memoryview(data).cast("B"))
                out.count(out.bytes_of(i))
                journal.note(i, empty)
                del made
    finally:
        source.close()
        out.files.close()


def quantize_group(folder: str, infos: list[TensorInfo], samples: list[int], version: str) -> tuple[dict, list[str]]:
    """(name -> bytes of each part, names of all-zero weights) of one group: what a worker does."""
    import numpy as np

    where = socket.gethostname()
    if code_version() != version:
        raise WorkFailed(f"the course on {where} is another version than here: bring all machines to the same one.")
    files = Files(folder)
    try:
        with _readable(folder, where):
            for info, want in zip(infos, samples, strict=True):
                if sample(files(info.file), info) != want:
                    raise WorkFailed(f"{folder} on {where} holds another model, or another revision: {info.name} differs.")
            made = {t.name: np.empty(t.bytes, np.uint8) for info in infos for t in parts(info)}

            def write(name: str, at: int, data: memoryview) -> None:
                made[name][at:at + len(data)] = data

            return made, Encoder(files).group(infos, write)
    finally:
        files.close()


@contextlib.contextmanager
def _readable(folder: str, where: str):
    try:
        yield
    except OSError as e:
        raise WorkFailed(f"{folder} can't be read on {where} ({e.strerror}): the model has to lie at the same path on every "
                         f"machine of the cluster.") from None


def sample(fd: int, info: TensorInfo) -> int:
    """A checksum of some of a tensor's bytes: enough to tell two models apart."""
    made = 0
    for at in (0, max(0, info.bytes // 2), max(0, info.bytes - SAMPLE)):
        made = zlib.crc32(os.pread(fd, min(SAMPLE, info.bytes - at), info.offset + at), made)
    return made


def code_version() -> str:
    """What all machines must agree on, so that the bytes are the same: the course's version, and the codec's code."""
    from gb10 import __version__
    from gb10.formats import kernels

    made, folder = 0, Path(kernels.__file__).parent
    for name in ("loops.py", "plain.py", "vectors.py"):
        made = zlib.crc32((folder / name).read_bytes(), made)
    return f"{__version__}-{made:08x}"


def _result(reference):
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as e:
        cause = e.cause
        while isinstance(cause, ray.exceptions.RayTaskError):
            cause = cause.cause
        if isinstance(cause, CourseError):
            raise type(cause)(cause.message) from None
        raise WorkFailed(f"a worker failed: {' '.join(str(cause).split())[:300]}") from None
    except ray.exceptions.RayError as e:         # its worker or machine died, and so did those that tried again
        raise WorkFailed(f"workers of the cluster died {RETRIES + 1} times over one group of weights "
                         f"({type(e).__name__}); what is done is kept: the same command goes on.") from None


@contextlib.contextmanager
def _connected(address: str):
    try:
        import ray
    except ImportError:
        raise UserError("--ray needs Ray, which isn't installed: '.venv/bin/pip install -c requirements.lock ray' on every "
                        "machine, then 'ray start' there.") from None
    mine = not ray.is_initialized()
    if mine:
        _refuse_silence(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")        # nothing is sent to anybody
        try:
            where = {"_node_ip_address": "127.0.0.1", "include_dashboard": False} if address == "local" else \
                {"address": address}
            ray.init(**where, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
        except (ConnectionError, ValueError, RuntimeError) as e:
            raise UserError(f"no Ray cluster answers at {address!r} ({' '.join(str(e).split())[:120]}): start one with "
                            f"'ray start --head', or use --ray local.") from None
    try:
        yield
    finally:
        if mine:
            ray.shutdown()


def _refuse_silence(address: str) -> None:
    """Ray itself tries for two minutes before it gives up on HOST:PORT."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as e:
        raise UserError(f"no Ray cluster answers at {address!r} ({getattr(e, 'strerror', None) or e}): start one with "
                        f"'ray start --head' there, or use --ray local.") from None
