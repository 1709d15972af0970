"""Expectations as a gate: "tpot_p50<30ms", "ttft_p99@16<=0.5s", "errors=0", "system_tps>100"."""

from __future__ import annotations

import operator
import re

from gb10.errors import UserError

TIMES = {"ttft": "ttft_ms", "ttfr": "ttfr_ms", "ttfa": "ttfa_ms", "tpot": "tpot_ms", "gap": "gap_ms", "itl": "gap_ms", "e2e": "e2e_ms",
         "response": "response_ms", "lag": "client_lag_ms"}
STATISTICS = ("p50", "p90", "p99", "mean", "min", "max")
PLAIN = {"system_tps": "system_tps", "user_tps": "user_tps", "requests_per_s": "requests_per_s", "goodput": "goodput_per_s",
         "errors": "errors", "ok": "ok"}
UNITS = {"": 1.0, "ms": 1.0, "s": 1000.0, "us": 0.001, "µs": 0.001}
_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq, "==": operator.eq}
_FORM = re.compile(r"\s*([a-z0-9_]+)\s*(?:@\s*(\d+))?\s*(<=|>=|==|<|>|=)\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-zµ]*)\s*", re.IGNORECASE)


class Expectation:
    """One condition on every row of a result, or on those of one concurrency."""

    def __init__(self, text: str):
        """Raises UserError with one sentence."""
        found = _FORM.fullmatch(text)
        if not found:
            raise UserError(f"--expect {text!r} can't be read: write a figure, a comparison and a value, as in 'tpot_p50<30ms', "
                            "'ttft_p99@16<500ms' or 'errors=0'.")
        name, level, sign, value, unit = found.groups()
        self.text, self.name, self.level = text.strip(), name.lower(), level and int(level)
        self._compare = _COMPARE[sign]
        base, _, statistic = self.name.rpartition("_")
        if self.name in PLAIN:
            self._path, allowed = (PLAIN[self.name],), ("",)
        elif base in TIMES and statistic in STATISTICS:
            self._path, allowed = (TIMES[base], statistic), tuple(UNITS)
        else:
            raise UserError(f"--expect {text!r}: there is no figure '{name}'; there are {', '.join(PLAIN)}, and "
                            f"{', '.join(TIMES)} followed by _{', _'.join(STATISTICS)}.")
        if unit.lower() not in allowed:
            raise UserError(f"--expect {text!r}: '{unit}' is no unit of {name}; " +
                            ("it has none." if allowed == ("",) else "take ms, s or us."))
        self.value = float(value) * UNITS[unit.lower()]

    def check(self, rows: list[dict]) -> list[tuple[bool, str]]:
        """(kept, a sentence) for each row that it speaks of. A figure that isn't there is not kept."""
        out = []
        for row in rows:
            if self.level is not None and row["concurrency"] != self.level:
                continue
            value = row.get(self._path[0])
            if self._path == ("errors",):
                value = sum(n for kind, n in value.items() if kind != "short")
            elif len(self._path) > 1:
                value = value and value.get(self._path[1])
            kept = value is not None and self._compare(value, self.value)
            shown = "not measured" if value is None else f"{value:g}" + (" ms" if len(self._path) > 1 else "")
            where = f"{row['engine']}, {row['concurrency']} at once" + (f", {row['rate']:g}/s" if row.get("rate") else "")
            out.append((kept, f"{'kept' if kept else 'NOT KEPT'}: {self.text} ({where}: {shown})"))
        return out or [(False, f"NOT KEPT: {self.text} (nothing was measured at {self.level} at once)")]
