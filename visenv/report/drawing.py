"""Drawings as SVG of a page: in its colours, light or dark, and with words that can be read out.

Matplotlib draws them with stand-ins for colours, which then become the variables of ``style.css``; what it draws
depends on the figures alone.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from visenv.errors import MissingDependency
from visenv.report.markup import Markup, tag, text

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

TOOLS = (
    "PhraseToBoxMask", "PhraseToPoint", "PointToBoxMask", "SplitImageIntoPatches", "SuperResolution", "MergeBoxMask",
    "RecallImage", "Answer", "malformed",
)  # fmt: skip
"""With colours of their own: ``--tool-0`` to ``--tool-8``."""
OWN_TOOLS = 4
"""As many further tools have colours, too; what is left is shown as ``other``."""
POLICIES = ("random", "single", "scripted", "trained")
OTHER = "other"

# Every colour of a drawing is a number that the page's style gives a meaning to.
_VARIABLES = (
    *("ink", "dim", "line", "card"),
    *(f"tool-{index}" for index in range(len(TOOLS) + OWN_TOOLS + 1)),
    *(f"policy-{index}" for index in range(len(POLICIES))),
)
COLOURS = {name: f"#0000{index + 1:02x}" for index, name in enumerate(_VARIABLES)}
"""From variables of ``style.css`` to what stands for them while Matplotlib draws."""
_MEANING = {colour: f"var(--{name})" for name, colour in COLOURS.items()}
_STYLE: dict[str, Any] = {
    "figure.figsize": (5.4, 3.3),
    "svg.fonttype": "none",
    "svg.hashsalt": "visenv",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": COLOURS["line"],
    "axes.labelcolor": COLOURS["dim"],
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.7,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["line"],
    "ytick.color": COLOURS["line"],
    "xtick.labelcolor": COLOURS["dim"],
    "ytick.labelcolor": COLOURS["dim"],
    "ytick.major.size": 0,
}


class Drawing:
    """A figure under way.

    Args:
        name: of the plot, unique on its page: a word.
        words: the plot in words, for those who cannot see it.
    """

    def __init__(self, name: str, words: str) -> None:
        from matplotlib.figure import Figure

        self._name, self._words = name, words
        self._figure = Figure()
        self._tips: list[str] = []

    def axes(self, left: float = 0.125, right: float = 0.985, top: float = 0.96, bottom: float = 0.135) -> Axes:
        """Axes between these shares of the width and the height."""
        return self._figure.add_axes((left, bottom, right - left, top - bottom))

    def tip(self, artist: Artist, words: str) -> None:
        """Say something where the pointer rests on a part of the drawing."""
        artist.set_gid(f"tip{len(self._tips)}")
        self._tips.append(words)

    def svg(self) -> Markup:
        """The drawing as an element of a page."""
        written = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        with warnings.catch_warnings():
            # About letters that Matplotlib's font lacks: the page's own font draws them.
            warnings.simplefilter("ignore", UserWarning)
            self._figure.savefig(written, format="svg", transparent=True, metadata=nothing)
        _, _, drawn = written.getvalue().partition("<svg ")
        drawn = drawn.partition(">")[2].rpartition("</svg>")[0]
        drawn = re.sub(r'<style type="text/css">.*?</style>', "", drawn, flags=re.DOTALL)
        drawn = re.sub(r'(?<=<g )id="tip(\d+)">', self._title, drawn)
        # Groups need no names, and several drawings on one page must not share those of what is referred to.
        drawn = re.sub(r'<g id="[^"]*">', "<g>", drawn)
        drawn = re.sub(r'(?<= id=")|(?<=xlink:href="#)|(?<=url\(#)', f"{self._name}-", drawn)
        drawn = drawn.replace("xlink:href", "href")
        drawn = re.sub(r"\s*\n\s*", " ", drawn)
        drawn = re.sub(r"(?<=(?:fill|roke): )#0000[0-9a-f]{2}", _meaning, drawn)
        width, height = (72 * side for side in self._figure.get_size_inches())
        return tag("svg", Markup(drawn), viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=self._words)

    def _title(self, found: re.Match[str]) -> str:
        return f'class="tip"><title>{text(self._tips[int(found[1])])}</title>'


def _meaning(found: re.Match[str]) -> str:
    return _MEANING.get(found[0], found[0])


@contextmanager
def drawing(name: str, words: str) -> Iterator[Drawing]:
    """Begin a drawing, whatever a user's settings of Matplotlib are.

    Args:
        name: of the plot, unique on its page: a word.
        words: the plot in words.

    Raises:
        MissingDependency: if Matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context, rcParamsDefault
    except ImportError as error:
        raise MissingDependency('The plots of a training run need Matplotlib: pip install "visenv[train]"') from error
    # A user's own settings would change the page.
    settings: dict[Any, Any] = dict(rcParamsDefault)
    settings = {key: value for key, value in settings.items() if not key.startswith("backend")} | _STYLE
    with rc_context(settings):
        yield Drawing(name, words)
