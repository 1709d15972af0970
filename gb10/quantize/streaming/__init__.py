"""Weight-only NVFP4 as a stream: a checkpoint of any size becomes a ModelOpt checkpoint, with no model in memory.

    source.py     the checkpoint to read: its headers, and where each tensor's bytes lie
    plan.py       which weights become NVFP4, which of them share a tensor scale, what stays, what is left out
    planning.py   who makes it: rules.py or modelopt.py
    rules.py      the plan for a few common architectures, from the names alone
    modelopt.py   the plan for every other one, asked of ModelOpt itself on a model without weights
    layout.py     the files to write: header and places, known before the first weight is read
    encode.py     one group of weights from file to file, a stretch that fits the cache at a time
    journal.py    what is done already, so that an interrupted run goes on
    run.py        all of it, in threads
    cluster.py    the same, spread over the machines of a Ray cluster
"""
