"""What more users at once bring: throughput and the speed of each, relative to one user alone."""

from __future__ import annotations

from dataclasses import dataclass

from gb10.explore import figure

COLOURS, MARKERS, LINES = (figure.BLUE, figure.ORANGE, figure.GREEN, figure.RED), "os^D", ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Gain:
    """One level of one engine. all and each: tokens per second of all together and of one of them, in units of one user alone."""

    engine: str
    users: int
    all: float
    each: float
    ttft: float          # median, in units of one user alone


def gains(result, engine: str | None = None) -> tuple[Gain, ...]:
    """The levels of a bench.Result relative to its level of one user. Raises ValueError without one."""
    rows = {r["concurrency"]: r for r in result.rows if r["rate"] is None and r["user_tps"] and r["system_tps"]}
    if 1 not in rows:
        raise ValueError("there is no level with one user, so there is nothing to compare with: measure with concurrency=(1, …).")
    one = rows[1]
    return tuple(Gain(engine or r["engine"], users, r["system_tps"] / one["system_tps"], r["user_tps"] / one["user_tps"],
                      r["ttft_ms"]["p50"] / one["ttft_ms"]["p50"]) for users, r in sorted(rows.items()))


def describe(found: tuple[Gain, ...]) -> str:
    """One line for each level."""
    return "\n".join(f"{g.engine}, {g.users:>2} at once: {g.all:5.2f} times the tokens, each at {g.each:4.2f} of the speed, "
                     f"first token after {g.ttft:5.1f} times as long" for g in found)


def draw(found: tuple[Gain, ...]):
    """Figure: all together to the left, one of them to the right, over the number of users."""
    fig, (left, right) = figure.new(9, 3.4, columns=2)
    users = sorted({g.users for g in found})
    for i, engine in enumerate(dict.fromkeys(g.engine for g in found)):
        mine = [g for g in found if g.engine == engine]
        look = {"color": COLOURS[i % 4], "marker": MARKERS[i % 4], "linestyle": LINES[i % 4], "label": engine}
        left.plot([g.users for g in mine], [g.all for g in mine], **look)
        right.plot([g.users for g in mine], [g.each for g in mine], **look)
    left.plot(users, users, color=figure.GREY, linewidth=1, linestyle=(0, (1, 2)), label="if users were free")
    for ax, title in ((left, "all users together"), (right, "one of them")):
        ax.set_xscale("log", base=2)
        ax.set_xticks(users, [str(u) for u in users])
        ax.minorticks_off()
        ax.set(xlabel="users at once", ylabel="tokens/s, one user alone = 1", title=title, ylim=(0, None))
    left.legend(fontsize=8)
    return fig


def show(found: tuple[Gain, ...]):
    """The picture, with every value in its alt text."""
    said = "; ".join(f"{g.engine} at {g.users}: {g.all:.2f} and {g.each:.2f}" for g in found)
    return figure.show(draw(found), f"Tokens per second of all users and of one of them, in units of one user alone, over the number of users. {said}.")
