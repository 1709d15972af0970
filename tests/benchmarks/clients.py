"""How well, and at what price, does the appendix's benchmark measure beside other clients? Prints one table.

    python tests/benchmarks/clients.py --install           once: aiperf, guidellm, vllm and three libraries, 3 GB
    python tests/benchmarks/clients.py [--levels 1,16,64,spark] [--repeat 1] [--clients ours,floor,…] [--json FILE]

All of them measure the same server in turns, a fresh one each time. It notes when a request arrived and when it sent each
token (`gb10.bench.truth`), and a row shows what a client reported minus what was true in that very run:

TTFT     true: first token sent - request arrived. For every client that includes its own way to the request: whoever
         starts the clock before it connects or builds the request measures that too. "own send" is against the moment
         in which the client itself began to send, for those two that tell it; what lies between is the server's work.
TPOT     median over the requests, in per cent of the true one
gap p99  of the times between tokens (or between chunks: whatever the tool calls so)
CPU      user and system time of all the client's processes with their start, for each 1,000 of the tokens in the table
peak     highest sum of the processes' PSS, sampled three times a second. It shares pages out, also with the server and
         this script, so a Python without packages seems some MB lighter than it would be alone
first    from the command to the arrival of its first request at the server; wall: to its end
others   how many cores the machine gave to something else meanwhile: a row with much of it says little. The script waits
         for a quiet second before each run, and repeats a run that was disturbed, for --wait seconds at the most

The clients: ours is the real command (in a terminal of its own, so with the live table where rich is installed; telemetry,
report and --json on). floor is a bare epoll loop that reads, keeps the kernel's date of each read and takes nothing apart:
what the machine itself costs. openai, httpx and aiohttp are the plain loops that one writes with these libraries.

The server runs on the same cores, and a heavy client slows it down; its notes hold what really happened.
A client that isn't installed is shown as such. Linux only. The figures of different machines or runs don't compare.
"""

from __future__ import annotations

import argparse
import ctypes
import inspect
import json
import os
import platform
import pty
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from gb10 import __version__
from gb10.bench.journal import rows
from gb10.bench.selftest import TOKENS, Truth, cpu_ns
from gb10.engines import vllm_env
from gb10.paths import PICO, VENV_VLLM

TOOLS = Path(tempfile.gettempdir()) / "gb10-clients"
VERSIONS = {"aiperf": "0.13.0", "guidellm": "0.8.1", "openai": "3.52.0", "httpx": "0.28.1", "aiohttp": "3.14.5"}
LIBRARIES = ("openai", "httpx", "aiohttp")
PATIENCE = 300                       # seconds for one client at one level
SAMPLE_S = 1 / 3
QUIET = 0.2                          # cores that may be busy otherwise
TELEMETRY_OFF = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "VLLM_NO_USAGE_STATS": "1"}
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
LEFT_OUT = ("http_proxy", "https_proxy", "all_proxy", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")


@dataclass(frozen=True)
class Level:
    name: str
    streams: int
    ttft: float                      # ms
    itl: float
    requests: int
    limit: float                     # of ours, for TTFT p50 in ms

    @property
    def tokens(self) -> int:
        return self.requests * TOKENS


LEVELS = {level.name: level for level in (Level("1", 1, 50, 5, 10, 0.15), Level("16", 16, 50, 5, 48, 0.15),
                                          Level("64", 64, 50, 5, 128, 0.15), Level("spark", 256, 500, 50, 256, 0.3))}
# of ours, besides TTFT: ms; per cent; ms of CPU for each 1,000 tokens more; MB of the load process; s to the first request
GAP_LIMIT, TPOT_LIMIT, CPU_LIMIT, MB_LIMIT, FIRST_LIMIT = 0.2, 0.1, 8, 40, 0.6


# ---------------------------------------------------------------- clients that are only a few lines
# Each runs in an interpreter of its own, from its source text. They leave [n, request, start, n - 2 times …] for each request.


def floor(port: int, streams: int, requests: int, tokens: int, out: str) -> None:
    import gc
    import select
    import socket
    from array import array
    from struct import unpack_from
    from time import monotonic_ns, time_ns

    body = (b'{"model":"truth","stream":true,"stream_options":{"include_usage":true},"max_tokens":%d,'
            b'"messages":[{"role":"user","content":"Tell me."}]}') % tokens
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: truth\r\nContent-Length: %d\r\nX-Request-Id: %d\r\n\r\n"
    wires, times, found, sent, left = {}, {}, array("q"), 0, requests
    poll = select.epoll()
    for _ in range(streams):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, 35, 1)                   # SO_TIMESTAMPNS
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        s.connect(("127.0.0.1", port))
        wires[s.fileno()] = s
        poll.register(s.fileno(), select.EPOLLIN)
    brackets = [(monotonic_ns(), time_ns(), monotonic_ns()) for _ in range(20)]
    a, wall, b = min(brackets, key=lambda both: both[2] - both[0])
    offset, idle = wall - (a + b) // 2, list(wires)
    gc.disable()
    while left:
        while idle and sent < requests:
            fd = idle.pop()
            times[fd] = array("q", (sent, monotonic_ns()))
            wires[fd].send(head % (len(body), sent) + body)
            sent += 1
        for fd, _ in poll.poll():
            data, stamp, _, _ = wires[fd].recvmsg(65536, 64)
            seconds, ns = unpack_from("qq", stamp[0][2])
            times[fd].append(seconds * 1_000_000_000 + ns - offset)
            if data[-5:] == b"0\r\n\r\n":                        # the end of the chunks
                found.append(len(times[fd]))
                found.extend(times[fd])
                idle.append(fd)
                left -= 1
    with open(out, "wb") as f:
        found.tofile(f)


def plain(library: str, port: int, streams: int, requests: int, tokens: int, out: str) -> None:
    import asyncio
    import json
    from array import array
    from time import monotonic_ns

    body = {"model": "truth", "messages": [{"role": "user", "content": "Tell me."}], "max_tokens": tokens, "stream": True,
            "stream_options": {"include_usage": True}}
    base, numbers, found = f"http://127.0.0.1:{port}/v1", iter(range(requests)), array("q")

    def has_text(line: str | bytes) -> bool:
        data = line[6:].strip()
        if len(data) < 7:                                        # a line between events, [DONE]
            return False
        choices = json.loads(data)["choices"]
        return bool(choices and choices[0]["delta"].get("content"))

    async def all_of_them(one) -> None:
        async def stream() -> None:
            for number in numbers:
                times = array("q", (number, monotonic_ns()))
                await one(times)
                found.append(len(times))
                found.extend(times)

        await asyncio.gather(*(stream() for _ in range(streams)))

    async def openai() -> None:
        from openai import AsyncOpenAI

        async def one(times) -> None:
            async for chunk in await client.chat.completions.create(**body):
                if chunk.choices and chunk.choices[0].delta.content:
                    times.append(monotonic_ns())

        async with AsyncOpenAI(base_url=base, api_key="none", max_retries=0, timeout=600) as client:
            await all_of_them(one)

    async def httpx() -> None:
        import httpx

        async def one(times) -> None:
            async with client.stream("POST", base + "/chat/completions", json=body) as response:
                async for line in response.aiter_lines():
                    if has_text(line):
                        times.append(monotonic_ns())

        no_limit = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx.AsyncClient(timeout=600, limits=no_limit, trust_env=False) as client:
            await all_of_them(one)

    async def aiohttp() -> None:
        import aiohttp

        async def one(times) -> None:
            async with client.post(base + "/chat/completions", json=body) as response:
                async for line in response.content:
                    if has_text(line):
                        times.append(monotonic_ns())

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
            await all_of_them(one)

    asyncio.run({"openai": openai, "httpx": httpx, "aiohttp": aiohttp}[library]())
    with open(out, "wb") as f:
        found.tofile(f)


def source(function: Callable, *given) -> str:
    """A program that is this function and one call of it: nothing else of this file is loaded there."""
    return inspect.getsource(function) + f"\n{function.__name__}{tuple(given)!r}\n"


# ---------------------------------------------------------------- what a client is


@dataclass
class Client:
    """How to start one, and where it says what."""

    name: str
    program: Path                                            # not there: not installed
    command: Callable[[int, Level, Path], list]              # (port, level, folder for its files)
    read: Callable[[Path, dict], dict]                       # (that folder, the server's notes) -> figures in ms
    version: list
    environment: dict = field(default_factory=dict)
    terminal: bool = False

    def what(self) -> str:
        """Its version in its own words; asking also warms the disk's cache up."""
        if not self.program.exists():
            return "not installed"
        ran = subprocess.run(self.version, check=False, capture_output=True, text=True, env=environment() | self.environment,
                             timeout=PATIENCE, cwd=tempfile.gettempdir())
        words = ran.stdout.split()
        return words[-1] if words and not ran.returncode else "does not start"


def clients(tools: Path) -> dict[str, Client]:
    """All of them. Every flag of a tool stands here."""
    python = Path(sys.executable)
    aiperf, guidellm, libraries = (tools / name / "bin" for name in ("aiperf", "guidellm", "libraries"))
    vllm = vllm_folder(tools) / "bin"
    url = "http://127.0.0.1:{}".format

    def ours_command(port, level, folder):
        return [python, ROOT / "appendix" / "llm_benchmark.py", "--url", url(port) + "/v1", "--concurrency", level.streams,
                "--requests", level.requests, "--max-tokens", TOKENS, "--json", folder / "ours.json", "--results", folder / "runs"]

    def floor_command(port, level, folder):
        return [python, "-S", "-E", "-c", source(floor, port, level.streams, level.requests, TOKENS, str(folder / "times"))]

    def aiperf_command(port, level, folder):
        return [aiperf / "aiperf", "profile", "--url", url(port), "--model", "truth", "--endpoint-type", "chat", "--streaming",
                "--concurrency", level.streams, "--request-count", level.requests,
                "--tokenizer", PICO, "--isl", 32, "--osl", TOKENS, "--extra-inputs", "ignore_eos:true",
                "--use-server-token-count",                                  # else it tokenizes every answer again
                "--ui", "none", "--no-gpu-telemetry", "--no-server-metrics",  # its lightest: only what is compared here
                "--artifact-dir", folder]

    def guidellm_command(port, level, folder):
        return [guidellm / "guidellm", "run",
                "--backend", f"kind=openai_http,target={url(port)},model=truth,validate_backend=false",  # no GET /health: there is none
                "--profile", f"kind=concurrent,streams={level.streams}", "--constraint", f"kind=max_requests,count={level.requests}",
                "--tokenizer", f"kind=hf_auto,model={PICO}", "--data", f"kind=synthetic_text,prompt_tokens=32,output_tokens={TOKENS}",
                "--output", f"kind=json,path={folder / 'guidellm.json'}",
                "--disable-console"]                                         # no live tables, as with aiperf

    def vllm_command(port, level, folder):
        return [vllm / "vllm", "bench", "serve", "--base-url", url(port), "--model", "truth", "--backend", "openai-chat",
                "--endpoint", "/v1/chat/completions", "--max-concurrency", level.streams, "--num-prompts", level.requests,
                "--tokenizer", PICO, "--dataset-name", "random", "--random-input-len", 32, "--random-output-len", TOKENS, "--ignore-eos",
                "--percentile-metrics", "ttft,tpot,itl", "--metric-percentiles", "50,99",
                "--save-result", "--result-dir", folder, "--result-filename", "vllm.json", "--disable-tqdm"]

    def library_command(name):
        return lambda port, level, folder: [libraries / "python", "-c", source(plain, name, port, level.streams, level.requests, TOKENS,
                                                                               str(folder / "times"))]

    found = [
        Client("ours", python, ours_command, read_ours, [python, "-c", f"print({__version__!r})"], terminal=True),
        Client("floor", python, floor_command, read_times, [python, "-c", "print('(bare)')"]),
        # with HF_HUB_OFFLINE it takes the tokenizer's path for a name and fails; a hub that refuses is as good
        Client("aiperf", aiperf / "aiperf", aiperf_command, read_aiperf, [aiperf / "aiperf", "--version"],
               TELEMETRY_OFF | {"HF_ENDPOINT": "http://127.0.0.1:9"}),
        Client("guidellm", guidellm / "guidellm", guidellm_command, read_guidellm, [guidellm / "guidellm", "--version"],
               TELEMETRY_OFF | OFFLINE),
        Client("vllm", vllm / "vllm", vllm_command, read_vllm, [vllm / "vllm", "--version"],
               TELEMETRY_OFF | OFFLINE | {"VLLM_TARGET_DEVICE": "cpu"}),
        *(Client(name, libraries / "python", library_command(name), read_times,
                 [libraries / "python", "-c", f"import {name}; print({name}.__version__)"]) for name in LIBRARIES)]
    return {client.name: client for client in found}


def environment() -> dict:
    return {name: value for name, value in os.environ.items() if name not in LEFT_OUT and name.lower() not in LEFT_OUT}


def vllm_folder(tools: Path) -> Path:
    """The course's own where there is one (GB10_VENV_VLLM names another), else one among the tools."""
    return VENV_VLLM if vllm_env.python().exists() else tools / "vllm"


def install(tools: Path) -> None:
    """What isn't there yet. pip says what it does."""
    tools.mkdir(parents=True, exist_ok=True)

    def pip(folder: Path, *packages: str) -> None:
        print(f"{folder}: {' '.join(packages)}", flush=True)
        if not (folder / "bin" / "pip").exists():
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "--disable-pip-version-check", "--quiet", *packages], check=True)

    pip(tools / "libraries", *(f"{name}=={VERSIONS[name]}" for name in LIBRARIES))
    pip(tools / "aiperf", f"aiperf=={VERSIONS['aiperf']}")
    # torch first, for the CPU: guidellm alone would bring gigabytes of CUDA. pip takes for settled what is there
    pip(tools / "guidellm", *vllm_env.torch_arguments(print))
    pip(tools / "guidellm", f"guidellm=={VERSIONS['guidellm']}", vllm_env.TORCH)
    if not (vllm_folder(tools) / "bin" / "vllm").exists():
        vllm_env.ensure(venv=tools / "vllm")


# ---------------------------------------------------------------- what a client reported


def percentile(values: list, p: float) -> float | None:
    """Interpolated linearly."""
    if not values:
        return None
    values = sorted(values)
    place = (len(values) - 1) * p / 100
    low = values[int(place)]
    return low + (values[min(int(place) + 1, len(values) - 1)] - low) * (place - int(place))


def figures(answers: list[tuple[int, list[int]]]) -> dict:
    """(start, times of the tokens) in ns -> what a table of a client says, in ms. Where reads have merged, there are fewer times."""
    whole = [(start, times) for start, times in answers if len(times) > 1]
    ttft = [(times[0] - start) / 1e6 for start, times in whole]
    tpot = [(times[-1] - times[0]) / (TOKENS - 1) / 1e6 for _, times in whole]
    gap = [(b - a) / 1e6 for _, times in whole for a, b in pairwise(times)]
    return {"ttft_p50": percentile(ttft, 50), "ttft_p99": percentile(ttft, 99), "tpot_p50": percentile(tpot, 50),
            "gap_p99": percentile(gap, 99), "answered": len(whole)}


def from_own_send(reported: dict, sent: dict[str, int], notes: dict) -> dict:
    """TTFT errors against the moments in which the client began to send."""
    true = [(notes[name][1] - at) / 1e6 for name, at in sent.items()]
    return {f"own_ttft_p{p}": reported[f"ttft_p{p}"] - percentile(true, p) for p in (50, 99)}


def read_ours(folder: Path, notes: dict) -> dict:
    whole = json.loads((folder / "ours.json").read_text())
    run, name = whole["runs"][0], whole["meta"]["id"]
    reported = {"ttft_p50": run["ttft_ms"]["p50"], "ttft_p99": run["ttft_ms"]["p99"], "tpot_p50": run["tpot_ms"]["p50"],
                "gap_p99": run["gap_ms"]["p99"], "answered": run["ok"], "lag_p99": run["client_lag_ms"]["p99"]}
    lines = list(rows(folder / "runs" / name / "journal.jsonl"))
    zero = next(row["zero_ns"] for row in lines if row["k"] == "end")
    sent = {f"{name}-{row['cell']}-{row['i']}": zero + row["send"] * 1000 for row in lines if row["k"] == "req" and not row.get("err")}
    for warm_up in notes.keys() - sent.keys():
        del notes[warm_up]
    return reported | from_own_send(reported, sent, notes)


def read_times(folder: Path, notes: dict) -> dict:
    found, answers, sent, i = array("q"), [], {}, 0
    found.frombytes((folder / "times").read_bytes())
    while i < len(found):
        n, name, start = found[i:i + 3]
        answers.append((start, list(found[i + 3:i + 1 + n])[:TOKENS]))       # floor's reads go on: the finish, the usage
        sent[str(name)] = start
        i += n + 1
    reported = figures(answers)
    return reported | (from_own_send(reported, sent, notes) if sent.keys() <= notes.keys() else {})


def read_aiperf(folder: Path, notes: dict) -> dict:
    r = json.loads((folder / "profile_export_aiperf.json").read_text())
    return {"ttft_p50": r["time_to_first_token"]["p50"], "ttft_p99": r["time_to_first_token"]["p99"],
            "tpot_p50": r["inter_token_latency"]["p50"],         # of each request: (last - first) / (N - 1)
            "gap_p99": r["inter_chunk_latency"]["p99"], "answered": int(r["request_count"]["avg"])}


def read_guidellm(folder: Path, notes: dict) -> dict:
    r = json.loads((folder / "guidellm.json").read_text())["benchmarks"][0]["metrics"]
    ttft, itl = (r[key]["successful"]["percentiles"] for key in ("time_to_first_token_ms", "inter_token_latency_ms"))
    # its "time per output token" counts the first token too; it has no figure of single gaps
    return {"ttft_p50": ttft["p50"], "ttft_p99": ttft["p99"], "tpot_p50": itl["p50"], "gap_p99": None,
            "answered": r["request_totals"]["successful"]}


def read_vllm(folder: Path, notes: dict) -> dict:
    r = json.loads((folder / "vllm.json").read_text())
    return {"ttft_p50": r["p50_ttft_ms"], "ttft_p99": r["p99_ttft_ms"], "tpot_p50": r["p50_tpot_ms"],
            "gap_p99": r["p99_itl_ms"],                          # between chunks of any kind
            "answered": r["completed"]}


# ---------------------------------------------------------------- running one


class Tree:
    """All processes that came from here, but one: their memory, sampled. Orphans come to us (see `adopt`)."""

    def __init__(self, but: int):
        self._but, self._stop, self._load = but, threading.Event(), 0
        self.peak = self.load_peak = self.load_cpu = 0           # MB; of our load process: MB with all shared pages, seconds
        self.most = 0                                            # processes at once
        self._thread = threading.Thread(target=self._watch)

    def pids(self) -> set[int]:
        children: dict[int, list[int]] = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    stat = Path("/proc", entry, "stat").read_text()
                except OSError:
                    continue
                children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
        found, fresh = set(), [pid for pid in children.get(os.getpid(), ()) if pid != self._but]
        while fresh:
            found.update(fresh)
            fresh = [child for pid in fresh for child in children.get(pid, ())]
        return found

    def _look(self) -> None:
        whole, pids = 0.0, self.pids()
        for pid in pids:
            try:
                with open(f"/proc/{pid}/smaps_rollup") as f:
                    mb = {line.split()[0]: int(line.split()[1]) * 1024 / 1e6 for line in f if line.startswith(("Pss:", "Rss:"))}
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    if b"gb10.bench.loadproc" in f.read():
                        self._load, self.load_peak = pid, max(self.load_peak, mb["Rss:"])
                whole += mb["Pss:"]
            except (OSError, ValueError, KeyError):              # it has ended
                continue
        self.peak, self.most = max(self.peak, whole), max(self.most, len(pids))

    def _watch(self) -> None:
        turn = 0
        while not self._stop.wait(SAMPLE_S / 8):
            turn += 1
            if turn % 8 == 0:
                self._look()
            if self._load:
                self.load_cpu = max(self.load_cpu, cpu_ns(self._load) / 1e9)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()

    def bury(self, patience: float = 5.0) -> None:
        """Wait for what a client left running, so that it is counted; end what stays."""
        end = time.monotonic() + patience
        while left := self.pids():
            for pid in left:
                if time.monotonic() > end:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        continue
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:                        # not ours, but a child's
                    continue
            time.sleep(0.02)


def adopt() -> None:
    """Whoever loses its parent becomes our child (prctl PR_SET_CHILD_SUBREAPER), so that its time is counted with us."""
    if ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0):
        raise SystemExit("the kernel refuses to let orphans come here: their time could not be counted")


def busy_seconds() -> float:
    """Of all cores since the machine started, with what a hypervisor took away."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")             # without idle and waiting for disks


def undisturbed(client: Client, level: Level, wait: float) -> dict:
    """A run while the machine does next to nothing else; after `wait` seconds the least disturbed one, or one at any rate."""
    end, best = time.monotonic() + wait, None
    while True:
        before = busy_seconds()
        time.sleep(1)
        if busy_seconds() - before > QUIET and time.monotonic() < end:
            continue
        result = run(client, level)
        if best is None or result.get("others", 0) < best.get("others", 0):
            best = result
        if best.get("others", 0) < QUIET or time.monotonic() > end:
            return best


def processor_seconds() -> float:
    """Of all children that have ended, with theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(client: Client, level: Level) -> dict:
    """One client at one level against a fresh server: errors, costs, or {"failed": why}."""
    with tempfile.TemporaryDirectory() as name, Truth(ttft=level.ttft, itl=level.itl, tokens=TOKENS) as truth:
        folder = Path(name)
        command = [str(part) for part in client.command(truth.target.port, level, folder)]
        before, others = processor_seconds(), busy_seconds() - time.process_time() - cpu_ns(truth.pid) / 1e9
        with Tree(but=truth.pid) as tree:
            start = time.monotonic_ns()
            code = execute(command, client, folder)
            wall = (time.monotonic_ns() - start) / 1e9
        tree.bury()
        cpu = processor_seconds() - before
        others = busy_seconds() - time.process_time() - cpu_ns(truth.pid) / 1e9 - others - cpu
        notes = truth.notes()
        if code != 0:
            return {"failed": said(folder / "log") if code is not None else f"nothing came of it in {PATIENCE} s"}
        first = min((note[0] for note in notes.values()), default=start)
        try:
            reported = client.read(folder, notes)
        except (OSError, ValueError, KeyError, TypeError, IndexError, StopIteration) as e:
            return {"failed": f"its result can't be read ({type(e).__name__}: {e})"}
    true = figures([(note[0], note[1:]) for note in notes.values()])
    return {"reported": reported, "true": true, "cpu_s": cpu, "cpu_ms_per_1000": cpu * 1e6 / level.tokens, "peak_mb": tree.peak,
            "processes": tree.most, "load_mb": tree.load_peak or None, "load_cpu_s": tree.load_cpu or None, "wall_s": wall,
            "first_s": (first - start) / 1e9, "others": max(0.0, others / wall)} | errors(reported, true)


def execute(command: list[str], client: Client, folder: Path) -> int | None:
    """Run it to its end; its exit code, None when it had to be ended. What it says goes to folder/log."""
    def copy() -> None:
        with open(folder / "log", "wb") as log:
            while True:
                try:
                    log.write(os.read(ours, 65536) or b"")
                except OSError:                                  # the other side has closed
                    return

    with open(folder / "log", "wb") as log:
        ours, theirs = pty.openpty() if client.terminal else (None, None)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs or log, stderr=theirs or log, cwd=folder,
                                   env=environment() | client.environment | {"TERM": "xterm-256color"})
    if client.terminal:
        os.close(theirs)
        screen = threading.Thread(target=copy)
        screen.start()
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None
    finally:
        if client.terminal:
            screen.join(5)
            os.close(ours)


def said(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if any(c.isalnum() for c in line)]
    return "failed: " + (lines[-1][:120] if lines else "it does not say why")


def errors(reported: dict, true: dict) -> dict:
    out = {f"{key}_error": None if reported[key] is None or true[key] is None else reported[key] - true[key]
           for key in ("ttft_p50", "ttft_p99", "gap_p99")}
    out["tpot_error"] = None if not reported["tpot_p50"] else (reported["tpot_p50"] / true["tpot_p50"] - 1) * 100
    return out | {f"own_ttft_p{p}_error": reported.get(f"own_ttft_p{p}") for p in (50, 99)}


# ---------------------------------------------------------------- the whole


DROWNS = 0.1                         # a start so much dearer than the rest varies by more than the rest costs
LOAD_ALONE = "- its load process"
SHOWN = ("ttft_p50_error", "own_ttft_p50_error", "ttft_p99_error", "tpot_error", "gap_p99_error", "cpu_s", "cpu_ms_per_1000", "peak_mb",
         "load_mb", "load_cpu_s", "wall_s", "first_s", "others")


def typical(runs: list[dict]) -> dict:
    """The median of each figure by itself; a client that failed once has failed."""
    failed = next((r for r in runs if "failed" in r), None)
    if failed:
        return failed
    out = {key: statistics.median(values) if (values := [r[key] for r in runs if r[key] is not None]) else None for key in SHOWN}
    return out | {"answered": min(r["reported"]["answered"] for r in runs), "noted": max(r["true"]["answered"] for r in runs)}


def tell(what: str) -> None:
    """What it is at, in place of what it was at."""
    if sys.stderr.isatty():
        print(f"\r{what:<60}\r", end="", file=sys.stderr, flush=True)


def measure(chosen: list[Client], levels: list[Level], repeat: int, wait: float) -> dict:
    adopt()
    before = os.getloadavg()[0]
    versions = {client.name: client.what() for client in chosen}
    found: dict[str, dict[str, list]] = {level.name: {client.name: [] for client in chosen} for level in levels}
    for level in levels:
        for turn in range(repeat):
            for client in chosen:
                tell(f"{level.name}: {client.name}, {turn + 1} of {repeat}")
                missing = versions[client.name] in ("not installed", "does not start")
                found[level.name][client.name].append({"failed": versions[client.name]} if missing else undisturbed(client, level, wait))
    tell("")
    table = {name: {client: typical(runs) for client, runs in row.items()} for name, row in found.items()}
    lines = [(client.name, client.name, "cpu_s") for client in chosen]
    if "ours" in versions:
        lines.insert(1 + list(versions).index("ours"), (LOAD_ALONE, "ours", "load_cpu_s"))
    slopes = {name: slope for name, client, key in lines if (slope := marginal(table, client, key))}
    return {"machine": machine(), "load_before": before, "live_table": live_table(), "versions": versions, "repeat": repeat,
            "levels": table, "marginal": slopes, "targets": targets(table, slopes), "runs": found}


def marginal(table: dict, client: str, key: str = "cpu_s") -> dict | None:
    """Between 16 and 64 streams the tokens grow and the start stays: a line through both. None for what drowns in the start."""
    cpu = {name: row[client].get(key) for name, row in table.items() if client in row}
    if cpu.get("16") is None or cpu.get("64") is None:
        return None
    few, many = (LEVELS[name].tokens / 1000 for name in ("16", "64"))
    slope, fixed = None, (cpu["16"] + cpu["64"]) / 2
    if cpu["64"] > cpu["16"] * (1 + DROWNS):
        slope = (cpu["64"] - cpu["16"]) / (many - few)
        fixed = cpu["16"] - slope * few
    spark = cpu.get("spark")
    told = spark is not None and spark > fixed * (1 + DROWNS)
    return {"ms": slope and slope * 1000, "fixed_s": fixed, "spark_ms": (spark - fixed) / LEVELS["spark"].tokens * 1e6 if told else None}


def targets(table: dict, slopes: dict) -> list[dict]:
    """Ours against what is asked of it."""
    found = []

    def target(what: str, value: float | None, limit: float, unit: str) -> None:
        if value is not None:
            found.append({"what": what, "is": value, "at_most": limit, "unit": unit, "met": abs(value) <= limit})

    ours = {name: row["ours"] for name, row in table.items() if "ours" in row and "failed" not in row["ours"]}
    for name, row in ours.items():
        at = f"at {name}" + ("" if name == "spark" else " stream" if name == "1" else " streams")
        target(f"{at}: TTFT p50 off, from its own send", row["own_ttft_p50_error"], LEVELS[name].limit, "ms")
        target(f"{at}: TPOT off", row["tpot_error"], TPOT_LIMIT, "%")
        target(f"{at}: gap p99 off", row["gap_p99_error"], GAP_LIMIT, "ms")
    for key, where in (("ms", "16 to 64 streams"), ("spark_ms", "spark")):
        least = slopes.get("floor", {}).get(key)
        target(f"CPU for 1,000 tokens more, {where}" + (f" (floor: {least:.1f})" if least is not None else ""),
               slopes.get("ours", {}).get(key), CPU_LIMIT, "ms")
    target("peak of the load process, worst level", max((r["load_mb"] or 0 for r in ours.values()), default=None), MB_LIMIT, "MB")
    target("command to first request, worst level", max((r["first_s"] for r in ours.values()), default=None), FIRST_LIMIT, "s")
    return found


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"


def live_table() -> str:
    """What ours shows while it runs."""
    try:
        return f"its live table is on (rich {version('rich')})"
    except PackageNotFoundError:
        return "plain lines instead of its live table: no rich here"


COLUMNS = (("TTFT p50", "ttft_p50_error", "+.2f"), ("own send", "own_ttft_p50_error", "+.2f"), ("TTFT p99", "ttft_p99_error", "+.2f"),
           ("TPOT, %", "tpot_error", "+.2f"), ("gap p99", "gap_p99_error", "+.2f"), ("CPU ms/1k", "cpu_ms_per_1000", ",.1f"),
           ("peak MB", "peak_mb", ",.0f"), ("first s", "first_s", ".2f"), ("wall s", "wall_s", ".1f"), ("others", "others", ".1f"))


def cell(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def show(r: dict) -> None:
    print(f"{r['machine']}; load {r['load_before']:.1f} before the start\n" + ", ".join(f"{n} {v}" for n, v in r["versions"].items()))
    print(f"ours: {r['live_table']}. {TOKENS} tokens an answer; {r['repeat']} run(s) of each, the median of each figure. Times in ms: "
          "reported - true.")
    wide = max(map(len, r["versions"])) + 1
    for name, rows_ in r["levels"].items():
        level = LEVELS[name]
        print(f"\n{name}: {level.streams} at once, TTFT {level.ttft:g}, ITL {level.itl:g}, {level.requests} requests")
        print("client".ljust(wide) + "".join(f"{head:>11}" for head, _, _ in COLUMNS))
        for client, row in rows_.items():
            if "failed" in row:
                print(client.ljust(wide) + "  " + row["failed"])
                continue
            short = "" if row["answered"] == level.requests else f"  {row['answered']} of {level.requests} answered"
            print(client.ljust(wide) + "".join(f"{cell(row[key], form):>11}" for _, key, form in COLUMNS) + short)
    if r["marginal"]:
        print("\nCPU ms for 1,000 tokens more: between 16 and 64 streams; at spark, all but the fixed part. Fixed: where the line through\n"
              "16 and 64 streams meets no tokens, in s. –: below a tenth of the fixed part, which itself varies by as much.")
        wide_too = max(map(len, r["marginal"])) + 2
        print("client".ljust(wide_too) + "".join(f"{head:>11}" for head in ("16 to 64", "spark", "fixed s")))
        for client, slope in r["marginal"].items():
            print(client.ljust(wide_too) + f"{cell(slope['ms'], '.1f'):>11}{cell(slope['spark_ms'], '.1f'):>11}{slope['fixed_s']:>11.2f}")
    if r["targets"]:
        print("\nAsked of ours")
    for t in r["targets"]:
        print(f"{'met   ' if t['met'] else 'MISSED'}  {t['what']}: {t['is']:.3f} {t['unit']} (at most {t['at_most']:g})")


def main() -> None:
    names = ("ours", "floor", "aiperf", "guidellm", "vllm", *LIBRARIES)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", default=",".join(LEVELS), help="of " + ", ".join(LEVELS))
    parser.add_argument("--repeat", type=int, default=1, help="runs of each client at each level")
    parser.add_argument("--clients", default=",".join(names), help="of " + ", ".join(names))
    parser.add_argument("--tools", type=Path, default=TOOLS, metavar="DIR", help=f"where the tools are (default: {TOOLS})")
    parser.add_argument("--install", action="store_true", help="install there what is missing, and do nothing else")
    parser.add_argument("--wait", type=float, default=30, metavar="S", help="for a quiet machine, before each run (30)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures of all runs")
    args = parser.parse_args()
    if not sys.platform.startswith("linux"):
        parser.error("this needs Linux: /proc, and the kernel's dates of what it received")
    tools = args.tools.expanduser().resolve()
    if args.install:
        return install(tools)
    known = clients(tools)
    levels, chosen = args.levels.split(","), args.clients.split(",")
    if unknown := [name for name in levels if name not in LEVELS] + [name for name in chosen if name not in known]:
        parser.error(f"there is no {', '.join(unknown)}; levels: {', '.join(LEVELS)}; clients: {', '.join(names)}")
    if args.repeat < 1:
        parser.error("--repeat is at least 1")
    r = measure([known[name] for name in chosen], [LEVELS[name] for name in levels], args.repeat, args.wait)
    show(r)
    if args.json:
        args.json.write_text(json.dumps(r, indent=1) + "\n")


if __name__ == "__main__":
    main()
