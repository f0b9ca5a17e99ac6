"""The page of a training run: how it learned, what it came to beside other policies, and what it does now."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from visenv.errors import InvalidData
from visenv.report.markup import Markup, joined, seen, tag
from visenv.report.page import PAGE, card, opening
from visenv.report.plots import Palette, area_plot, curve_plot, difficulty_plot, turns_plot
from visenv.report.samples import samples_section
from visenv.report.training_files import Evaluation, Point, Result, TrainingRun

WORDS = {
    "random": "draws its actions",
    "single": "calls one tool once",
    "scripted": "follows fixed rules",
    "trained": "learned here",
}
"""What the policies are that a training run is compared with."""
MOST_COLUMNS = 5
"""Metrics beside the headline that the table has room for."""
_SETTINGS = ("algo", "steps", "seed", "n_envs", "eval_episodes")
_LONGEST = 80


def write_training_page(folder: str | os.PathLike[str]) -> Path:
    """Write ``index.html`` into a training run's folder, from what is there.

    What is missing (a training that was killed has no evaluation) or broken is named on the page and stops nothing. The
    page needs nothing else and loads nothing; equal folders give equal bytes.

    Args:
        folder: with ``config.json``, and as far as the run got ``curve.jsonl``, ``evaluation.json``, and the recorded
            runs ``before/`` and ``after/``.

    Returns:
        The path of the page.

    Raises:
        InvalidData: if there is no training run in the folder, or the page cannot be written.
        MissingDependency: if Matplotlib is not installed.
    """
    run = TrainingRun.load(Path(folder))
    page = "".join(_pieces(run))
    partial = run.folder / f"{PAGE}.partial"
    try:
        partial.write_text(page, encoding="utf-8", newline="\n")
        partial.replace(run.folder / PAGE)
    except OSError as error:
        raise InvalidData(f"Cannot write the page to {str(run.folder)!r}: {error.strerror}.") from error
    return run.folder / PAGE


def _pieces(run: TrainingRun) -> Iterator[str]:
    script = (Path(__file__).parent / "training.js").read_text(encoding="utf-8")
    evaluation = run.evaluation
    env_id = _short(run.settings.get("env_id", "Training"))
    yield opening(f"{env_id} · training", script)
    yield _header(env_id, run.settings)
    yield "<main>"
    if evaluation is None:
        said = "There is no evaluation: training has not ended. The same command with the same folder goes on with it."
        yield tag("p", said, class_="fault")
    yield _cards(run)
    if evaluation is not None:
        yield _table(evaluation)
    yield _curves(run)
    yield _calls(run) or ""
    yield samples_section(run.folder, evaluation.headline if evaluation else None) or ""
    yield f"</main>\n<script>{script}</script>\n</body>\n</html>\n"


def _header(env_id: str, settings: Mapping[str, Any]) -> Markup:
    env = settings.get("env")
    shown = {name: settings.get(name) for name in _SETTINGS} | (env if isinstance(env, dict) else {})
    if settings.get("imitate") is not None:
        shown |= {name: settings.get(name) for name in ("imitate", "demonstrations")}
    hyperparameters = settings.get("hyperparameters")
    rest = hyperparameters if isinstance(hyperparameters, dict) else {}
    chips = [
        tag("span", tag("i", _short(name)), _short(value), class_="chip")
        for name, value in shown.items()
        if value is not None
    ]
    # The spaces are where a narrow page breaks the line.
    small = [joined([tag("span", f"{_short(name)} {_short(value)}"), " "]) for name, value in rest.items()]
    return tag(
        "header",
        tag("h1", f"Training on {env_id}"),
        tag("p", *chips),
        tag("p", tag("span", *small, class_="rest"), class_="dim"),
    )


def _cards(run: TrainingRun) -> Markup:
    evaluation, cards = run.evaluation, []
    if evaluation is not None:
        for name, note in (("trained", "after training"), ("scripted", "fixed rules, for comparison")):
            value = _headline(evaluation, evaluation.policies.get(name))
            if value is not None:
                cards.append(card(f"{evaluation.headline}, {name}", f"{value:.3f}", note))
        if evaluation.gap_closed is not None:
            cards.append(card("of the gap closed", f"{evaluation.gap_closed:.0%}", "from random to scripted"))
    if run.curve:
        last = run.curve[-1]
        cards.append(card("steps", f"{last.steps:,.0f}", f"in {len(run.curve)} rollouts"))
        if last.seconds:
            cards.append(card("minutes", f"{last.seconds / 60:.1f}", f"{last.steps / last.seconds:.0f} steps a second"))
    return tag("section", tag("div", *cards, class_="cards fit"), class_="overview")


def _table(evaluation: Evaluation) -> Markup:
    order = [name for name in WORDS if name in evaluation.policies]
    order += sorted(set(evaluation.policies) - set(order))
    results = {name: evaluation.policies[name] for name in order}
    sign = 1 if evaluation.higher_is_better else -1
    values = {name: _headline(evaluation, result) for name, result in results.items()}
    known = {name: sign * value for name, value in values.items() if value is not None}
    best = max(known, key=lambda name: known[name], default=None)
    others = _other_metrics(evaluation)
    direction = "" if evaluation.higher_is_better else ", lower is better"
    reward = ["reward"] if evaluation.headline != "reward" else []
    figures = [f"{evaluation.headline}{direction}", "95% interval", *others, *reward, "turns", "faulty"]
    heads = [tag("th", _short(head), scope="col") for head in ("policy", "episodes", *figures)]
    ends = [end for result in results.values() for end in result.interval or ()]
    scale = _scale([*ends, *(value for value in values.values() if value is not None)])
    rows = []
    for name, result in results.items():
        colour = f"--c:var(--policy-{list(WORDS).index(name)})" if name in WORDS else "--c:var(--dim)"
        cells = [
            tag("th", tag("i", style=colour), _short(name), " ", tag("small", WORDS.get(name, "")), scope="row"),
            tag("td", result.episodes),
            tag("td", _number(values[name]), class_="best" if name == best else None),
            tag("td", _span(values[name], result.interval, scale, colour), class_="span"),
            *[tag("td", _number(result.metrics.get(metric)), _failed(result, metric)) for metric in others],
            _reward(result) if reward else None,
            tag("td", "–" if result.turns_mean is None else f"{result.turns_mean:.1f}"),
            tag("td", "–" if result.errors is None else f"{result.errors:.0%}"),
        ]
        rows.append(tag("tr", *cells, class_="own" if name == "trained" else None))
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows), class_="scores")
    return tag(
        "section",
        tag("h2", f"Evaluation on {_short(evaluation.split)}"),
        tag("p", _verdict(evaluation), class_="lead"),
        tag("div", table, class_="panel"),
    )


def _verdict(evaluation: Evaluation) -> str:
    """How much training was good for, in a sentence."""
    low, high, own = (
        _headline(evaluation, evaluation.policies.get(name)) for name in ("random", "scripted", "trained")
    )
    if low is None or high is None or own is None or evaluation.gap_closed is None:
        return "All policies play the same samples."
    sign = 1 if evaluation.higher_is_better else -1
    name, share = _short(evaluation.headline), evaluation.gap_closed
    if sign * high <= sign * low:
        return f"In {name}, scripted ({high:.3f}) is no better than random ({low:.3f}): there is no gap to close."
    if share > 1:
        return f"The trained policy ({own:.3f}) ends above scripted ({high:.3f}; random: {low:.3f}) in {name}."
    if share < 0:
        return f"The trained policy ({own:.3f}) is worse than random ({low:.3f}; scripted: {high:.3f}) in {name}."
    return f"Training closed {share:.0%} of the gap between random ({low:.3f}) and scripted ({high:.3f}) in {name}."


def _curves(run: TrainingRun) -> Markup:
    evaluation, curve = run.evaluation, run.curve
    broken = tag("p", f"{run.broken} lines of curve.jsonl could not be read.", class_="fault") if run.broken else None
    if not curve:
        return tag("section", tag("h2", "Learning curve"), tag("p", "No rollout has ended.", class_="dim"), broken)
    minutes = [(point.steps, point.seconds / 60) for point in curve if point.seconds is not None]
    metric = _curve_metric(run)
    plots = []
    if metric is not None:
        line = [(point.steps, point.metrics[metric]) for point in curve if metric in point.metrics]
        plots.append(_curve("metric", metric, line, minutes, evaluation, lambda result: _headline(evaluation, result)))
    line = [(point.steps, point.reward) for point in curve if point.reward is not None]
    plots.append(_curve("reward", "reward", line, minutes, evaluation, lambda result: result.reward_mean))
    said = (
        "Means over the episodes that ended in each rollout, and thick, smoothed. While it learns, the policy draws "
        "its actions; in the evaluation (the dot) it takes the likeliest. Dashed: policies that do not learn."
    )
    return tag(
        "section",
        tag("h2", "Learning curve"),
        tag("p", said, class_="lead dim"),
        tag("div", *plots, class_="plots"),
        broken,
    )


def _curve(
    name: str,
    label: str,
    line: Sequence[tuple[float, float]],
    minutes: Sequence[tuple[float, float]],
    evaluation: Evaluation | None,
    value_of: Callable[[Result], float | None],
) -> Markup:
    policies = evaluation.policies if evaluation else {}
    values = {policy: value_of(result) for policy, result in policies.items()}
    references = {
        policy: value
        for policy, value in values.items()
        if policy in WORDS and policy != "trained" and value is not None
    }
    own, final = values.get("trained"), None
    if own is not None:
        ends = policies["trained"].interval if evaluation and evaluation.headline == label else None
        final = (own, *(ends or (own, own)))
    short = _short(label)
    words = f"{short}: no episode has ended."
    if line:
        words = f"{short} from {line[0][1]:.3f} to {line[-1][1]:.3f} in {line[-1][0]:,.0f} steps of training."
    plot = curve_plot(name, short, line, references=references, final=final, minutes=minutes, words=words)
    return _plot(short, plot, words)


def _calls(run: TrainingRun) -> Markup | None:
    """What is called: over training, by turn and by difficulty."""
    evaluation = run.evaluation
    policies = evaluation.policies if evaluation else {}
    shown = {name: policies[name] for name in ("trained", "scripted") if name in policies}
    levels = evaluation.by_difficulty if evaluation else {}
    names = {name for point in run.curve for name in point.calls}
    names |= {name for result in (*shown.values(), *levels.values()) for name in result.calls}
    if not names:
        return None
    palette = Palette(sorted(names))
    plots = []
    if any(point.calls for point in run.curve):
        words = _from_to(run.curve)
        plot = area_plot("calls", palette, [(point.steps, point.calls) for point in run.curve], words)
        plots.append(_plot("While training", plot, words))
    if levels and evaluation is not None:
        words = (
            f"What the trained policy calls at each difficulty, and the {_short(evaluation.headline)} that it comes to."
        )
        drawn = {
            _short(level): (result.calls, _headline(evaluation, result), result.interval)
            for level, result in levels.items()
        }
        plot = difficulty_plot("levels", palette, _short(evaluation.headline), drawn, words)
        plots.append(_plot("By difficulty: trained", plot, words))
    for name, result in shown.items():
        if result.calls:
            words = _usual(result)
            plot = turns_plot(f"turns-{name}", palette, result.calls_by_turn, words)
            plots.append(_plot(f"By turn: {name}", plot, words))
    return tag("section", tag("h2", "What it calls"), palette.legend(), tag("div", *plots, class_="plots"))


def _plot(title: str, drawn: Markup, words: str) -> Markup:
    return tag("figure", tag("h3", title), drawn, tag("figcaption", words), class_="plot")


def _from_to(curve: Sequence[Point]) -> str:
    called = [point.calls for point in curve if point.calls]
    first, last = (_most(calls) for calls in (called[0], called[-1]))
    faults = [point.errors for point in curve if point.errors is not None]
    told = f" Faulty turns: {faults[0]:.0%} at first, {faults[-1]:.0%} at last." if faults else ""
    return f"Most called at first: {first}; at last: {last}.{told}"


def _usual(result: Result) -> str:
    return f"Most often: {', then '.join(_most(turn) for turn in result.calls_by_turn[:4] if turn)}."


def _most(calls: Mapping[str, float]) -> str:
    return _short(max(sorted(calls), key=lambda name: calls[name]))


def _headline(evaluation: Evaluation | None, result: Result | None) -> float | None:
    if evaluation is None or result is None:
        return None
    own = result.reward_mean if evaluation.headline == "reward" else None
    return result.metrics.get(evaluation.headline, own)


def _curve_metric(run: TrainingRun) -> str | None:
    """The metric whose curve is drawn: the headline, or the first one where it is not known."""
    named = next((point.metrics for point in run.curve if point.metrics), {})
    if run.evaluation is None:
        return next(iter(named), None)
    headline = run.evaluation.headline
    return headline if any(headline in point.metrics for point in run.curve) else None


def _other_metrics(evaluation: Evaluation) -> list[str]:
    """The metrics beside the headline, without how many samples they are over and how many failed."""
    names = list(dict.fromkeys(name for result in evaluation.policies.values() for name in result.metrics))
    counted = {f"{name}{ending}" for name in names for ending in ("_n", "_failed")}
    counted |= {evaluation.headline, "reward"}
    return [name for name in names if name not in counted][:MOST_COLUMNS]


def _failed(result: Result, metric: str) -> Markup | None:
    failed = result.metrics.get(f"{metric}_failed")
    return tag("small", f" {failed:.0f} failed") if failed else None


def _scale(values: Sequence[float]) -> tuple[float, float]:
    """The ends of the axis on which intervals are drawn: 0 and 1 where that fits."""
    low, high = min((0.0, *values)), max(values, default=1.0)
    return low, 1.0 if low == 0 and high <= 1 else high if high > low else low + 1.0


def _span(
    value: float | None, ends: tuple[float, float] | None, scale: tuple[float, float], colour: str
) -> Markup | str:
    """An interval as a bar, the value in it as a dot."""
    if value is None:
        return "–"
    low, high = ends or (value, value)
    a, b, v = ((each - scale[0]) / (scale[1] - scale[0]) for each in (low, high, value))
    words = f"{low:.3f} to {high:.3f}" if ends else "no interval"
    bar = tag("i", style=f"{colour};--a:{a:.4f};--b:{b:.4f}") if ends else ""
    return tag("div", joined([bar, tag("b", style=f"{colour};--v:{v:.4f}")]), role="img", title=words, aria_label=words)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _reward(result: Result) -> Markup:
    mean = "–" if result.reward_mean is None else f"{result.reward_mean:+.2f}"
    spread = "" if result.reward_std is None else f"± {result.reward_std:.2f}"
    return tag("td", mean, " ", tag("small", spread))


def _short(value: object) -> str:
    """Any setting or name, cut where it is too long to stand in a line."""
    written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return seen(written if len(written) <= _LONGEST else f"{written[:_LONGEST]}…")
