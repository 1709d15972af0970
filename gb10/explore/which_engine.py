"""Explorer: which engines meet a set of needs, and why the others don't. Every entry with the page that says so.

Read in November 2026. "Out of the box" means: as its documentation starts it, without settings that the course adds for a lesson.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

# need: how it is put
NEEDS = {
    "gguf": "reads GGUF files",
    "nvfp4": "serves NVFP4 checkpoints of ModelOpt",
    "own": "serves any model of yours that it knows the architecture of",
    "users": "many users in one batch, out of the box",
    "json": "holds answers to a JSON schema, out of the box",
    "metrics": "tells queue and cache on a metrics page",
    "keyless": "needs no key of NVIDIA's registry",
    "support": "is a supported product",
}


@dataclass(frozen=True)
class Engine:
    """has: need -> address of a page that says so. lacks: need -> (why not, address)."""

    name: str
    title: str
    made_for: str
    has: dict[str, str]
    lacks: dict[str, tuple[str, str]]


PLAYBOOKS = "https://build.nvidia.com/playbooks"
TRTLLM_SERVE = "https://nvidia.github.io/TensorRT-LLM/0.20.0rc1/commands/trtllm-serve.html"
VARIANTS = "https://docs.nvidia.com/nim/large-language-models/1.14.0/nim-container-variants.html"
ENGINES = (
    Engine("ollama", "Ollama", "one person, one command, models by name",
           {"gguf": "https://docs.ollama.com/import", "own": "https://docs.ollama.com/import",
            "json": "https://docs.ollama.com/capabilities/structured-outputs", "keyless": "https://docs.ollama.com/quickstart"},
           {"nvfp4": ("its models are GGUF, usually Q4_K_M: another 4-bit format", "https://docs.ollama.com/import"),
            "users": ("a model serves one request at a time until OLLAMA_NUM_PARALLEL says more",
                      "https://github.com/ollama/ollama/blob/main/docs/faq.mdx"),
            "metrics": ("its API has no such page", "https://docs.ollama.com/api"),
            "support": ("a community project", "https://github.com/ollama/ollama")}),
    Engine("vllm", "vLLM", "most models, most formats, most switches",
           {"nvfp4": f"{PLAYBOOKS}/vllm", "own": "https://docs.vllm.ai/en/stable/models/supported_models/",
            "users": "https://docs.vllm.ai/en/stable/", "json": "https://docs.vllm.ai/en/stable/features/structured_outputs/",
            "metrics": "https://docs.vllm.ai/en/stable/usage/metrics/", "keyless": f"{PLAYBOOKS}/vllm"},
           {"gguf": ("its GGUF support is experimental by its own words", "https://docs.vllm.ai/en/stable/features/quantization/gguf/"),
            "support": ("a community project", "https://github.com/vllm-project/vllm")}),
    Engine("sglang", "SGLang", "prompts that share long beginnings, programs of many calls",
           {"nvfp4": f"{PLAYBOOKS}/sglang", "own": f"{PLAYBOOKS}/sglang", "users": "https://arxiv.org/abs/2312.07104",
            "json": "https://docs.sglang.io/advanced_features/structured_outputs.html",
            "metrics": "https://docs.sglang.io/references/production_metrics.html", "keyless": f"{PLAYBOOKS}/sglang"},
           {"gguf": ("not what it is made for, and not tried here", f"{PLAYBOOKS}/sglang"),
            "support": ("a community project", "https://github.com/sgl-project/sglang")}),
    Engine("trtllm", "TensorRT-LLM", "NVIDIA's own kernels, on the models of its list",
           {"nvfp4": f"{PLAYBOOKS}/trt-llm", "users": TRTLLM_SERVE, "metrics": TRTLLM_SERVE, "keyless": f"{PLAYBOOKS}/trt-llm"},
           {"gguf": ("it loads checkpoints of the hub", f"{PLAYBOOKS}/trt-llm"),
            "own": ("on a Spark a list of models is supported", f"{PLAYBOOKS}/trt-llm"),
            "json": ("a schema is ignored until guided_decoding_backend is set", "https://github.com/NVIDIA/TensorRT/issues/4855"),
            "support": ("Spark support is called beta in release 1.2", "https://nvidia.github.io/TensorRT-LLM/release-notes.html")}),
    Engine("nim", "NIM", "one container for one model, tested and supported by NVIDIA",
           {"users": "https://docs.nvidia.com/nim/large-language-models/2.1.4/resources/support-and-faq.html",
            "metrics": "https://docs.nvidia.com/nim/large-language-models/2.1.4/resources/support-and-faq.html",
            "support": "https://www.nvidia.com/en-us/data-center/products/ai-enterprise/"},
           {"gguf": ("it brings its model along", VARIANTS), "nvfp4": ("its images for a Spark decide the format themselves", VARIANTS),
            "own": ("an image for a Spark is made for one model", VARIANTS),
            "json": ("for its Spark image the settings of guided decoding are listed as not supported", VARIANTS),
            "keyless": ("it wants an NGC key", "https://build.nvidia.com/spark/nim-llm")}),
)


@dataclass(frozen=True)
class Choice:
    """remaining: engines that meet all needs, in the order of ENGINES. out: engine -> its missing needs."""

    remaining: tuple[Engine, ...]
    out: dict[str, tuple[str, ...]]


def choose(needs: Iterable[str]) -> Choice:
    """Raises ValueError for a need that isn't in NEEDS."""
    wanted = tuple(dict.fromkeys(needs))
    if unknown := [n for n in wanted if n not in NEEDS]:
        raise ValueError(f"there is no need {unknown[0]!r}; there are {', '.join(NEEDS)}")
    missing = {e.name: tuple(n for n in wanted if n not in e.has) for e in ENGINES}
    return Choice(tuple(e for e in ENGINES if not missing[e.name]), {name: m for name, m in missing.items() if m})


def table(needs: Iterable[str] = ()) -> str:
    """The decision table as HTML: a row for each need, a column for each engine, every entry a link to its source."""
    wanted, choice = set(needs), choose(needs)
    heads = "".join(f"<th style='padding:2px 10px;opacity:{1 if e in choice.remaining else 0.45}'>{escape(e.title)}</th>" for e in ENGINES)
    rows = []
    for need, words in NEEDS.items():
        cells = "".join(f"<td style='text-align:center'>{_entry(e, need)}</td>" for e in ENGINES)
        rows.append(f"<tr><th scope='row' style='text-align:left;font-weight:{'bold' if need in wanted else 'normal'}'>{escape(words)}</th>{cells}</tr>")
    return f"<table class='gb10-which-table'><tr><th></th>{heads}</tr>{''.join(rows)}</table>"


def _entry(engine: Engine, need: str) -> str:
    if need in engine.has:
        return f"<a href='{engine.has[need]}' target='_blank'>yes</a>"
    why, url = engine.lacks[need]
    return f"<a href='{url}' target='_blank' title='{escape(why, quote=True)}'>no</a>"


def describe(needs: Iterable[str]) -> str:
    """What remains, and why the others fall out, as lines of text."""
    wanted = tuple(needs)
    choice = choose(wanted)
    names = ", ".join(e.title for e in choice.remaining) or "none of the five"
    lines = [f"{'With nothing asked' if not wanted else 'What remains'}: {names}."]
    lines += [f"{e.title} falls out: {'; '.join(e.lacks[n][0] for n in choice.out[e.name])}." for e in ENGINES if e.name in choice.out]
    return "\n".join(lines)


def explore():
    """Widget: tick what you need."""
    import ipywidgets as w

    boxes = {need: w.Checkbox(description=words, indent=False, layout={"width": "auto"}) for need, words in NEEDS.items()}
    words, page = w.HTML(), w.HTML()
    for need, box in boxes.items():
        box.add_class(f"gb10-which-{need}")
    words.add_class("gb10-which-words")

    def update(_=None):
        needs = [n for n, box in boxes.items() if box.value]
        words.value = "<br>".join(escape(line) for line in describe(needs).splitlines())
        page.value = table(needs)

    for box in boxes.values():
        box.observe(update, "value")
    update()
    return w.VBox([w.GridBox(list(boxes.values()), layout={"grid_template_columns": "repeat(2, max-content)", "grid_gap": "0 24px"}), words, page])
