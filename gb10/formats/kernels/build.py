"""Compiles the loops: numba turns them into LLVM's language, LLVM into machine code for the processor at hand.

The result is an object file like a C compiler's, which load.py keeps and loads without numba. numba's own cache would do
as well, but every process would then import numba and scipy first, which takes longer than quantizing a whole model.
"""

from __future__ import annotations

import llvmlite.binding as llvm
import numba
from numba import types

from gb10.formats.kernels import loops

if numba.config.DISABLE_JIT:
    raise ImportError("NUMBA_DISABLE_JIT is set, and numba compiles nothing then")


def build() -> tuple[bytes, dict[str, int]]:
    """(object code, name of each loop -> how many arguments it takes)."""
    modules = [_module(name, *export) for name, export in loops.EXPORTS.items()]
    whole = modules[0]
    for module in modules[1:]:
        whole.link_in(module)
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3, reloc="default",
        codemodel="jitdefault", jit=True)
    return machine.emit_object(whole), {name: len(arguments) for name, (_, arguments) in loops.EXPORTS.items()}


def _module(name: str, loop, arguments: tuple) -> llvm.ModuleRef:
    """One loop as a C function called `name`, and nothing else that could be called."""
    function = numba.cfunc(types.int64(*arguments), error_model="numpy")(loop)
    module = llvm.parse_assembly(function.inspect_llvm())
    for f in module.functions:
        if not f.is_declaration and f.name != function.native_name:
            f.linkage = "internal"
    # Once the loop is part of the C function around it, it is plain that it never raises, and all that numba would do
    # in that case (it calls Python) is dropped.
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3)
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    module.get_function(function.native_name).name = name
    left = [f.name for f in module.functions if f.is_declaration and not f.name.startswith(("llvm.", "mem"))]
    if left:
        raise RuntimeError(f"the loop {name} still needs {', '.join(left)}")
    return module
