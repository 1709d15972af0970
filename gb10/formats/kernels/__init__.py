"""What makes the codec fast on a CPU: compiled loops, threads, memory used again. The formats beside this package say
what is computed; everything here gives the same bits, sooner.

    loops.py    the loops themselves, and all that numba compiles
    load.py     numba only when it is needed, compiled once, kept on disk; None where that can't be had
    memory.py   room for results
    nvfp4.py    NVFP4 on a CPU tensor: stretches of blocks handed to the loops
"""
