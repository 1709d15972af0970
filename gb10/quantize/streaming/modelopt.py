"""The plan, asked of ModelOpt itself: it quantizes the model on torch's meta device, where weights have no values.

What ModelOpt decides by names and by which layers read the same input needs no weight. So its own functions are called
on a model without any: the config's wildcards choose the layers, its hooks on a forward pass find the ones that an
engine fuses, and its export names what stays. (modelopt.torch.export.unified_export_hf, 0.47.0.)
"""

from __future__ import annotations

import contextlib
import copy
import io
import re
import warnings

from gb10.errors import UserError
from gb10.quantize.streaming.plan import ALGORITHM, Plan
from gb10.quantize.streaming.source import Source


class NotStreamable(UserError):
    """The weights have to be loaded to quantize this model: it isn't wrong, only not for the stream."""


def plan(source: Source) -> Plan:
    """Raises NotStreamable where ModelOpt does more to the weights than quantize matrix by matrix."""
    quiet = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        warnings.simplefilter("ignore")
        import torch

        with torch.no_grad():
            return _Asked(source).plan()


class _Asked:
    def __init__(self, source: Source):
        import modelopt.torch.quantization as mtq
        from modelopt.torch.export.quant_aware_conversion import build_reverse_name_mapper

        self.source = source
        self.model = _empty_model(source)
        config = copy.deepcopy(mtq.W4A16_NVFP4_CFG)
        config["algorithm"] = None                 # quantizers only; the largest weights are found while streaming
        try:
            mtq.quantize(self.model, config, None)
        except Exception as e:  # noqa: BLE001 - ModelOpt raises whatever it likes for a model that it doesn't know
            raise NotStreamable(f"ModelOpt can't take {type(self.model).__name__} apart ({type(e).__name__}).") from None
        self.on_disk = build_reverse_name_mapper(self.model) or (lambda name: name)

    def plan(self) -> Plan:
        groups, experts = self._groups()
        quantized = {name for group in groups for name in group}
        ties = getattr(self.model, "all_tied_weights_keys", None) or {}
        tied = {self.on_disk(name): self.on_disk(other) for name, other in dict(ties).items()}
        expected, cast = {}, {}
        for name, tensor in self.model.state_dict().items():
            if "_quantizer" not in name and not any(name.startswith(f"{e}.") for e in experts):
                expected[self.on_disk(name)] = (_dtype_name(self._dtype(name, tensor)), tuple(tensor.shape))
        self._refuse_missing(set(expected) - set(tied))
        kept, left = [], []
        for name, info in self.source.tensors.items():
            dtype, shape = expected.get(name, (info.dtype, info.shape))
            if shape != info.shape:
                raise NotStreamable(f"{name} is {list(info.shape)} in the file and {list(shape)} in the model.")
            if name in quantized:
                if info.dtype != dtype:
                    raise NotStreamable(f"{name} is {info.dtype}, and the model computes in {dtype}.")
            elif name in tied:
                self._refuse_another(name, tied[name])
                left.append(name)
            elif name not in expected:
                left.append(name)
            else:
                kept.append(name)
                if info.dtype != dtype:
                    cast[name] = dtype
        return Plan(tuple(groups), tuple(kept), tuple(left), self._excluded(), cast, "modelopt")

    def _groups(self) -> tuple[list[tuple[str, ...]], list[str]]:
        """(groups of names on disk, names of the modules that hold a layer's experts in one tensor)."""
        import torch
        from modelopt.torch.quantization.plugins.huggingface import _QuantFusedExperts

        linear, experts = [], []
        for name, module in self.model.named_modules():
            if isinstance(module, _QuantFusedExperts):
                experts.append(name)
                module.forward = lambda hidden, *rest, **named: hidden     # routing looks at values, and there are none
            elif _is_quantized(module):
                # other kinds have exports of their own
                if type(module).__name__ != "QuantLinear" or not isinstance(module, torch.nn.Linear) \
                        or re.search(r"experts?\.\d+", name):
                    raise NotStreamable(f"{name} is a {type(module).__name__}, which ModelOpt exports in a way of its own.")
                linear.append(name)
        shapes = {self.on_disk(f"{name}.weight"): tuple(self.model.get_submodule(name).weight.shape) for name in linear}
        fused = [group for group in self._sharing() if len(group) > 1]
        shared = {name for group in fused for name in group}
        groups = [tuple(self.on_disk(f"{n}.weight") for n in group) for group in (*fused, *([n] for n in linear
                                                                                            if n not in shared))]
        for group in groups:
            for name in group:
                if name not in self.source.tensors:
                    raise NotStreamable(f"{self.source.folder} has no {name}.")
                if self.source.tensors[name].shape != shapes[name]:        # Conv1D of GPT-2 is turned over
                    raise NotStreamable(f"{name} is {list(self.source.tensors[name].shape)} in the file and "
                                        f"{list(shapes[name])} in the model.")
        for name in experts:
            groups += self._expert_groups(self.on_disk(name), self.model.get_submodule(name))
        return groups, experts

    def _sharing(self) -> list[list[str]]:
        """Names of layers that read the same input, as ModelOpt's hooks see it in a forward pass."""
        import torch
        from modelopt.torch.export.unified_export_hf import collect_shared_input_modules

        def forward():
            # a mask of four axes is taken as it is; any other would be looked at
            self.model(torch.ones([1, 2], dtype=torch.long, device="meta"), use_cache=False,
                       attention_mask=torch.zeros(1, 1, 2, 2, dtype=self.model.dtype, device="meta"))

        try:
            by_input, _ = collect_shared_input_modules(self.model, forward)
        except Exception as e:  # noqa: BLE001 - whatever the model's code does with values that aren't there
            raise NotStreamable(f"the code of {type(self.model).__name__} looks at values "
                                f"({type(e).__name__} on a model without weights).") from None
        return [[module.name for module in modules] for modules in by_input.values()]

    def _expert_groups(self, prefix: str, module) -> list[tuple[str, ...]]:
        """Experts lie one by one on disk; of each the gate and up matrices share a tensor scale."""
        count, hidden, ffn = (module.down_proj.shape[i] for i in range(3))
        found: dict[int, dict[str, str]] = {}
        pattern = re.compile(re.escape(prefix) + r"\.(0|[1-9][0-9]*)\.(gate_proj|up_proj|down_proj|w1|w2|w3)\.weight", re.ASCII)
        for name, info in self.source.tensors.items():
            match = pattern.fullmatch(name)
            if match:
                found.setdefault(int(match[1]), {})[match[2]] = name
                if info.shape != ((hidden, ffn) if match[2] in ("down_proj", "w2") else (ffn, hidden)):
                    raise NotStreamable(f"{name} is {list(info.shape)}, which isn't what the config says.")
        if sorted(found) != list(range(count)) or any(sorted(e) not in (["down_proj", "gate_proj", "up_proj"],
                                                                        ["w1", "w2", "w3"]) for e in found.values()):
            raise NotStreamable(f"the {count} experts of {prefix} don't lie one by one in the files.")
        groups = []
        for _, e in sorted(found.items()):
            first, second, last = ("w1", "w3", "w2") if "w1" in e else ("gate_proj", "up_proj", "down_proj")
            groups += [(e[first], e[second]), (e[last],)]
        return groups

    def _excluded(self) -> tuple[str, ...]:
        from modelopt.torch.export.quant_aware_conversion import revert_quant_config_names
        from modelopt.torch.export.unified_export_hf import get_quant_config

        found = get_quant_config(self.model)["quantization"]
        if found.get("quant_algo") != ALGORITHM:
            raise NotStreamable(f"ModelOpt calls the result {found.get('quant_algo')}, not {ALGORITHM}.")
        revert_quant_config_names(found, self.on_disk)
        return tuple(found["exclude_modules"])

    def _dtype(self, name: str, tensor):
        """The dtype that the tensor has once it is loaded: some stay in FP32 whatever the model is in."""
        import torch

        half = self.model.dtype in (torch.float16, torch.bfloat16)
        always = getattr(self.model, "_keep_in_fp32_modules_strict", None) or ()
        often = getattr(self.model, "_keep_in_fp32_modules", None) or ()
        if tensor.is_floating_point() and half and (any(part in name for part in always) or (
                self.model.dtype == torch.float16 and any(part in name for part in often))):
            return torch.float32
        return tensor.dtype

    def _refuse_missing(self, expected: set[str]) -> None:
        missing = sorted(expected - set(self.source.tensors))
        if missing:
            raise NotStreamable(f"{self.source.folder} has no {missing[0]} ({len(missing)} tensors that the model has are "
                                f"not there under its names).")

    def _refuse_another(self, name: str, other: str) -> None:
        """A tied matrix that is on disk too is left out if it is a copy; transformers unties it if it isn't."""
        from gb10.quantize.streaming.encode import Files, same

        files, tensors = Files(self.source.folder), self.source.tensors
        try:
            if other not in tensors or not same(files, tensors[name], tensors[other]):
                raise NotStreamable(f"{name} is another matrix than {other}, though the config ties them.")
        finally:
            files.close()


def _empty_model(source: Source):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(source.folder, local_files_only=True, trust_remote_code=False)
        floats = (t.dtype for t in source.tensors.values() if t.dtype in _TORCH)
        dtype = getattr(config, "dtype", None) or getattr(torch, _TORCH[next(floats, "BF16")])
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False).eval()
    except Exception as e:  # noqa: BLE001 - transformers raises whatever it likes for a config that it can't build
        import transformers

        raise UserError(f"transformers {transformers.__version__} can't build the model of {source.folder} "
                        f"({' '.join(str(e).split())[:160] or type(e).__name__}): it isn't a text model that it knows, and "
                        f"code that comes with a checkpoint isn't run.") from None
    model.tie_weights()
    return model


_TORCH = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


def _dtype_name(dtype) -> str:
    import torch

    names = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32", torch.float64: "F64", torch.int64: "I64",
             torch.int32: "I32", torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16", torch.bool: "BOOL"}
    return names[dtype]


def _is_quantized(module) -> bool:
    return any(name.endswith("weight_quantizer") and getattr(child, "is_enabled", False)
               for name, child in module.named_children())
