"""The figures of one group of requests: one endpoint at one concurrency or rate. Definitions: `gb10.bench.explain`."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate

from gb10.bench.flight import LAG_BITS
from gb10.bench.spread import Spread
from gb10.bench.steady import Window

MS, TPOT_SCALE = 1000.0, 1e6     # µs and ns to ms
STALL = 5                        # times the median gap
LAG_LIMIT = 0.10                 # of TPOT p50: beyond, the client is part of the figures
MERGED = 1.05                    # events/read: above, reads hold several
P99_NEEDS = 100                  # values
KEPT = 4000                      # requests of a block that a comparison draws from
STAMPS = ("kernel", "user", "tls", "stepped")


class Segment:
    """One stretch of a cell from one start of the load process to its end; the times of its requests share a zero."""

    def __init__(self, concurrency: int, unix: float):
        self.window = Window(concurrency)
        self.unix = unix
        self.bounds: tuple[int, int] | None = None


class Timeline:
    """Tokens by the second, or by coarser bins where the seconds became too many: flat memory."""

    def __init__(self, bins: int = 4096):
        self._most = bins
        self.width = 1                           # seconds in a bin
        self.bins: dict[int, float] = {}         # number of the bin (unix time // width) -> tokens
        self.total = 0.0

    def add(self, unix: float, tokens: float) -> None:
        number = int(unix // self.width)
        self.bins[number] = self.bins.get(number, 0.0) + tokens
        self.total += tokens
        while len(self.bins) > self._most:
            self.width *= 2
            coarse: dict[int, float] = {}
            for n, value in self.bins.items():
                coarse[n // 2] = coarse.get(n // 2, 0.0) + value
            self.bins = coarse

    def end_of_bin(self, unix: float) -> float:
        return (int(unix // self.width) + 1) * self.width

    def items(self) -> list[tuple[float, float]]:
        """(unix time at which a bin begins, tokens in it), in order."""
        return [(n * self.width, value) for n, value in sorted(self.bins.items())]


class Figures:
    """Takes in journal lines of requests in two passes: `add` for all, `settle`, then `count` for all again."""

    def __init__(self, endpoint: int, concurrency: int, rate: float | None, slo: dict | None):
        self.endpoint, self.concurrency, self.rate, self.slo = endpoint, concurrency, rate, slo or {}
        self.ttfr, self.ttft, self.ttfa, self.tpot, self.gap, self.e2e, self.response, self.connect, self.lag, self.isl = (
            Spread() for _ in range(10))
        self.requests = self.ok = self.good = 0
        self.errors: dict[str, int] = {}
        self.why: dict[str, str] = {}            # one example an error class
        self.finish: dict[str, int] = {}
        self.output = self.input = self.cached = self.estimated = 0
        self.events = self.reads = self.event_tokens = self.counted = 0
        self.reasoned = 0                        # requests whose first text was reasoning
        self.n_first_known = False               # did the server tell how many tokens a first event held?
        self.stamps: dict[str, int] = {}
        self.blocks: dict[int, list[dict]] = {}  # cell -> figures of single requests, for comparisons
        self.segments: list[Segment] = []
        self.window_tokens = 0.0
        self.timeline = Timeline()
        self.ends: list[dict] = []               # the load process's totals, a cell each

    # ------------------------------------------------------------ first pass

    def add(self, row: dict, segment: Segment) -> None:
        self.requests += 1
        self.blocks.setdefault(row["cell"], [])          # also where all of a block failed: pairs stay pairs
        send, error = row.get("send"), row.get("err")
        if send is not None:
            segment.window.add(send, send + row["end"], row.get("slot", 0))
        if "connect" in row:
            self.connect.add(row["connect"])
        if error:
            if not isinstance(error, str):
                raise TypeError(f"err is {error!r}")
            self.errors[error] = self.errors.get(error, 0) + 1
            if row.get("why"):
                self.why.setdefault(error, str(row["why"]))
            return
        self.ok += 1
        self._times(row)
        self._tokens(row)
        stamps = row.get("stamps", "kernel")
        if stamps not in STAMPS:
            raise ValueError(f"stamps are {stamps!r}")
        self.stamps[stamps] = self.stamps.get(stamps, 0) + 1

    def _times(self, row: dict) -> None:
        ttft, e2e, n = row["ttft"], row["e2e"], row["n"]
        tpot = tpot_us(row)
        self.ttft.add(ttft)
        self.e2e.add(e2e)
        self.ttfr.add(row.get("ttfr", ttft))
        self.ttfa.add(row.get("ttfa", ttft))
        self.reasoned += "ttfa" in row
        self.gap.extend(row["gaps"])
        self.lag.add_buckets(row["lag"], LAG_BITS)
        if tpot is not None:
            self.tpot.add(round(tpot * 1000))
        if "sched" in row:
            self.response.add(row["send"] + e2e - row["sched"])
        self.good += all(value is not None and value / MS <= self.slo[name] for name, value in
                         (("ttft", ttft), ("tpot", tpot), ("e2e", e2e)) if name in self.slo)
        kept = self.blocks[row["cell"]]
        if len(kept) < KEPT:
            kept.append({"ttft": ttft, "tpot": tpot, "e2e": e2e, "n": n})

    def _tokens(self, row: dict) -> None:
        self.output += row["n"]
        self.events += row["events"]
        self.reads += row["reads"]
        self.n_first_known |= "n_first" in row
        self.estimated += row["n_src"] == "events"
        if row["n_src"] != "events":
            self.event_tokens += row["n"]
            self.counted += row["events"]
        self.finish[str(row.get("finish"))] = self.finish.get(str(row.get("finish")), 0) + 1
        if "isl" in row:
            self.isl.add(row["isl"])
            self.input += row["isl"]
            self.cached += row.get("cached", 0)

    # ------------------------------------------------------------ second pass

    def settle(self) -> None:
        """All requests are in: the windows can be told."""
        for segment in self.segments:
            segment.bounds = segment.window.bounds() if self.rate is None else None

    def count(self, row: dict, segment: Segment) -> None:
        """Place the tokens of a request in time: its first arrival brought n_first, the others the rest in equal parts."""
        if (row.get("err") and row["err"] != "short") or "ttft" not in row:
            return
        gaps = row["gaps"]
        first = row.get("n_first", 1) if gaps else row["n"]
        each = (row["n"] - first) / len(gaps) if gaps else 0
        times = list(accumulate(gaps, initial=row["send"] + row["ttft"]))
        if segment.bounds:
            a, b = segment.bounds
            later = bisect_right(times, b, 1) - bisect_left(times, a, 1)
            self.window_tokens += first * (a <= times[0] <= b) + each * later
        self.timeline.add(segment.unix + times[0] / 1e6, first)
        at = 1
        while at < len(times):
            unix = segment.unix + times[at] / 1e6
            until = bisect_left(times, (self.timeline.end_of_bin(unix) - segment.unix) * 1e6, at + 1)
            self.timeline.add(unix, each * (until - at))
            at = until

    # ------------------------------------------------------------ results

    @property
    def steady_s(self) -> float:
        return sum(b - a for a, b in (s.bounds for s in self.segments if s.bounds)) / 1e6

    @property
    def whole_s(self) -> float:
        """From the first request's start to the last one's end, over all segments."""
        return sum(s.window.last - s.window.first for s in self.segments if s.window.last is not None) / 1e6

    @property
    def system_tps(self) -> float | None:
        return self.window_tokens / self.steady_s if self.steady_s else self.system_tps_whole

    @property
    def system_tps_whole(self) -> float | None:
        return self.timeline.total / self.whole_s if self.whole_s else None

    @property
    def user_tps(self) -> float | None:
        p50 = self.tpot.percentile(50)
        return 1e9 / p50 if p50 else None

    @property
    def tokens_per_event(self) -> float | None:
        return self.event_tokens / self.counted if self.counted else None

    @property
    def events_per_read(self) -> float | None:
        return self.events / self.reads if self.reads else None

    @property
    def one_by_one(self) -> bool:
        """Does every arrival bring one token, so that a gap is an inter-token latency?"""
        return abs((self.tokens_per_event or 0) - 1) < 0.005 and (self.events_per_read or 9) < 1.005

    @property
    def client_late(self) -> bool:
        """Did this program read later than 10 % of TPOT (p99) after the kernel had what arrived?"""
        lag, tpot = self.lag.percentile(99), self.tpot.percentile(50)
        return bool(lag and tpot and lag > LAG_LIMIT * tpot / 1000)

    @property
    def times_doubtful(self) -> bool:
        """Is that lag part of the times? Not where the kernel dated every arrival and reads did not merge."""
        return self.client_late and (set(self.stamps) != {"kernel"} or (self.events_per_read or 9) > MERGED)

    def stalls(self) -> dict:
        median = self.gap.percentile(50)
        return {"count": self.gap.above(STALL * median) if median else 0,
                "longest_ms": round(self.gap.high / MS, 3) if self.gap.n else None}

    def to_dict(self) -> dict:
        """As --json prints it: the contract of the course's design, and more."""
        whole, steady = self.whole_s, self.steady_s
        out = {
            "endpoint": self.endpoint, "concurrency": self.concurrency, "rate": self.rate, "requests": self.requests,
            "ok": self.ok, "errors": dict(sorted(self.errors.items())), "error_examples": self.why,
            "ttft_ms": self.ttft.summary(), "tpot_ms": self.tpot.summary(TPOT_SCALE, 4), "gap_ms": self.gap.summary(),
            "e2e_ms": self.e2e.summary(), "ttfr_ms": self.ttfr.summary(),
            "ttfa_ms": self.ttfa.summary() if self.reasoned else None,
            "response_ms": self.response.summary(), "connect_ms": self.connect.summary(),
            "output_tokens": self.output, "input_tokens": self.isl.summary(1.0, 1), "cached_tokens": self.cached,
            "system_tps": rounded(self.system_tps), "system_tps_whole_run": rounded(self.system_tps_whole),
            "user_tps": rounded(self.user_tps), "requests_per_s": rounded(self.ok / whole if whole else None, 4),
            "goodput_per_s": rounded(self.good / whole, 4) if self.slo and whole else None,
            "steady_s": round(steady, 3), "seconds": round(whole, 3),
            "tokens_per_event": rounded(self.tokens_per_event, 3), "events_per_read": rounded(self.events_per_read, 3),
            "gap_is_itl": self.one_by_one, "estimated": bool(self.estimated), "stalls": self.stalls(), "finish": self.finish,
            "client_lag_ms": self.lag.summary(), "client_late": self.client_late,
            "times_doubtful": self.times_doubtful,
            "stamps": max(self.stamps, key=self.stamps.get) if self.stamps else None,
        }
        return out


def tpot_us(row: dict) -> float | None:
    """(last - first) / (N - n_first); None for an answer that came at once."""
    left = row["n"] - row.get("n_first", 1)
    return (row["e2e"] - row["ttft"]) / left if left > 0 and row["gaps"] else None


def rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)
