"""./course inspect: what is in a checkpoint, read from its headers."""

from __future__ import annotations

import sys

HELP = ("What is in a checkpoint: what each tensor became, bits per weight, what stayed in 16 bits and what that costs, "
        "the scales and their convention, the KV cache. Reads headers only, never a weight, and never a pickle.")
EXAMPLES = """\
  ./course inspect path/to/checkpoint                  a folder with *.safetensors (ModelOpt, compressed-tensors, …)
  ./course inspect model-Q4_K_M.gguf                   a GGUF file; of a split one name any part
  ./course inspect model.safetensors                   one file by itself
  ./course inspect path/to/checkpoint --tensors        a line for each weight
  ./course inspect path/to/checkpoint --json           for a script; with --tensors each weight and its tensors
  ./course inspect appendix/pico/model                 the model that the course ships, in BF16

How to read it. Bits are bytes x 8 / parameters with all scales counted: NVFP4 is 4 bits for the code and 8 for each
16 weights' scale, 4.5 together. W4A4 means that the input is rounded to 4 bits too, W4A16 that it isn't; the input's
scale in the file says which. Scales of whole tensors come in two conventions that are each other's inverse: ModelOpt's
weight_scale_2 = amax / 2688 multiplies, compressed-tensors' weight_global_scale = 2688 / amax divides. Each is shown
with a number of this checkpoint and the largest weight (amax) that it implies.
A warning says where metadata and tensors don't agree, or a number can't be right. Exit code 0 with the report, warnings
or not; 2 for what is damaged, cut off, pickled, or no checkpoint.
"""


def add_arguments(parser) -> None:
    add = parser.add_argument
    add("checkpoint", nargs="?", metavar="CHECKPOINT", help="a folder, a .safetensors file or a .gguf file")
    add("--tensors", action="store_true", help="list every weight, not one line for all layers")
    add("--json", action="store_true", help="print one line of JSON")


def run(args) -> int:
    from gb10.errors import UserError
    from gb10.quantize.inside.report import inspect

    if args.checkpoint is None:
        raise UserError("which checkpoint? './course inspect appendix/pico/model' for instance.")
    report = inspect(args.checkpoint)
    if args.json:
        import json

        print(json.dumps(report.to_dict(tensors=args.tensors), allow_nan=False))
    else:
        from gb10.quantize.inside.page import page

        text = "\n".join(page(report, sys.stdout.isatty(), args.tensors))
        code = sys.stdout.encoding or "utf-8"            # a name may hold what this terminal can't show
        print(text.encode(code, "backslashreplace").decode(code))
    return 0
