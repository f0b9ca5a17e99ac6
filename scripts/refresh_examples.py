"""Write what the examples of the pages print now into the pages, after a change that was meant to change it.

    python scripts/refresh_examples.py [PAGE ...]

Without a page, all of README.md, CONTRIBUTING.md and docs/. Output that still matches, ellipses included, is left as it
is. Read the difference before committing it: an example that prints an error now is a bug, not an update.
"""

from __future__ import annotations

import doctest
import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

FENCE = re.compile(r"^```(?:python|pycon)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


class Collector(doctest.DocTestRunner):
    """Runs a block and remembers, by line, what its examples printed where that was not expected."""

    def __init__(self) -> None:
        super().__init__(optionflags=OPTIONS)
        self.printed: dict[int, tuple[doctest.Example, str]] = {}

    def report_failure(
        self, out: Callable[[str], Any], test: doctest.DocTest, example: doctest.Example, got: str
    ) -> None:
        """Remember other output."""
        self.printed[example.lineno] = (example, got)

    def report_unexpected_exception(
        self, out: Callable[[str], Any], test: doctest.DocTest, example: doctest.Example, exc_info: Any
    ) -> None:
        """Remember an error, as a doctest writes it."""
        last = f"{exc_info[0].__module__}.{exc_info[0].__qualname__}: {exc_info[1]}".removeprefix("builtins.")
        self.printed[example.lineno] = (example, f"Traceback (most recent call last):\n{last}\n")
        print(f"error: {example.source.strip()}\n    {last}")


def refreshed(page: str, name: str) -> str:
    """A page with the output of its examples brought up to date; its blocks share their names."""
    names: dict[str, Any] = {"__name__": "__main__"}

    def run(block: re.Match[str]) -> str:
        code = block.group(1)
        if ">>>" not in code:
            exec(compile(code, name, "exec"), names)
            return block.group()
        test = doctest.DocTestParser().get_doctest(code, names, name, name, 0)
        collector = Collector()
        collector.run(test, out=lambda text: None, clear_globs=False)
        names.update(test.globs)
        lines = code.split("\n")
        for line, (example, got) in sorted(collector.printed.items(), reverse=True):
            start = line + example.source.count("\n")
            shown = [text or "<BLANKLINE>" for text in got.rstrip("\n").split("\n")] if got else []
            lines[start : start + example.want.count("\n")] = shown
        return block.group().replace(code, "\n".join(lines), 1)

    return FENCE.sub(run, page)


def main(arguments: Sequence[str]) -> None:
    """Refresh the pages named, or all of them."""
    pages = [Path(name).resolve() for name in arguments]
    pages = pages or [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        before = page.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            after = refreshed(before, page.name)
            os.chdir(ROOT)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(f"refreshed: {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
