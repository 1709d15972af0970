"""The streaming loops, compiled by numba; all of them let other threads run meanwhile.

Each runs over its arrays `passes` times, so that small arrays stay in a cache for as long as a measurement takes.
"""

import numpy as np


def read(x, passes):
    """Sum of all elements, int64 [n]. The pass number goes into each, so that no pass can be left out as a repetition.

    Four places are read at once, as a matrix product reads several rows: one stream alone waits for itself.
    """
    a = b = c = d = np.int64(0)
    n = x.size // 4
    for p in range(passes):
        for i in range(n):
            a += x[i] ^ p
            b += x[i + n] ^ p
            c += x[i + 2 * n] ^ p
            d += x[i + 3 * n] ^ p
    return a + b + c + d


def copy(x, y, passes):
    """y = x, int64 [n]."""
    for p in range(passes):
        for i in range(x.size):
            y[i] = x[i] ^ p


def triad(x, y, z, passes):
    """z = x + 3 y, int64 [n]: the triad of the STREAM benchmark."""
    for p in range(passes):
        for i in range(x.size):
            z[i] = x[i] + 3 * (y[i] ^ p)


def compiled(keep: bool):
    """name -> compiled loop; with keep, the machine code is kept on disk for the next time."""
    import numba

    return {f.__name__: numba.njit(nogil=True, cache=keep)(f) for f in (read, copy, triad)}
