"""Two evaluations side by side, sample by sample."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from visenv.errors import InvalidData, VisenvError
from visenv.evaluation.config import EvalConfig
from visenv.evaluation.locks import write_whole
from visenv.evaluation.records import Ended
from visenv.evaluation.scoring import mean_interval, measured
from visenv.evaluation.store import Run
from visenv.rewards.metrics.bootstrap import percentile_interval
from visenv.types import FloatArray, Pixels
from visenv.wrappers.recording import plain_json
from visenv.wrappers.snapshots import draw_final, draw_truth, encode

COMPARISON = "comparison.json"
MOST_CHANGED = 10
SIDE = 480
"""Pixels of the longer side of a picture."""


@dataclass(frozen=True)
class Pair:
    """A sample that both runs have played to its end."""

    a: Ended
    b: Ended
    value_a: float
    """The headline figure of the sample alone, or its reward where runs mix tasks; NaN where it is not defined."""
    value_b: float

    @property
    def difference(self) -> float:
        """How much more B has."""
        return self.value_b - self.value_a


def compare(
    run_a: str | os.PathLike[str],
    run_b: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    most: int = MOST_CHANGED,
) -> dict[str, Any]:
    """Compare two evaluations on the samples that both have, and write ``comparison.json`` and a page with pictures.

    Args:
        run_a: folder of an evaluation.
        run_b: folder of another one of the same kind of task.
        out: folder to write; made if it is missing.
        most: how many samples are shown that changed most.

    Returns:
        ``runs``, settings of ``a`` and ``b``; ``paired`` samples, ``left_out``, how many only one of them has
        (``only_a``, ``only_b``) or either has as ``invalid``, which says nothing about a policy; ``headline``, the
        figure that samples are compared by, and whether ``higher_is_better``; ``figures``, by name their value for
        ``a`` and ``b``, the ``difference`` (B less A) and its 95 % ``interval``, of the same resampled samples on both
        sides; ``means``, likewise of the headline's values, rewards, turns and visual tokens; ``better``, ``worse`` and
        ``same``, numbers of samples; ``changed``, the samples that changed most; ``samples``, all of them; ``page``.

    Raises:
        InvalidData: if a folder holds no evaluation, or the two have no sample in common.

    Example:
        >>> import tempfile
        >>> from visenv.evaluation import evaluate
        >>> folders = [tempfile.mkdtemp() for _ in range(3)]
        >>> for folder, policy in zip(folders, ("scripted", "oracle")):
        ...     _ = evaluate(EvalConfig("VisHarness/RefSeg-v0", policy, 4), folder)
        >>> found = compare(*folders)
        >>> found["paired"], found["figures"]["mIoU"]["b"], found["figures"]["mIoU"]["difference"] >= 0
        (4, 1.0, True)
    """
    runs = Run(run_a), Run(run_b)
    sides = [_by_sample(run) for run in runs]
    common = [key for key in sides[0] if key in sides[1]]
    valid = [key for key in common if all(side[key].record["termination"] != "invalid" for side in sides)]
    if not valid:
        raise InvalidData(
            f"Expected two evaluations with samples in common, but {str(runs[0].folder)!r} and "
            f"{str(runs[1].folder)!r} have none that ended well in both."
        )
    paired = [[side[key] for key in valid] for side in sides]
    headline, higher, values = _headline(paired)
    pairs = [Pair(a, b, *both) for a, b, both in zip(*paired, values.T.tolist(), strict=True)]
    ranked = sorted((pair for pair in pairs if abs(pair.difference) > 0), key=lambda pair: -abs(pair.difference))
    gains = np.array([pair.difference if higher else -pair.difference for pair in pairs])
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidData(f"Cannot write to {str(folder)!r}: {error.strerror}. Name another folder.") from error
    report = {
        "runs": {
            name: {"folder": run.folder.name, "settings": run.settings, "facts": run.facts}
            for name, run in zip("ab", runs, strict=True)
        },
        "paired": len(pairs),
        "left_out": {
            "only_a": len(sides[0]) - len(common),
            "only_b": len(sides[1]) - len(common),
            "invalid": len(common) - len(valid),
        },
        "headline": headline,
        "higher_is_better": higher,
        "figures": _figures(paired),
        "means": _means(paired, headline, values),
        "better": int((gains > 0).sum()),
        "worse": int((gains < 0).sum()),
        "same": int((gains == 0).sum()),
        "changed": [_told(pair) for pair in ranked[:most]],
        "samples": [_told(pair) for pair in pairs],
    }
    write_whole(folder / COMPARISON, plain_json(report, indent=2) + "\n")
    from visenv.report.evaluation_comparison import write_comparison_page

    page = write_comparison_page(folder, _pictures(runs[0], ranked[:most]))
    return {**report, "page": str(page)}


def _by_sample(run: Run) -> dict[tuple[str, int], Ended]:
    """The episodes of a run by their sample, and which time it was played."""
    times: dict[str, int] = {}
    found = {}
    for line in run.lines():
        ended = Ended.read(line)
        sample_id = str(ended.record["sample_id"])
        times[sample_id] = times.get(sample_id, -1) + 1
        found[sample_id, times[sample_id]] = ended
    return found


def _headline(paired: Sequence[list[Ended]]) -> tuple[str, bool, FloatArray]:
    """The figure that samples are compared by, whether more of it is better, and (2, N) its values."""
    names = {ended.metric_names[:1] for side in paired for ended in side}
    if len(names) == 1 and names != {()}:
        first = [next(iter(measured(side).values())) for side in paired]
        values = np.array([metric.values for metric in first])
        return first[0].name, first[0].higher_is_better, values
    return "reward", True, np.array([_rewards(side) for side in paired])


def _figures(paired: Sequence[list[Ended]]) -> dict[str, dict[str, Any]]:
    """Every figure on both sides, and the interval of the difference: drawn together, since samples are the same."""
    a, b = (measured(side) for side in paired)
    found: dict[str, dict[str, Any]] = {}
    for entry in a.keys() & b.keys():
        if len(a[entry]) != len(b[entry]):
            continue
        scores = a[entry].compute(), b[entry].compute()
        many = len(a[entry]) > 1
        draws = (a[entry].resampled(), b[entry].resampled()) if many else ({}, {})
        for name in scores[0].keys() & scores[1].keys():
            if name.endswith(("_n", "_failed")) or np.isnan([score[name] for score in scores]).any():
                continue
            ends = percentile_interval(draws[1][name] - draws[0][name]) if name in draws[0] else None
            found[name] = {
                "a": scores[0][name],
                "b": scores[1][name],
                "difference": scores[1][name] - scores[0][name],
                "interval": None if ends is None else list(ends),
            }
    order = [name for metric in a.values() for name in metric.compute()]
    return {name: found[name] for name in order if name in found}


def _means(paired: Sequence[list[Ended]], headline: str, values: FloatArray) -> dict[str, dict[str, Any]]:
    columns = {
        headline: values,
        "reward": np.array([_rewards(side) for side in paired]),
        "turns": np.array([[float(len(ended.record["turns"])) for ended in side] for side in paired]),
        "visual_tokens": np.array([[_tokens(ended) for ended in side] for side in paired]),
    }
    found = {}
    for name, (a, b) in columns.items():
        apart = b - a
        apart = apart[np.isfinite(apart)]
        found[name] = {
            "difference": float(apart.mean()) if len(apart) else None,
            "interval": mean_interval(apart),
            "samples": len(apart),
        }
    return found


def _rewards(side: Iterable[Ended]) -> list[float]:
    return [float(ended.record["reward"]) for ended in side]


def _tokens(ended: Ended) -> float:
    return float(ended.record["metrics"].get("visual_tokens_read") or 0.0)


def _told(pair: Pair) -> dict[str, Any]:
    sides = {
        name: {
            "episode": ended.number,
            "value": value,
            "reward": ended.record["reward"],
            "ended": ended.record["termination"],
            "turns": len(ended.record["turns"]),
            "calls": [turn["name"] or "malformed" for turn in ended.record["turns"]],
            "answer": ended.record["outcome"]["answer"],
        }
        for name, ended, value in (("a", pair.a, pair.value_a), ("b", pair.b, pair.value_b))
    }
    known = {"sample_id": pair.a.record["sample_id"], "query": pair.a.record["query"]}
    return {**known, "difference": pair.difference, **sides}


def _pictures(run: Run, pairs: Sequence[Pair]) -> list[dict[str, bytes]]:
    """For each pair JPEG files of the truth and of both results; none where the data are not there any more."""
    config = EvalConfig.from_settings(run.settings)
    # Only for its data: no expert of the run has to be loaded.
    kept = {name: value for name, value in config.env.items() if name in ("dataset", "split", "difficulty", "tasks")}
    try:
        with closing(EvalConfig(config.env_id, "scripted", env=kept).make_env()) as env:
            return [_drawn(env.dataset.find(str(pair.a.record["sample_id"])).image, pair) for pair in pairs]
    except (VisenvError, OSError):
        return [{} for _ in pairs]


def _drawn(pixels: Pixels, pair: Pair) -> dict[str, bytes]:
    drawn = {"truth": draw_truth(pixels, pair.a.truth)} | {
        name: draw_final(pixels, ended.outcome, ended.truth) for name, ended in (("a", pair.a), ("b", pair.b))
    }
    return {name: encode(image, SIDE) for name, image in drawn.items() if image is not None}
