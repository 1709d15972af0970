"""What is inside a checkpoint, from its headers alone: safetensors of any layout, and GGUF.

sniff      what a file is, by its first bytes        guard     JSON that may be hostile
header     the safetensors header                    gguf      the GGUF head; ggml: its types
files      from a path to the files of a model       parts     which tensors belong together
layouts    what each weight became; foreign          scales    conventions of scales, and wrong ones
declared   what the metadata says                    checks    where it and the tensors differ
kept       what stayed in 16 bits, and its cost      rows      sums over weights
report     all of it; as_json, page: to read

(The package isn't called inspect: gb10.quantize.inspect is the function, and a module of that name would hide it.)
"""
