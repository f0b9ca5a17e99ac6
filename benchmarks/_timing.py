"""How the benchmarks take time and report it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

Row = dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")


def timed(action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[float, T]:
    """Return how many seconds a call took, and what it returned."""
    start = time.perf_counter()
    result = action(*args, **kwargs)
    return time.perf_counter() - start, result


def row(benchmark: str, ours_s: float, alternative: str, alternative_s: float, detail: str) -> Row:
    """Return one line of a report."""
    return {
        "benchmark": benchmark,
        "ours_s": ours_s,
        "alternative": alternative,
        "alternative_s": alternative_s,
        "ratio": alternative_s / ours_s,
        "detail": detail,
    }


def amount_row(benchmark: str, ours_mb: float, alternative: str, alternative_mb: float, detail: str) -> Row:
    """Return one line of a report on memory, in megabytes (10^6 bytes)."""
    return {
        "benchmark": benchmark,
        "ours_mb": ours_mb,
        "alternative": alternative,
        "alternative_mb": alternative_mb,
        "ratio": alternative_mb / ours_mb,
        "detail": detail,
    }


def print_rows(rows: Sequence[Row]) -> None:
    """Print a report, one benchmark a line."""
    for line in rows:
        if "ours_mb" in line:
            ours, other, more = f"{line['ours_mb']:.1f} MB", f"{line['alternative_mb']:.1f} MB", "times as much"
        else:
            ours, other = f"{line['ours_s'] * 1e3:.2f} ms", f"{line['alternative_s'] * 1e3:.2f} ms"
            more = "times as long"
        print(
            f"{line['benchmark']}: {ours}, {line['alternative']} {other}, {line['ratio']:.1f} {more} ({line['detail']})"
        )
