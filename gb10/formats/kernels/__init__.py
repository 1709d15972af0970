"""What makes the codec fast on a CPU: compiled loops, threads, memory used again. The formats beside this package say
what is computed; everything here gives the same bits, sooner.

    loops.py    the loops themselves
    vectors.py  their innermost steps, a block or two at a time
    build.py    compiles them, through numba and LLVM
    load.py     gets them: compiled once, kept on disk; None where that can't be had
    memory.py   room for results
    nvfp4.py    NVFP4 on a CPU tensor: stretches of blocks handed to the loops
"""
