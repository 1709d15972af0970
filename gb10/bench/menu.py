"""The menu of a bare call in a terminal: who is up, whom to measure, how long."""

from __future__ import annotations

from gb10.bench import probe
from gb10.bench.options import PRESETS
from gb10.errors import UserError

STOPPED = UserError("nothing was chosen, nothing was measured.")


def choose(o, ask=input, say=print) -> None:
    """Ask, and fill the answer in as if it had been given by flags. Raises UserError when nothing is chosen."""
    rows = probe.up(key=o.key)
    numbered = [r for r in rows if r["number"]]
    say("Which server shall be measured?\n")
    for r in numbered:
        say(f"  {r['number']}  {line(r)}")
    say("  4  any other URL")
    others = [r for r in rows if not r["number"] and r["answers"]]
    for r in others:
        say(f"       (up as well: {line(r)}, {r['url']})")
    up = [r for r in rows if r["answers"]]
    say(f"  5  compare all that are up ({len(up)})\n")
    choice = _ask(ask, "Number: ", {str(n) for n in range(1, 6)})
    if choice == "4":
        try:
            o.url = [ask("URL: ").strip()]
        except EOFError:
            raise STOPPED from None
        if not o.url[0]:
            raise STOPPED
    elif choice == "5":
        if not up:
            raise UserError("nothing is up to be compared: start an engine first, with ./course up for instance.")
        o.url = [r["url"] for r in up]
    else:
        row = numbered[int(choice) - 1]
        if not row["answers"]:
            raise UserError(f"{row['name']} does not answer at {row['url']}" + (f" ({row['warning']})" if row["warning"] else "") +
                            ": start it, or choose another.")
        o.url = [row["url"]]
        if len(row["models"]) > 1:
            for i, name in enumerate(row["models"], 1):
                say(f"  {i}  {name}")
            pick = _ask(ask, "Which of its models? ", {str(i) for i in range(1, len(row["models"]) + 1)})
            o.model = [row["models"][int(pick) - 1]]
    say("\nHow thoroughly?\n")
    for i, (name, (_, _, what)) in enumerate(PRESETS.items(), 1):
        say(f"  {i}  {name:<9} {what}")
    o.preset = list(PRESETS)[int(_ask(ask, "Number: ", {"1", "2", "3"})) - 1]


def line(row: dict) -> str:
    """"vLLM          up, Qwen3-8B" or "… not up", with a warning where another engine answers on its port."""
    if not row["answers"]:
        return f"{row['name']:<13} " + (row["warning"] or f"not up ({row['url']})")
    models = ", ".join(row["models"][:2]) + (f" and {len(row['models']) - 2} more" if len(row["models"]) > 2 else "")
    return f"{row['name']:<13} up: {models}" + (f"   WARNING: {row['warning']}" if row["warning"] else "")


def _ask(ask, question: str, allowed: set[str]) -> str:
    for _ in range(3):
        try:
            answer = ask(question).strip()
        except EOFError:
            break
        if answer in allowed:
            return answer
        if not answer:
            break
        print(f"  {answer!r} is not on the list.")
    raise STOPPED
