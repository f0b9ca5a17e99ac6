"""The plots of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from visenv.report.drawing import COLOURS, OTHER, OWN_TOOLS, POLICIES, TOOLS, Drawing, drawing
from visenv.report.markup import Markup, tag

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LONGEST_NAME = 32
"""Characters."""
Line = Sequence[tuple[float, float]]
"""Points (x, y), in the order of x."""
_EDGES: dict[str, Any] = {"edgecolor": COLOURS["card"], "linewidth": 0.6}


class Palette:
    """Which tool has which colour, on all plots of a page.

    Args:
        names: of all tools that were called.

    Example:
        >>> palette = Palette(["Answer", "MyTool", "PhraseToBoxMask"])
        >>> palette.labels, palette.variable("Answer")
        (('PhraseToBoxMask', 'MyTool', 'Answer'), 'tool-7')
    """

    def __init__(self, names: Sequence[str]) -> None:
        found = set(names)
        own = sorted(found - {*TOOLS, OTHER})
        self._variables = {name: f"tool-{index}" for index, name in enumerate(TOOLS) if name in found}
        self._variables |= {name: f"tool-{len(TOOLS) + index}" for index, name in enumerate(own[:OWN_TOOLS])}
        self._rest = frozenset(own[OWN_TOOLS:]) | (found & {OTHER})
        *known, ended, malformed = TOOLS
        order = [*known, *own[:OWN_TOOLS], *([OTHER] if self._rest else []), ended, malformed]
        self._variables[OTHER] = f"tool-{len(TOOLS) + OWN_TOOLS}"
        self.labels = tuple(name for name in order if name in found or name == OTHER)
        """In the order in which they are drawn."""

    def variable(self, label: str) -> str:
        """The variable of ``style.css`` that holds a tool's colour, without dashes."""
        return self._variables[label]

    def amounts(self, calls: Mapping[str, float]) -> list[float]:
        """How often each of ``labels`` was called."""
        rest = sum(calls.get(name, 0.0) for name in self._rest)
        return [rest if label == OTHER else calls.get(label, 0.0) for label in self.labels]

    def legend(self) -> Markup | None:
        """The colours with their names."""
        if not self.labels:
            return None
        entries = [
            tag("span", tag("i", style=f"--c:var(--{self.variable(label)})"), label[:LONGEST_NAME])
            for label in self.labels
        ]
        return tag("p", *entries, class_="legend")


def curve_plot(
    name: str,
    label: str,
    line: Line,
    *,
    references: Mapping[str, float],
    final: tuple[float, float, float] | None = None,
    minutes: Line = (),
    words: str,
) -> Markup:
    """A learning curve, with a line for each policy that does not learn.

    Args:
        name: of the plot, unique on its page: a word.
        label: of the figure.
        line: (steps, figure) of each rollout.
        references: from policies to their figures in the evaluation.
        final: the trained policy's figure in the evaluation, and the ends of its interval.
        minutes: (steps, minutes) of each rollout, for the axis above.
        words: the plot in words, for those who cannot see it.

    Raises:
        MissingDependency: if Matplotlib is not installed.
    """
    with drawing(name, words) as plot:
        axes = plot.axes(left=0.125, right=0.815, top=0.86, bottom=0.135)
        steps, values = (np.array([point[axis] for point in line], float) for axis in (0, 1))
        last = float(steps[-1]) if len(steps) else 1.0
        if len(steps):
            colour, marker = _policy("trained"), "o" if len(steps) == 1 else ""
            axes.plot(steps, values, color=colour, alpha=0.3, linewidth=0.9, marker=marker, markersize=3)
            axes.plot(steps, _smooth(values), color=colour, linewidth=2)
        ends = {policy: (value, _policy(policy)) for policy, value in references.items()}
        for value, colour in ends.values():
            axes.axhline(value, color=colour, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
        if final is not None:
            value, low, high = final
            spread = [[max(0.0, value - low)], [max(0.0, high - value)]]
            colour = _policy("trained")
            points = axes.errorbar([last], [value], yerr=spread, color=colour, fmt="o", markersize=5.5, capsize=3)
            for artist in points.get_children():
                artist.set_clip_on(False)
            ends["trained"] = (value, colour)
        axes.set_xlim(0, last)
        axes.set_ylabel(label)
        axes.set_xlabel("steps")
        _thousands(axes)
        _minutes(axes, minutes, last)
        _end_labels(axes, ends)
        return plot.svg()


def area_plot(name: str, palette: Palette, calls: Sequence[tuple[float, Mapping[str, float]]], words: str) -> Markup:
    """The share of each tool among the calls, over the steps of training.

    Args:
        name: of the plot, unique on its page: a word.
        palette: the colours.
        calls: (steps, calls by tool) of each rollout.
        words: the plot in words.

    Raises:
        MissingDependency: if Matplotlib is not installed.
    """
    with drawing(name, words) as plot:
        axes = plot.axes()
        known = [(steps, palette.amounts(each)) for steps, each in calls if sum(each.values()) > 0]
        if len(known) == 1:
            known = [(0.0, known[0][1]), *known]
        if known:
            steps = np.array([each[0] for each in known])
            shares = np.array([np.array(each[1]) / sum(each[1]) for each in known]).T
            shares = np.array([_smooth(row) for row in shares])
            colours = [COLOURS[palette.variable(label)] for label in palette.labels]
            areas = axes.stackplot(steps, shares / shares.sum(axis=0), colors=colours, **_EDGES)
            for area, label in zip(areas, palette.labels, strict=True):
                plot.tip(area, label)
            axes.set_xlim(float(steps[0]), float(steps[-1]) if steps[-1] > steps[0] else float(steps[0]) + 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("steps")
        axes.set_ylabel("share of calls")
        _percent(axes)
        _thousands(axes)
        return plot.svg()


def turns_plot(name: str, palette: Palette, turns: Sequence[Mapping[str, float]], words: str) -> Markup:
    """What a policy calls in its first turn, its second, and so on, as shares of all episodes.

    Args:
        name: of the plot, unique on its page: a word.
        palette: the colours.
        turns: calls by tool, for each turn.
        words: the plot in words.

    Raises:
        MissingDependency: if Matplotlib is not installed.
    """
    with drawing(name, words) as plot:
        axes = plot.axes()
        episodes = max([sum(turn.values()) for turn in turns], default=0.0) or 1.0
        bars = [[amount / episodes for amount in palette.amounts(turn)] for turn in turns]
        _bars(plot, axes, palette, bars, [f"turn {index + 1}" for index in range(len(bars))])
        axes.set_xlabel("turn")
        axes.set_ylabel("share of episodes")
        axes.set_ylim(0, 1)
        every = 1 + len(turns) // 16
        axes.set_xticks(range(0, len(turns), every), [str(index + 1) for index in range(0, len(turns), every)])
        _percent(axes)
        return plot.svg()


def difficulty_plot(
    name: str,
    palette: Palette,
    label: str,
    levels: Mapping[str, tuple[Mapping[str, float], float | None, tuple[float, float] | None]],
    words: str,
) -> Markup:
    """What a policy calls at each difficulty, as shares of its calls, and what it comes to there.

    Args:
        name: of the plot, unique on its page: a word.
        palette: the colours.
        label: of the figure.
        levels: from difficulties to calls by tool, the figure, and the ends of its interval.
        words: the plot in words.

    Raises:
        MissingDependency: if Matplotlib is not installed.
    """
    with drawing(name, words) as plot:
        above = plot.axes(bottom=0.64, top=0.93)
        below = plot.axes(top=0.56)
        places = range(len(levels))
        totals = [sum(calls.values()) or 1.0 for calls, _, _ in levels.values()]
        bars = [
            [amount / total for amount in palette.amounts(calls)]
            for (calls, _, _), total in zip(levels.values(), totals, strict=True)
        ]
        _bars(plot, below, palette, bars, [f"difficulty {level}" for level in levels])
        below.set_ylim(0, 1)
        below.set_ylabel("share of calls")
        below.set_xlabel("difficulty")
        _percent(below)
        known = [
            (place, value, ends or (value, value))
            for place, (_, value, ends) in zip(places, levels.values(), strict=True)
            if value is not None
        ]
        if known:
            spread = np.array([[max(0.0, value - low), max(0.0, high - value)] for _, value, (low, high) in known]).T
            above.errorbar(
                [each[0] for each in known],
                [each[1] for each in known],
                yerr=spread,
                color=_policy("trained"),
                marker="o",
                markersize=5,
                capsize=3,
                linewidth=1.2,
            )
            for place, value, _ in known:
                above.annotate(f"{value:.3g}", (place, value), (7, 4), textcoords="offset points")
            above.margins(y=0.25)
        above.set_ylabel(label)
        above.set_xlim(-0.6, len(levels) - 0.4)
        below.set_xlim(-0.6, len(levels) - 0.4)
        above.set_xticks(places, [""] * len(levels))
        below.set_xticks(places, [level[:LONGEST_NAME] for level in levels])
        return plot.svg()


def _policy(name: str) -> str:
    return COLOURS[f"policy-{POLICIES.index(name)}" if name in POLICIES else "dim"]


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over about a tenth of the points around each."""
    reach = (len(values) + 10) // 20
    return np.array([values[max(0, at - reach) : at + reach + 1].mean() for at in range(len(values))])


def _bars(plot: Drawing, axes: Axes, palette: Palette, bars: Sequence[Sequence[float]], names: Sequence[str]) -> None:
    """Stacked bars, each a list of the shares of the palette's labels."""
    bottoms = np.zeros(len(bars))
    for index, label in enumerate(palette.labels):
        heights = np.array([bar[index] for bar in bars])
        colour = COLOURS[palette.variable(label)]
        for place, height in enumerate(heights):
            if height > 0:
                (bar,) = axes.bar([place], [height], bottom=bottoms[place], width=0.8, color=colour, **_EDGES)
                plot.tip(bar, f"{names[place]}, {label[:LONGEST_NAME]}: {height:.0%}")
        bottoms += heights


def _end_labels(axes: Axes, ends: Mapping[str, tuple[float, str]]) -> None:
    """The names of lines at their right ends, moved apart where they would cover each other."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    gap = 0.075 * (high - low)
    ordered = sorted(ends.items(), key=lambda item: item[1][0])
    places = [value for _, (value, _) in ordered]
    for index in range(1, len(places)):
        places[index] = max(places[index], places[index - 1] + gap)
    excess = max(0.0, places[-1] - high) if places else 0.0
    for index in range(len(places) - 1, -1, -1):
        above = places[index + 1] - gap if index + 1 < len(places) else high
        places[index] = min(places[index], above) if excess else places[index]
    for (name, (value, colour)), place in zip(ordered, places, strict=True):
        words = f"{name[:LONGEST_NAME]} {value:.3g}"
        weight = "bold" if name == "trained" else "normal"
        axes.annotate(
            words, (1, place), (8, 0), xycoords=("axes fraction", "data"), textcoords="offset points", color=colour,
            va="center", annotation_clip=False, fontsize=8, fontweight=weight,
        )  # fmt: skip


def _thousands(axes: Axes) -> None:
    from matplotlib.ticker import EngFormatter

    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _percent(axes: Axes) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _minutes(axes: Axes, minutes: Line, last: float) -> None:
    """An axis above with the minutes that had passed."""
    steps, passed = (np.array([0.0, *(point[axis] for point in minutes)]) for axis in (0, 1))
    if len(steps) < 2 or passed[-1] <= 0 or (np.diff(passed) <= 0).any():
        return
    from matplotlib.ticker import MaxNLocator

    ticks = [float(tick) for tick in MaxNLocator(5).tick_values(0, passed[-1]) if 0 <= tick <= passed[-1]]
    top = axes.secondary_xaxis("top")
    top.set_xticks([float(place) for place in np.interp(ticks, passed, steps)], [f"{tick:g}" for tick in ticks])
    top.set_xlabel("minutes")
    top.spines["top"].set_visible(False)
