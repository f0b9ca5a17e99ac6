"""What a trained policy is worth, beside the policies that need no training, on samples that it has not seen."""

from __future__ import annotations

import copy
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from visenv.datasets.mixed import MixedDataset
from visenv.errors import InvalidData
from visenv.policies import Finished, Policy, make_policy, rollout, rollout_batch
from visenv.registration import Entry
from visenv.training.config import EVALUATION, TrainConfig
from visenv.training.learning import UNTRAINED
from visenv.training.trained import TrainedPolicy
from visenv.vector import VisionToolVectorEnv
from visenv.wrappers.recording import RecordTrajectories, plain_json
from visenv.wrappers.summary import RunSummary

BASELINES = ("random", "single", "scripted")
SPLIT = "val"
SIDE_BY_SIDE = 16
"""Episodes that are played at once."""
SHOWN = 8
"""Episodes recorded before and after training."""
DIFFICULTIES = (0, 1, 2, 3)
SEED = 0
"""Of the evaluation: the same samples whatever the seed of training."""

Scores: TypeAlias = dict[str, list[float]]
"""By figure, its value for each episode, in the order of the samples."""
Progress = Callable[[str, int, int], None]
"""Told who is playing, the episodes that have ended, and how many there will be."""


def evaluate(
    folder: str | os.PathLike[str],
    *,
    baselines: Sequence[str] = BASELINES,
    difficulties: Sequence[int] = DIFFICULTIES,
    shown: int = SHOWN,
    progress: Progress = lambda who, done, total: None,
) -> dict[str, Any]:
    """Play a trained policy and the baselines on the same samples of ``val``, and write ``evaluation.json``.

    The folder also gets ``before/`` and ``after/``: some of these episodes, as the policy played them before its first
    step and after its last.

    Args:
        folder: of the training run.
        baselines: names of the policies that it is compared with; they have the discrete action space, too.
        difficulties: of generated data, on which the trained policy also plays a fourth as many episodes each.
        shown: how many episodes to record before and after.
        progress: told how far it is.

    Returns:
        ``split``: ``val``, or that of a data set which has no other; ``headline``, the figure by which policies are
        compared, and whether ``higher_is_better``; ``policies`` and ``by_difficulty`` (empty where data are not
        generated), each with ``episodes``, ``metrics``, ``interval`` (of the headline: 95 %, bootstrapped over
        episodes), ``reward_mean``, ``reward_std``, ``turns_mean``, ``errors`` (the share of faulty turns),
        ``tokens_read`` (visual tokens an episode) and ``calls_by_turn``; ``gap_closed``, the share of the way from
        random to scripted; ``differences``, by baseline what the trained policy has more of the ``reward`` and of the
        headline on the same sample: ``mean`` and 95 % ``interval``.

    Raises:
        InvalidData: if there is no trained policy in the folder.
    """
    run = Path(folder)
    config = TrainConfig.load(run)
    trained: list[Policy] = [copy.copy(policy) for policy in [TrainedPolicy(run)] * SIDE_BY_SIDE]
    keywords = {**config.env_keywords, "split": SPLIT}
    headline, higher = headline_of(config.env_id)
    results: dict[str, dict[str, Any]] = {}
    scores: dict[str, Scores] = {}
    with closing(_environments(config.env_id, keywords)) as envs:
        split, own_level = envs.envs[0].dataset.split, _difficulty(envs)
        for name in (*baselines, "trained"):
            players = trained if name == "trained" else [make_policy(name) for _ in range(SIDE_BY_SIDE)]
            told = partial(_told, progress, name, config.evaluated)
            results[name], scores[name] = play(envs, players, config.evaluated, headline, told)
    by_difficulty: dict[str, dict[str, Any]] = {}
    count = max(1, config.evaluated // 4)
    for level in difficulties if own_level is not None else ():
        if level == own_level:
            by_difficulty[str(level)] = results["trained"]
            continue
        told = partial(_told, progress, f"trained, difficulty {level}", count)
        with closing(_environments(config.env_id, {**keywords, "difficulty": level})) as envs:
            if _difficulty(envs) == level:
                by_difficulty[str(level)], _ = play(envs, trained, count, headline, told)
    for name, policy in (("before", TrainedPolicy(run / UNTRAINED)), ("after", trained[0])):
        _record(config, keywords, run / name, policy, min(shown, config.evaluated))
    report = {
        "split": split,
        "headline": headline,
        "higher_is_better": higher,
        "policies": results,
        "by_difficulty": by_difficulty,
        "gap_closed": gap_closed(results, headline),
        "differences": {name: differences(scores["trained"], scores[name]) for name in baselines},
    }
    (run / EVALUATION).write_text(plain_json(report, indent=2) + "\n", encoding="utf-8")
    return report


def headline_of(env_id: str) -> tuple[str, bool]:
    """The figure by which policies are compared on an environment, and whether more of it is better.

    It is the first metric of the environment's benchmark; the reward where several tasks are mixed.

    Example:
        >>> headline_of("VisHarness/ReasonSeg-v0"), headline_of("VisHarness/RefCount-v0")
        (('gIoU', True), ('MAE', False))
    """
    spec = gym.spec(env_id)
    kind = Entry(env_id, str(spec.entry_point)).load() if isinstance(spec.entry_point, str) else spec.entry_point
    names = getattr(kind, "metric_names", ())
    if not names or getattr(kind, "family", "") == "mixed":
        return "reward", True
    metric = Entry(names[0], names[0]).load()
    return str(metric.name), bool(metric.higher_is_better)


def play(
    envs: VisionToolVectorEnv,
    players: Sequence[Policy],
    episodes: int,
    headline: str,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[dict[str, Any], Scores]:
    """What a policy comes to, as ``evaluate`` returns it, and by figure the value of each episode.

    Args:
        envs: on which it plays.
        players: a copy of the policy for each.
        episodes: how many.
        headline: the figure whose interval is given.
        progress: told of the episodes that have ended.
    """
    summary = RunSummary()
    ended: list[Finished] = []
    for finished, env in rollout_batch(envs.envs, players, envs.pool, episodes=episodes, seed=SEED):
        summary.add(env, finished.reward)
        ended.append(finished)
        progress(len(ended))
    ended.sort(key=lambda one: one.index)
    calls: list[Counter[str]] = [Counter() for _ in range(max(len(one.calls) for one in ended))]
    for one in ended:
        for turn, call in enumerate(one.calls):
            calls[turn][call] += 1
    figures = summary.figures()
    values = [one.reward if headline == "reward" else one.metrics.get(headline, np.nan) for one in ended]
    totals = figures["totals"]
    judged = {
        "episodes": figures["episodes"],
        "metrics": {**({"reward": figures["reward_mean"]} if headline == "reward" else {}), **figures["metrics"]},
        "interval": interval(values),
        "reward_mean": figures["reward_mean"],
        "reward_std": figures["reward_std"],
        "turns_mean": totals["turns"] / len(ended),
        "errors": totals["errors"] / max(1, totals["turns"]),
        "tokens_read": totals["visual_tokens_read"] / len(ended),
        "calls_by_turn": [dict(sorted(counter.items())) for counter in calls],
    }
    return judged, {headline: values, "reward": [one.reward for one in ended]}


def differences(own: Scores, other: Scores) -> dict[str, dict[str, Any]]:
    """By figure, how much more of it one policy has than another on the same samples.

    Returns:
        For each figure the ``mean`` of the differences and its 95 % ``interval``, bootstrapped over samples; without
        the samples for which the figure does not apply to both.

    Example:
        >>> differences({"reward": [1.0, 3.0, 5.0]}, {"reward": [0.0, 2.0, 4.0]})
        {'reward': {'mean': 1.0, 'interval': [1.0, 1.0]}}
    """
    found = {}
    for figure in own:
        apart = np.subtract(own[figure], other[figure])
        apart = apart[np.isfinite(apart)]
        found[figure] = {"mean": float(apart.mean()) if len(apart) else None, "interval": interval(apart)}
    return found


def interval(values: Sequence[float] | NDArray[np.float64]) -> list[float] | None:
    """The 95 % interval of a mean, bootstrapped over samples; None where there is nothing to draw from.

    Example:
        >>> interval([0.0, 1.0] * 50)
        [0.4, 0.6]
    """
    finite = np.asarray([value for value in values if np.isfinite(value)], dtype=float)
    if len(finite) < 2:
        return None
    if np.ptp(finite) == 0:
        return [float(finite[0])] * 2
    from scipy.stats import bootstrap  # takes as long to import as all the rest

    found = bootstrap(
        (finite,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(SEED)
    ).confidence_interval
    return [float(found.low), float(found.high)]


def gap_closed(results: dict[str, dict[str, Any]], headline: str) -> float | None:
    """The share of the way from random to scripted that the trained policy has gone; None if there is no way.

    Example:
        >>> figures = {"random": 0.1, "scripted": 0.9, "trained": 0.7}
        >>> round(gap_closed({who: {"metrics": {"gIoU": value}} for who, value in figures.items()}, "gIoU"), 2)
        0.75
    """
    try:
        low, high, own = (results[who]["metrics"][headline] for who in ("random", "scripted", "trained"))
    except KeyError:
        return None
    return None if low == high else (own - low) / (high - low)


def _told(progress: Progress, who: str, total: int, done: int) -> None:
    progress(who, done, total)


def _environments(env_id: str, keywords: dict[str, Any]) -> VisionToolVectorEnv:
    envs = gym.make_vec(env_id, num_envs=SIDE_BY_SIDE, **keywords)
    if not isinstance(envs, VisionToolVectorEnv):
        raise InvalidData(f"Expected an environment of visenv, but {env_id!r} is none.")
    return envs


def _difficulty(envs: VisionToolVectorEnv) -> int | None:
    """Of generated data; None where there is none, or several."""
    dataset = envs.envs[0].dataset
    parts = dataset.parts.values() if isinstance(dataset, MixedDataset) else (dataset,)
    levels = {getattr(part, "difficulty", None) for part in parts}
    return levels.pop() if len(levels) == 1 else None


def _record(config: TrainConfig, keywords: dict[str, Any], folder: Path, policy: Policy, episodes: int) -> None:
    env = gym.make(
        config.env_id, disable_env_checker=True, **{"action_mode": "discrete", "obs": "features", **keywords}
    )
    facts = {"env_id": config.env_id, "policy": f"{config.algo}, {folder.name} training", **keywords}
    with closing(RecordTrajectories(env, folder, facts, overwrite=True)) as recorder:
        for _ in rollout(recorder, policy, episodes=episodes, seed=SEED):
            continue
