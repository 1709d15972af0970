"""Waiting for many sockets: epoll, or poll where there is none, under one set of methods."""

from __future__ import annotations

import select

IN, OUT = 1, 4                   # EPOLLIN and POLLIN, EPOLLOUT and POLLOUT


def poller():
    """(poll, nap): `poll` has register, modify, unregister, poll(seconds), close; nap(seconds) waits for an event or so long.

    epoll rounds waiting times up to whole milliseconds; select on the epoll itself doesn't, so naps are exact there.
    """
    if hasattr(select, "epoll"):
        epoll = select.epoll()
        return epoll, lambda seconds: select.select((epoll.fileno(),), (), (), seconds)
    poll = Poll()
    return poll, poll.poll


class Poll:
    """select.epoll's few methods over select.poll (macOS)."""

    def __init__(self):
        self._poll = select.poll()

    def register(self, fd: int, mask: int) -> None:
        self._poll.register(fd, mask)

    modify = register

    def unregister(self, fd: int) -> None:
        self._poll.unregister(fd)

    def poll(self, seconds: float = 0) -> list:
        return self._poll.poll(seconds * 1000)

    def close(self) -> None:
        """There is nothing to close."""
