"""What a conversation costs in prefill: every turn sends everything that was said before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gb10.explore import figure


@dataclass(frozen=True)
class Turn:
    """One request of a conversation, in tokens. new: never sent before; repeated: read or written by the engine in earlier turns;
    computed: what prefill works through; ttft_ms: the time that takes."""

    number: int
    new: int
    repeated: int
    computed: int
    ttft_ms: float

    @property
    def prompt(self) -> int:
        return self.new + self.repeated


def turns_of(turns: Sequence[tuple[int, int]], system: int, cached: bool = False, ms_per_token: float = 0.0, start_ms: float = 0.0) -> list[Turn]:
    """turns: (tokens of the question, tokens of the answer) of each; system: tokens of the system prompt.

    cached: a perfect prefix cache, which knows whatever was read or written before. (A real one knows whole blocks of it.)
    """
    out, said = [], 0
    for number, (question, answer) in enumerate(turns, 1):
        new = question + (system if number == 1 else 0)
        computed = new if cached else new + said
        out.append(Turn(number, new, said, computed, start_ms + ms_per_token * computed))
        said += new + answer
    return out


def prefill_of(turns: Sequence[tuple[int, int]], system: int, cached: bool = False) -> int:
    """Prompt tokens that are computed over a whole conversation."""
    return sum(t.computed for t in turns_of(turns, system, cached))


def found_in_cache(usage: dict | None, change) -> float | None:
    """Prompt tokens that the prefix cache had: from the answer's own usage, else from the engine's counters; None if neither tells.

    change: gauges.Gauges as differences over the request, or None."""
    told = ((usage or {}).get("prompt_tokens_details") or {}).get("cached_tokens")
    return told if told is not None else getattr(change, "hits", None)


def compute(turns: int, question: int, answer: int, system: int, cached: bool, *, tokens_per_word: float, ms_per_token: float = 0.0,
            start_ms: float = 0.0) -> list[Turn]:
    """The same with words in place of tokens, for a conversation whose turns are all alike."""
    q, a, s = (round(n * tokens_per_word) for n in (question, answer, system))
    return turns_of([(q, a)] * turns, s, cached, ms_per_token, start_ms)


def describe(found: Sequence[Turn], cached: bool) -> str:
    """Two sentences with the figures."""
    last, total, sent = found[-1], sum(t.computed for t in found), sum(t.prompt for t in found)
    text = (f"{len(found)} {'turn' if len(found) == 1 else 'turns'}, prefix cache {'on' if cached else 'off'}: {sent:,} prompt tokens are sent and {total:,} "
            f"computed, {100 * total / sent if sent else 0:.0f} %. The last prompt has {last.prompt:,} tokens, {last.repeated:,} of them said before")
    return text + (f"; its first token comes after {last.ttft_ms:,.0f} ms." if last.ttft_ms else ".")


def draw(found: Sequence[Turn], cached: bool):
    """Figure: tokens of each prompt, new on top of repeated; beside it the time to the first token."""
    fig, (left, right) = figure.new(9, 3.2, columns=2)
    numbers = [t.number for t in found]
    again = "#d7d7d7" if cached else figure.ORANGE
    left.bar(numbers, [t.repeated for t in found], color=again, label="said before, " + ("in the cache" if cached else "computed again"))
    left.bar(numbers, [t.new for t in found], bottom=[t.repeated for t in found], color=figure.BLUE, label="new")
    left.set(xlabel="turn", ylabel="tokens of the prompt", ylim=(0, max(1, 1.35 * max(t.prompt for t in found))))
    left.legend(frameon=False, loc="upper left")
    right.plot(numbers, [t.ttft_ms for t in found], color=figure.BLUE, marker="o", markersize=3)
    right.set(xlabel="turn", ylabel="ms to the first token", ylim=(0, max(1.0, 1.15 * max(t.ttft_ms for t in found))))
    for ax in (left, right):
        ax.xaxis.get_major_locator().set_params(integer=True)
    return fig


def explore(tokens_per_word: float, ms_per_token: float, start_ms: float = 0.0):
    """Widget: turns, words per question and answer, system prompt, cache. The arguments are the reader's own measurements."""
    import ipywidgets as w

    wide = {"style": {"description_width": "130px"}, "layout": w.Layout(width="60%"), "continuous_update": False}
    controls = {
        "turns": w.IntSlider(10, 1, 40, description="turns", **wide),
        "question": w.IntSlider(20, 5, 300, 5, description="words per question", **wide),
        "answer": w.IntSlider(120, 5, 600, 5, description="words per answer", **wide),
        "system": w.IntSlider(100, 0, 3000, 50, description="words of system", **wide),
        "cached": w.Checkbox(False, description="prefix cache", style={"description_width": "130px"}),
    }
    image, words = w.HTML(), w.HTML()
    for name, control in (controls | {"image": image, "words": words}).items():
        control.add_class(f"gb10-conversation-{name}")

    def update(_=None):
        values = {name: control.value for name, control in controls.items()}
        found = compute(**values, tokens_per_word=tokens_per_word, ms_per_token=ms_per_token, start_ms=start_ms)
        said = describe(found, values["cached"])
        image.value = figure.show(draw(found, values["cached"]), f"Prompt tokens and time to the first token, turn by turn. {said}")._repr_html_()
        words.value = said

    for control in controls.values():
        control.observe(update, "value")
    update()
    return w.VBox([*controls.values(), image, words])
