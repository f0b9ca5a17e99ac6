"""Examples of a trainer's page in docs/trainers/, which run where its package is installed."""

import doctest
import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "trainers"
FENCE = re.compile(r"^```python notest\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def failures_of(name):
    """What the examples with prompts of a page print that is not on the page; its blocks share their names."""
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    names = {"__name__": "__main__"}
    report = []
    for block in FENCE.finditer(text):
        if ">>>" in block.group(1):
            line = text[: block.start(1)].count("\n")
            test = doctest.DocTestParser().get_doctest(block.group(1), names, name, name, line)
            doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=report.append, clear_globs=False)
            names.update(test.globs)
    return "".join(report)
