"""How wrong is the predictor on measurements that it was not fitted to?  python -m gb10.roofline.validate

Every group (a model, an engine, a format) is left out in turn, the constants are fitted to the rest, and the group is
predicted. Beside it the naive rule: quoted active parameters x the bits in the format's name, and the one constant that
suits it best. Errors are those of the predicted rate relative to the measured one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from gb10 import catalog
from gb10.roofline import calibrate
from gb10.roofline.calibrate import BANDWIDTH, Row
from gb10.roofline.calibration import CEILING, REACH, Calibration, load, packing


@dataclass(frozen=True)
class Point:
    """One measurement and what was predicted for it."""

    row: Row
    predicted: float
    low: float
    high: float
    limit: float

    @property
    def error(self) -> float:
        """Relative: +0.05 = predicted 5 % too fast."""
        return self.predicted / self.row.tps - 1

    @property
    def inside(self) -> bool:
        return self.low <= self.row.tps <= self.high


def predict(row: Row, c: Calibration) -> Point:
    """The same arithmetic as roofline.fit, with given constants."""
    seconds = c.seconds(row.bytes, BANDWIDTH, packing(row.weights), row.engine, row.moe, row.layers, row.hybrid)
    seconds /= c.batch_factor(row.batch, row.engine, row.moe)
    limit = row.batch * BANDWIDTH / row.bytes
    tps = min(row.batch / seconds, CEILING * limit)
    half = c.half_width(row.batch, row.engine, row.moe, row.hybrid)
    return Point(row, tps, tps * math.exp(-half), min(tps * math.exp(half), REACH * limit), limit)


def left_out(rows: list[Row], group: Callable[[Row], object]) -> list[Point]:
    """Every row predicted with constants that were fitted without its group."""
    points, batch = [], load().batch
    for g in sorted({group(r) for r in rows}, key=str):
        c = replace(calibrate.fit([r for r in rows if group(r) != g]), batch=batch)
        points += [predict(r, c) for r in rows if group(r) == g]
    return points


def naive(rows: list[Row]) -> list[float]:
    """Relative errors of the naive rule at its best constant (the median)."""
    shares = sorted(r.tps * r.naive for r in rows)
    best = shares[len(shares) // 2]
    return [best / r.naive / r.tps - 1 for r in rows]


def first_of_each(points: list[Point]) -> list[Point]:
    """One row per configuration (model, format, engine), that with the shortest context."""
    best: dict[tuple, Point] = {}
    for p in points:
        if p.row.config not in best or p.row.context < best[p.row.config].row.context:
            best[p.row.config] = p
    return list(best.values())


def quantile(values: list[float], q: float) -> float:
    ordered = sorted(values)
    at = q * (len(ordered) - 1)
    low = int(at)
    return ordered[low] + (at - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])


def summary(points: list[Point]) -> dict[str, float]:
    """n, median and 90th percentile of the absolute error, share inside the band, highest share of the limit."""
    errors = [abs(p.error) for p in points]
    return {"n": len(points), "median": quantile(errors, 0.5), "p90": quantile(errors, 0.9),
            "inside": sum(p.inside for p in points) / len(points),
            "highest": max(p.predicted / p.limit for p in points)}


def shipped() -> list[Point]:
    """All usable batch-1 measurements, predicted with the constants as shipped: what lesson 1 draws."""
    return [predict(r, load()) for r in calibrate.single(calibrate.rows())]


def doubtful() -> list[tuple[Point, str]]:
    """Single-stream GB10 measurements whose decode rate is in doubt, predicted all the same, with the reason: a figure
    draws them hollow."""
    rows = {m.id: m for m in catalog.measurements() if m.machine_name == "gb10" and m.batch == 1 and m.weights
            and m.decode_tps and "decode_tps" in m.spoils}
    return [(predict(calibrate.row(m), load()), m.reason) for m in rows.values()]


def tables() -> dict[str, list[Point]]:
    """The comparisons by name."""
    rows = calibrate.single(calibrate.rows())
    return {"fitted to them": shipped(), "model left out": left_out(rows, lambda r: r.model),
            "engine left out": left_out(rows, lambda r: r.engine),
            "format left out": left_out(rows, lambda r: packing(r.weights))}


def main() -> int:
    found = tables()
    print(f"{'':<18}{'n':>5}{'median':>9}{'p90':>9}{'in band':>9}{'highest share of the limit':>29}")
    for name, points in found.items():
        for label, chosen in ((name, first_of_each(points)), ("  all depths", points)):
            s = summary(chosen)
            print(f"{label:<18}{s['n']:>5}{s['median']:>9.1%}{s['p90']:>9.1%}{s['inside']:>9.0%}{s['highest']:>29.2f}")
    for label, chosen in (("naive rule", first_of_each(found["fitted to them"])), ("  all depths", found["fitted to them"])):
        errors = [abs(e) for e in naive([p.row for p in chosen])]
        print(f"{label:<18}{len(errors):>5}{quantile(errors, 0.5):>9.1%}{quantile(errors, 0.9):>9.1%}")
    batched = [predict(r, load()) for r in calibrate.rows() if r.batch > 1 and not (r.moe and r.batch > 4)]
    s = summary(batched)
    print(f"{'batch above 1':<18}{s['n']:>5}{s['median']:>9.1%}{s['p90']:>9.1%}{s['inside']:>9.0%}{s['highest']:>29.2f}")
    print("\nconfiguration, its model left out             context  measured  predicted        band     error")
    for p in sorted(first_of_each(found["model left out"]), key=lambda p: p.row.config):
        r = p.row
        print(f"{r.id} {r.model:<28} {r.weights:<10} {r.engine:<9}{r.context:>6}{r.tps:>10.2f}{p.predicted:>10.2f}"
              f"{p.low:>9.1f} to {p.high:<6.1f}{p.error:>+7.1%}{'' if p.inside else '  outside'}")
    reasons: dict[str, list[str]] = {}
    for m in catalog.measurements():
        why = calibrate.left_out(m)
        if why:
            reasons.setdefault(why, []).append(m.id)
    print("\nLeft out:")
    for why, ids in reasons.items():
        print(f"  {len(ids):>3}  {why}: {', '.join(ids[:6])}{' …' if len(ids) > 6 else ''}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
