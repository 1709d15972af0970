"""The load loop: one thread, one epoll, sockets opened beforehand, every read dated by the kernel.

A cycle reads everything that is there and does nothing else with it; only when nothing is left to read does the work that
can wait get its turn: taking the bytes apart, writing a line about a finished request, preparing the next ones. Because the
kernel has dated the segments, a read may come late without falsifying a time; it must only come before the next segment of
the same connection, or the two merge.

Two habits keep the processor time low, which on a Spark is taken from the model's own cores and caches. With many streams
the loop pauses a moment before it looks again (PAUSE_SHARE), so that it wakes once for several reads. And it takes reads
apart in portions rather than one by one: woken from sleep, the same code costs several times as much as in a warm cache.

    done = Load(spec, write, tell).run()

spec: `gb10.bench.spec.Spec`. write(dict) takes a finished request; tell(dict) takes progress, four times a second.
"""

from __future__ import annotations

import gc
from collections import deque
from time import monotonic_ns, sleep, time

from gb10.bench import pace
from gb10.bench.answer import PLAIN_LIMIT
from gb10.bench.clock import SCM_SPACE, Offset
from gb10.bench.flight import Flight, tokens
from gb10.bench.http1 import NotHttp
from gb10.bench.polling import IN, OUT, poller
from gb10.bench.requests import Requests
from gb10.bench.sse import EventTooLarge
from gb10.bench.wire import READ_BYTES, Wire, reason, way

MS = 1_000_000
CONNECT_S = 10                   # to open a connection
TELL_NS = 250 * MS               # between two words of progress; also how often time-outs and the clock are looked at
PREPARED = 64                    # requests built ahead, as far as PREPARED_BYTES go
PREPARED_BYTES = 4 << 20
MANY = 8                         # from so many streams on the loop pauses between looks
PAUSE_SHARE = 0.04               # of the time between two tokens of a stream; the lag gauge shows it
PAUSE_MAX_NS = 2 * MS
PAUSE_LEAST_NS = 20_000          # below, sleeping costs more than it saves
REST_NS = 20 * MS                # before a slot whose connection was refused tries the next
GIVE_UP = 8                      # connections refused in a row (or one for each slot) end the cell


class Load:
    """One cell: requests of one kind at one concurrency or rate."""

    def __init__(self, spec, write, tell=lambda row: None, stop_fd: int | None = None):
        """stop_fd: a file number that becomes readable when the cell is to be given up."""
        self.spec, self._write, self._tell, self._stop_fd = spec, write, tell, stop_fd
        self._addresses = list(spec.addresses)  # the one that took the last connection first
        self._key = spec.headers.get("Authorization", "").removeprefix("Bearer ")
        self._offset = Offset()
        self._way = way(bool(spec.tls), spec.stamps)
        self._tls = None
        if spec.tls:
            import ssl

            self._tls = (ssl.create_default_context(), spec.tls)
        self._requests = Requests(spec)
        self._poll, self._nap = poller()
        if stop_fd is not None:
            self._poll.register(stop_fd, IN)
        self._wires: dict[int, tuple[Wire, Flight | None]] = {}    # by file number; with the flight that waits or is on it
        self._idle: deque[Wire] = deque()
        self._lanes: dict[int, tuple] = {}      # by file number: (recvmsg, flight), where nothing but reading is left to do
        self._settled: deque = deque()          # flights whose reads should be taken apart
        self._over: deque = deque()             # (flight, error, detail, end)
        self._ready: deque = deque()            # prepared (number, bytes)
        self._ready_bytes = 0
        self._waiting: deque[Flight] = deque()  # open loop: due, but every connection is taken
        self._resting: deque[tuple[int, int]] = deque()            # (until, slot)
        self._flights: set[Flight] = set()      # sent and not over
        self._connecting = 0
        self._refused = 0                       # connections refused in a row
        self._last_refusal = ""
        self.zero = 0
        self.done = self.errors = self.tokens = self.pieces = 0
        self._recent: deque = deque(maxlen=128)  # (ttft, tpot) in us of the last requests, for who watches
        self._gap_ns = 0                        # a typical time between two tokens
        self.gave_up = ""
        self.cancelled = False

    # ------------------------------------------------------------ the whole

    def run(self) -> dict:
        """Send everything, wait for everything; returns totals. Collects no garbage meanwhile."""
        spec = self.spec
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            if spec.rate:
                self._pace = pace.Open(spec.todo, spec.rate, spec.poisson, spec.seed, spec.seconds)
                self._open_wires(min(spec.concurrency, 4))
            else:
                self._pace = pace.Closed(spec.todo, spec.seconds, spec.least)
                self._open_wires(spec.concurrency)
            self._prepare()
            self._offset.refresh()
            self.zero = monotonic_ns()
            started = time()
            if not spec.rate:
                for slot in range(spec.concurrency):
                    self._next(slot)
            self._loop()
            while self._over:
                self._finish(*self._over.popleft())
        finally:
            for wire, _ in list(self._wires.values()):
                wire.close()
            self._poll.close()
            gc.enable()
            gc.unfreeze()
        return {"done": self.done, "errors": self.errors, "tokens": self.tokens, "seconds": (monotonic_ns() - self.zero) / 1e9,
                "started": started, "zero_ns": self.zero, "gave_up": self.gave_up, "cancelled": self.cancelled, "stamps": self._way,
                "clock_steps": self._offset.epoch}

    def _open_wires(self, count: int) -> None:
        """Open connections before the clock starts. Those that can't be opened are tried again when they are needed."""
        for _ in range(count):
            self._connect(None)
        end = monotonic_ns() + CONNECT_S * 1000 * MS
        while self._connecting and monotonic_ns() < end and not self.cancelled:
            for fd, _ in self._poll.poll(0.1):
                self._on_other(fd)
        for wire, _ in [w for w in self._wires.values() if not w[0].open]:
            self._drop(wire)
            self._connecting -= 1
        self._refused = 0

    def _loop(self) -> None:
        poll, lanes, settled = self._poll, self._lanes, self._settled
        looked, ready = 0, ()
        while not self.cancelled and (self._flights or self._over or self._waiting or self._connecting or self._resting or self._more()):
            for fd, _ in ready or poll.poll(0):
                lane = lanes.get(fd)
                if lane is None:
                    self._on_other(fd)
                    continue
                receive, flight = lane
                try:
                    data, stamp, _, _ = receive(READ_BYTES, SCM_SPACE)
                except OSError as e:
                    self._on_error(flight, e)
                    continue
                reads = flight.reads
                reads.append((data, stamp, monotonic_ns()))
                # perhaps the end: its slot is free then; or enough to be worth it
                if data[-5:] == b"0\r\n\r\n" or len(data) < 5 or len(reads) >= flight.portion:
                    settled.append(flight)
            ready = ()
            if settled:
                self._take_in(settled.popleft())
                continue
            now = monotonic_ns()
            if self._pace.scheduled:
                self._send_due(now)
            while self._resting and self._resting[0][0] <= now:
                self._next(self._resting.popleft()[1])
            if self._over:
                self._finish(*self._over.popleft())
                continue
            if now - looked > TELL_NS:
                looked = now
                self._look_round(now)
            if len(self._ready) < PREPARED // 2 and self._prepare(8):
                continue
            ready = self._wait(monotonic_ns())

    def _more(self) -> bool:
        return self._pace.scheduled and self._pace.due() is not None

    def _wait(self, now: int):
        """Sleep until something can be done: data, the next planned request, a look round. Returns what is ready."""
        until = now + TELL_NS
        if self._pace.scheduled and (due := self._pace.due()) is not None and not self._waiting:
            until = min(until, self.zero + due)
        if self._resting:
            until = min(until, self._resting[0][0])
        left = until - now
        if left <= 0:
            return ()
        if left < 3 * MS:
            self._nap(left / 1e9)
            return ()
        if len(self._flights) >= MANY and self._way == "kernel":
            pause = min(PAUSE_MAX_NS, int(PAUSE_SHARE * self._gap_ns))
            if pause > PAUSE_LEAST_NS:
                sleep(pause / 1e9)
        return self._poll.poll((left - 2 * MS) / 1e9)

    # ------------------------------------------------------------ connections

    def _connect(self, flight: Flight | None, addresses: list | None = None) -> None:
        """Open a connection to the first of the addresses that takes one; `flight` is sent on it as soon as it is open."""
        refusal, addresses = "", addresses or self._addresses
        for n, (family, address) in enumerate(addresses):
            try:
                wire = Wire(family, address, self._way, self._tls)
            except OSError as e:
                refusal = reason(e)
                continue
            wire.addresses = addresses[n:]
            self._wires[wire.fd] = (wire, flight)
            self._poll.register(wire.fd, IN | OUT)
            self._connecting += 1
            return
        self._refuse(flight, refusal)

    def _on_connecting(self, wire: Wire, flight: Flight | None) -> None:
        try:
            if not wire.progress():
                self._poll.modify(wire.fd, OUT if wire.wants_to_write else IN)     # the handshake goes on
                return
        except OSError as e:
            self._failed(wire, flight, reason(e))
            return
        self._connecting -= 1
        self._refused = 0
        if wire.addresses[0] != self._addresses[0]:
            self._addresses.remove(wire.addresses[0])
            self._addresses.insert(0, wire.addresses[0])
        self._poll.modify(wire.fd, IN)
        if flight is None:
            self._wires[wire.fd] = (wire, None)
            self._idle.append(wire)
        else:
            self._launch(wire, flight)

    def _failed(self, wire: Wire, flight: Flight | None, why: str) -> None:
        """This connection did not come about: the host's next address, if it has one."""
        self._connecting -= 1
        self._drop(wire)
        if wire.addresses[1:]:
            self._connect(flight, wire.addresses[1:])
        else:
            self._refuse(flight, why)

    def _refuse(self, flight: Flight | None, why: str) -> None:
        self._refused += 1
        self._last_refusal = why
        if flight is not None:
            self._end(flight, "connect", why)

    def _on_idle(self, wire: Wire) -> None:
        """Something on a connection that nobody uses: the server closed it, as it may."""
        try:
            if wire.read() is None:
                return
        except OSError:
            pass
        self._drop(wire)

    def _drop(self, wire: Wire) -> None:
        if self._wires.pop(wire.fd, None) is None:
            return
        self._lanes.pop(wire.fd, None)
        self._poll.unregister(wire.fd)
        wire.close()
        if wire.open and wire in self._idle:
            self._idle.remove(wire)

    # ------------------------------------------------------------ sending

    def _prepare(self, most: int = PREPARED) -> bool:
        """Build requests ahead. A conversation's later turns can't be: they hold the answers."""
        if self._pace.scheduled or self.spec.turns > 1:
            return False
        built = 0
        while built < most and len(self._ready) < PREPARED and (not self._ready or self._ready_bytes < PREPARED_BYTES):
            number = self._pace.next()
            if number is None:
                break
            body = self._requests.single(number)
            self._ready.append((number, body))
            self._ready_bytes += len(body)
            built += 1
        return built > 0

    def _next(self, slot: int) -> None:
        """Closed loop: this slot sends its next request."""
        if self.gave_up or self.cancelled:
            return
        since = monotonic_ns() - self.zero
        if self.spec.turns > 1:
            number = self._pace.next()
            if number is None or not self._pace.start(since):
                return
            flight = Flight(number * self.spec.turns, slot, 0, keep_text=True)
            flight.conversation = self._requests.conversation(number)
            flight.body = flight.conversation.request(0)
        else:
            if (not self._ready and not self._prepare(1)) or not self._pace.start(since):
                return
            number, body = self._ready.popleft()
            self._ready_bytes -= len(body)
            flight = Flight(number, slot, 0, keep_text=False)
            flight.body = body
        self._fly(flight)

    def _turn(self, last: Flight) -> None:
        """The next turn of a conversation, with the answer to the last one in it."""
        flight = Flight(last.index + 1, last.slot, 0, keep_text=True)
        flight.turn, flight.conversation = last.turn + 1, last.conversation
        flight.body = flight.conversation.request(flight.turn, last.answer.text)
        self._fly(flight)

    def _send_due(self, now: int) -> None:
        """Open loop: what is planned for now goes out; what finds every connection taken waits, in order."""
        while (due := self._pace.due()) is not None and self.zero + due <= now:
            number = self._pace.take()
            flight = Flight(number, -1, self.zero + due, keep_text=False)
            flight.body = self._requests.single(number)
            self._waiting.append(flight)
        while self._waiting and len(self._flights) + self._connecting < self.spec.concurrency:
            self._fly(self._waiting.popleft())
        if self._more() and not self._idle and not self._refused and len(self._wires) < self.spec.concurrency and self._connecting < 2:
            self._connect(None)                      # one in reserve, so that the next finds it open

    def _fly(self, flight: Flight) -> None:
        if self._idle:
            self._launch(self._idle.popleft(), flight)
        else:
            self._connect(flight)

    def _launch(self, wire: Wire, flight: Flight) -> None:
        self._wires[wire.fd] = (wire, flight)
        flight.wire, flight.epoch = wire, self._offset.epoch
        flight.connect = 0 if wire.used else wire.connect_ns
        wire.used += 1
        self._flights.add(flight)
        flight.send = flight.heard = monotonic_ns()
        self._push(wire, flight)

    def _push(self, wire: Wire, flight: Flight) -> None:
        """Write as much of the request as goes out; the rest when the socket takes it."""
        body, sent = flight.body, flight.sent
        try:
            while sent < len(body):
                n = wire.write(body[sent:] if sent else body)
                if n is None:
                    self._poll.modify(wire.fd, IN | OUT)
                    break
                sent += n
            else:
                if flight.sent:
                    self._poll.modify(wire.fd, IN)
        except OSError:                              # why, or what the server answered before it closed, reading will tell
            sent = len(body)
            self._poll.modify(wire.fd, IN)
        flight.sent = sent

    # ------------------------------------------------------------ receiving

    def _on_other(self, fd: int) -> None:
        """Something on a connection that isn't just waiting for plain reads."""
        if fd == self._stop_fd:
            self.cancelled = True                    # by a person: what is in flight is given up, without a line
            return
        wire, flight = self._wires.get(fd, (None, None))
        if wire is None:
            return
        if not wire.open:
            self._on_connecting(wire, flight)
        elif flight is None:
            self._on_idle(wire)
        else:
            if flight.sent < len(flight.body):
                self._push(wire, flight)
            try:
                got = wire.read()
            except OSError as e:
                self._on_error(flight, e)
                return
            if got is not None:
                flight.reads.append(got)
                self._settled.append(flight)     # not at once: others may have something to read, too

    def _on_error(self, flight: Flight, e: OSError) -> None:
        if isinstance(e, BlockingIOError | InterruptedError):
            return
        self._take_in(flight)
        self._broken(flight.wire, flight, reason(e))

    def _take_in(self, flight: Flight) -> None:
        """Take apart what has been read for this request, and act on its end."""
        if flight not in self._flights:
            return
        self.pieces += len(flight.reads)
        try:
            flight.take_in(self._offset.ns)
        except (NotHttp, EventTooLarge) as e:
            self._drop(flight.wire)
            self._end(flight, "protocol", str(e))
            return
        response, answer = flight.response, flight.answer
        if response.done:
            self._land(flight, flight.landed)
        elif flight.closed:
            if response.head_done and response.end():
                answer.close(flight.closed, flight.closed)
                self._land(flight, flight.closed)
            else:
                self._broken(flight.wire, flight, "the server closed the connection")
        elif answer.plain is not None and len(answer.plain) >= PLAIN_LIMIT:
            self._drop(flight.wire)
            answer.close(flight.heard, flight.heard)
            self._end(flight, *(flight.verdict(None) if response.status != 200 else ("protocol", "a long answer that is no event stream")))
        elif self._way == "kernel" and response.between_chunks and flight.sent == len(flight.body):
            # from here on the end shows in the last bytes of a read: no need to look into each
            self._lanes[flight.wire.fd] = (flight.wire.sock.recvmsg, flight)

    def _land(self, flight: Flight, end: int) -> None:
        """The response is complete: its connection is free, its slot sends the next request."""
        wire = flight.wire
        self._lanes.pop(wire.fd, None)
        if flight.response.keep_alive:
            self._wires[wire.fd] = (wire, None)
            self._idle.append(wire)
        else:
            self._drop(wire)
        error, detail = flight.verdict(self.spec.asked)
        self._end(flight, error, detail, end)

    def _broken(self, wire: Wire, flight: Flight, why: str) -> None:
        """The connection is gone. One that had been used before and brought nothing had been closed while it was idle."""
        self._drop(wire)
        if flight not in self._flights:
            return
        if wire.used > 1 and not flight.response.head_done and not flight.retried:
            self._flights.discard(flight)
            flight.again()
            self._connect(flight)
            return
        error, detail = flight.verdict(self.spec.asked) if flight.response.head_done else ("truncated", "")
        self._end(flight, error, why if error == "truncated" else detail)

    def _end(self, flight: Flight, error: str, detail: str = "", end: int = 0) -> None:
        """A request is over, well or not. Its slot goes on at once; the line about it is written when there is time."""
        self._flights.discard(flight)
        self._over.append((flight, error, detail, end or monotonic_ns()))
        if self._pace.scheduled:
            return
        limit = max(GIVE_UP, self.spec.concurrency)
        if self._refused >= limit:
            self.gave_up = f"{self._refused} connections failed in a row ({self._last_refusal})"
            return
        if error == "connect" and self._refused:
            # refusals come back in microseconds: not again in the same breath
            self._resting.append((monotonic_ns() + REST_NS, flight.slot))
        elif not error and flight.conversation is not None and flight.turn + 1 < self.spec.turns:
            self._turn(flight)
        else:
            self._next(flight.slot)

    # ------------------------------------------------------------ when there is time

    def _finish(self, flight: Flight, error: str, detail: str, end: int) -> None:
        stamps = self._way
        if stamps == "kernel" and flight.send and flight.epoch != self._offset.epoch:
            stamps = "stepped"
        if self._key:
            detail = detail.replace(self._key, "…")      # some servers repeat the key that they refuse
        row = flight.line(self.zero, self.spec.cell, error, detail, end, stamps)
        self._write(row)
        self.done += 1
        self.errors += bool(error) and error != "short"
        if not error:
            n = tokens(flight.answer)
            self.tokens += n
            tpot = (row["e2e"] - row["ttft"]) / max(1, n - row.get("n_first", 1))
            self._recent.append((row["ttft"], tpot))

    def _look_round(self, now: int) -> None:
        """Four times a second: time-outs, the wall clock, a word of progress."""
        self._offset.refresh()
        stall, total = self.spec.stall_s * 1000 * MS, self.spec.timeout_s * 1000 * MS
        for flight in list(self._flights):
            reads = flight.reads
            if reads:
                flight.heard = reads[-1][2]
                if len(reads) > 1:
                    self._gap_ns = (reads[-1][2] - reads[0][2]) // (len(reads) - 1)
                if now - flight.heard > TELL_NS:
                    self._settled.append(flight)         # quiet, and perhaps at its end in an unusual way
            if now - flight.heard > stall and flight.response.status:
                kind, why = "stall", f"nothing came for {self.spec.stall_s:g} s"
            elif now - flight.send > total:
                kind, why = "timeout", f"not finished after {self.spec.timeout_s:g} s"
            else:
                continue
            self._drop(flight.wire)
            self._end(flight, kind, why)
        for wire, flight in list(self._wires.values()):
            if not wire.open and now - wire.connect_ns > CONNECT_S * 1000 * MS:
                self._failed(wire, flight, f"no connection after {CONNECT_S} s")
        self._tell({"done": self.done, "errors": self.errors, "in_flight": len(self._flights),
                    "pieces": self.pieces + sum(len(f.reads) for f in self._flights), "tokens": self.tokens, "t": (now - self.zero) / 1e9, "recent": list(self._recent)})
