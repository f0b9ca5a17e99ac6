"""How fast is it? ``python -m benchmarks.performance`` runs every benchmark and writes docs/performance.md.

A section is written as soon as it is measured.

Every row is a ratio of two things that ran side by side in the same process; the machine's own speed cancels out.
``--quick`` runs smaller inputs and writes no page.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks._machine import describe
from benchmarks._timing import Row, print_rows

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
TITLES = {
    "vector": "Many environments in a batch",
    "eval": "Evaluating",
    "workers": "Experts in processes of their own",
    "serve": "Experts on Ray Serve",
    "async": "Agents that answer at different times",
    "step": "One step of one environment",
    "memory": "Memory of an episode",
    "masks": "Masks",
    "merge": "Merging",
    "experts": "Classical experts",
    "sandbox": "Programs in sandboxes",
    "scenes": "Generated scenes",
    "sam2": "SAM 2",
    "neural": "Neural experts by batch size",
    "datasets": "Data sets from folders",
}

HEAD = """# How fast is it?

Written by `python -m benchmarks.performance`. Every row compares two things that ran side by side; `visenv bench NAME`
repeats a section. Machines are noisy: look at the ratios, and expect them to move by a tenth or two from run to run.

Measured on {machine}
"""


def section(name: str, rows: Sequence[Row]) -> str:
    """One benchmark's part of the page."""
    lines = [
        f"\n## {TITLES[name]}\n",
        f"`visenv bench {name}`\n",
        "| | ours | compared with | takes | ratio | |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        other = f"{row['alternative']} | {quantity(row, 'alternative')}" if row["alternative"] else "– | –"
        ratio = "–" if row["ratio"] is None else f"{row['ratio']:.3g}"
        lines.append(f"| {row['benchmark']} | {quantity(row, 'ours')} | {other} | {ratio} | {row['detail']} |")
    return "\n".join(lines) + "\n"


def quantity(row: Mapping[str, object], whose: str) -> str:
    """A time or an amount of memory, with its unit.

    Example:
        >>> quantity({"ours_s": 0.000213}, "ours"), quantity({"ours_mb": 2.84}, "ours")
        ('213 µs', '2.8 MB')
    """
    megabytes, seconds = row.get(f"{whose}_mb"), row.get(f"{whose}_s")
    if isinstance(megabytes, (int, float)):
        return f"{megabytes:.1f} MB"
    if not isinstance(seconds, (int, float)):
        return "–"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def main() -> None:
    """Run the benchmarks, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, of which the shortest counts")
    parser.add_argument("--quick", action="store_true", help="smaller inputs, and no page")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="these sections; the page keeps the others")
    arguments = parser.parse_args()
    for name in arguments.only or TITLES:
        benchmark = importlib.import_module(f"benchmarks.bench_{name}")
        if not arguments.quick and not getattr(benchmark, "worth_a_page", lambda: True)():
            print(f"-- {name}: left out, since it says little on this machine", flush=True)
            continue
        rows = benchmark.run(repeats=arguments.repeats, quick=arguments.quick)
        print(f"-- {name}", flush=True)
        print_rows([row for row in rows if row["alternative"]])
        if not arguments.quick:
            page = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
            PAGE.write_text(with_section(page, name, section(name, rows)), encoding="utf-8")


def with_section(page: str, name: str, text: str) -> str:
    """A page with one section made anew, the head too; sections that no benchmark has any more are gone."""
    found = {part.partition("\n")[0]: f"\n## {part}" for part in page.split("\n## ")[1:]}
    found[TITLES[name]] = text
    return HEAD.format(machine=describe()) + "".join(found[title] for title in TITLES.values() if title in found)


if __name__ == "__main__":
    main()
