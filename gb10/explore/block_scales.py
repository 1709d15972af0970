"""What a block's scale may be: exactly right, an E4M3 number, or a power of two (E8M0)."""

from __future__ import annotations

from dataclasses import dataclass

BLOCK = 16
RULES = ("exact", "E4M3", "E8M0 floor", "E8M0 ceil")


def scale_for(amax, rule: str):
    """The scale that a block with largest magnitude amax (FP32 tensor, > 0) gets by a rule; it should be amax / 6.

    exact: an FP32 number. E4M3: the nearest one, within E4M3's normal range relative to the largest amax given (that is
    what NVFP4's tensor scale is for). E8M0 floor and ceil: the two usual rules for a power of two, see gb10/formats/mx.py.
    """
    import torch

    from gb10.formats.elements import E2M1_EMAX, E2M1_MAX, E4M3_MAX, E4M3_MIN

    if rule == "exact":
        return amax / E2M1_MAX
    if rule == "E4M3":
        g = amax.amax() / (E2M1_MAX * E4M3_MAX)
        return (amax / (E2M1_MAX * g)).clamp(E4M3_MIN, E4M3_MAX).to(torch.float8_e4m3fn).float() * g
    if rule == "E8M0 floor":
        _, exponent = torch.frexp(amax)                      # amax = m * 2^exponent, 0.5 <= m < 1: no logarithm
        return torch.ldexp(torch.ones_like(amax), exponent - 1 - E2M1_EMAX)
    if rule == "E8M0 ceil":
        m, exponent = torch.frexp(amax)
        return torch.ldexp(torch.ones_like(amax), exponent - 1 - E2M1_EMAX + (m > E2M1_MAX / 8).int())
    raise ValueError(f"a rule for the scale is one of {', '.join(RULES)}, not {rule!r}")


def reconstruct(x, rule: str, block: int = BLOCK):
    """x [..., K], K % block == 0, rounded to E2M1 in blocks with such scales, and back. A block of zeros stays zero."""
    import torch

    from gb10.formats.elements import decode_e2m1, encode_e2m1

    blocks = x.detach().float().unflatten(-1, (-1, block))
    amax = blocks.abs().amax(-1, keepdim=True)
    scale = scale_for(torch.where(amax == 0, amax.amax().clamp(min=2.0 ** -100), amax), rule)
    return (decode_e2m1(encode_e2m1(blocks / scale)) * scale).flatten(-2)


@dataclass(frozen=True)
class Landing:
    """Where a block's largest weight lands on the E2M1 grid (which ends at 6), over one rule."""

    rule: str
    amax: tuple[float, ...]
    lands: tuple[float, ...]     # amax / scale, before it is rounded or clipped


def landing(rule: str, low: float = 1.0, high: float = 16.0, points: int = 481) -> Landing:
    """amax from low to high, evenly spaced on a logarithmic scale; the tensor's largest magnitude is `high`."""
    import torch

    amax = low * (high / low) ** torch.linspace(0, 1, points)
    return Landing(rule, tuple(amax.tolist()), tuple((amax / scale_for(amax, rule)).tolist()))


def sharing(x, sizes) -> dict[int, float]:
    """block size -> relative RMS error of x [N, K] when so many neighbours share one exact (FP32) scale."""
    from gb10.formats.error import relative_rmse

    return {n: relative_rmse(x, reconstruct(x, "exact", n)) for n in sizes}


def draw_landing():
    """Figure: the largest weight of a block, after scaling, for E4M3 and the two rules of E8M0."""
    from gb10.explore import figure

    fig, axes = figure.new(10, 3.0, columns=3)
    for ax, rule in zip(axes, RULES[1:], strict=True):
        curve = landing(rule)
        ax.axhspan(6, 9, color="#f3dfc8", zorder=0)
        ax.axhline(6, color=figure.GREY, linewidth=1)
        ax.plot(curve.amax, curve.lands, color=figure.BLUE, linewidth=1.8)
        ax.set(xscale="log", ylim=(2.2, 9), xlabel="largest weight of the block", title=rule)
        ax.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
        ax.set_xticks([], minor=True)
    axes[0].set_ylabel("where it lands on the grid")
    axes[1].text(1.1, 8.35, "above 6: clipped", fontsize=9)
    axes[2].text(1.1, 2.4, "below 6: the top of the grid is unused", fontsize=9)
    return fig
