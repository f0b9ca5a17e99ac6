"""The run itself: PPO on batched environments, with a curve and a checkpoint after every rollout."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, TextIO

import cv2
import numpy as np

from visenv.errors import InvalidData
from visenv.training.config import CONFIG, EVALUATION, TrainConfig
from visenv.training.imitation import demonstrate, imitate
from visenv.training.trained import WEIGHTS, algorithm, load_weights, save_weights
from visenv.wrappers.recording import plain_json

if TYPE_CHECKING:
    from stable_baselines3.common.callbacks import BaseCallback

CURVE = "curve.jsonl"
UNTRAINED = "untrained"
"""Folder of the policy as it was before its first step."""
_WRITTEN = (
    *(CURVE, WEIGHTS, f"{UNTRAINED}/{WEIGHTS}", EVALUATION, "index.html"),
    *(
        f"{part}/{name}"
        for part in ("before", "after")
        for name in ("trajectories.jsonl", "summary.json", "index.html")
    ),
)
"""What a run that is replaced leaves nothing of."""

Progress = Callable[[int, "dict[str, Any] | None"], None]
"""Told of the steps taken so far, and after each rollout of its line of the curve."""
Imitating = Callable[[str, int, int], None]
"""Told what is being done, how much of it is, and how much there is."""


def train(
    config: TrainConfig,
    folder: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Progress = lambda steps, line: None,
    imitating: Imitating = lambda what, done, total: None,
) -> int:
    """Train a policy, or go on with a run that was stopped.

    The folder gets ``config.json``, ``curve.jsonl`` (a line a rollout), ``policy.pt`` (the weights after the newest
    rollout) and ``untrained/``, the policy before its first step. A folder that holds a run of the same settings
    is gone on with, from its newest weights; the samples drawn then are others than those of a run never stopped.

    Args:
        config: what is trained.
        folder: where to; made if it is missing.
        overwrite: whether a run that the folder holds may be replaced.
        progress: told how far it is.
        imitating: told how far it is before the first step, where a policy is imitated.

    Returns:
        The steps that the policy has been trained for.

    Raises:
        InvalidData: if the folder holds a run of other settings, or a broken one; if no turn of the policy that is to
            be imitated is a discrete action.
        MissingDependency: if Stable-Baselines3 is not installed.
    """
    from visenv.adapters.sb3 import make_vec_env

    run = Path(folder)
    if config.start is not None and not (Path(config.start) / WEIGHTS).is_file():
        raise InvalidData(f"Expected a training run to start from, but {config.start!r} holds no {WEIGHTS}.")
    with closing(make_vec_env(config.env_id, n_envs=config.n_envs, **config.env_keywords)) as envs:
        model = algorithm(config, envs)
        # Only now, so that settings that nothing can be made of replace no run.
        _prepare(config, run, overwrite)
        done = 0
        if (run / WEIGHTS).is_file():
            done = load_weights(model, run / WEIGHTS)
            # Each part of a run draws samples and actions of its own.
            model.set_random_seed(int(np.random.SeedSequence((config.seed, done)).generate_state(1)[0]))
        else:
            if config.start is not None:
                load_weights(model, Path(config.start) / WEIGHTS, policy_only=True)
            (run / UNTRAINED).mkdir(exist_ok=True)
            config.save(run / UNTRAINED)
            save_weights(model, run / UNTRAINED / WEIGHTS)
            if config.imitate is not None:
                shown = demonstrate(config, partial(imitating, f"watching {config.imitate}"))
                imitate(model, shown, config, partial(imitating, f"imitating {config.imitate}"))
                save_weights(model, run / WEIGHTS)
        seconds = _cut_curve(run / CURVE, done)
        progress(done, None)
        if done < config.steps:
            (run / EVALUATION).unlink(missing_ok=True)
            with (run / CURVE).open("a", encoding="utf-8") as curve:
                callback = _recorder(curve, run / WEIGHTS, seconds, progress)
                model.learn(config.steps - done, callback=callback, reset_num_timesteps=False)
        return int(model.num_timesteps)


def one_thread_each() -> None:
    """Leave torch and OpenCV one thread each, in this whole process, as is best for programs that train here.

    Networks and pictures are small: more threads wait spinning for each other, and the experts need the cores.
    """
    cv2.setNumThreads(1)
    with suppress(ImportError):
        import torch

        torch.set_num_threads(1)


def _prepare(config: TrainConfig, run: Path, overwrite: bool) -> None:
    """Make sure that the folder is free, or holds the same run."""
    advice = "name another folder, or replace it (--overwrite)."
    if not overwrite and (run / CONFIG).exists():
        before = TrainConfig.load(run)
        if before.same_run != config.same_run:
            differing = [name for name, value in config.same_run.items() if before.same_run[name] != value]
            raise InvalidData(
                f"There is a training run of other settings ({', '.join(differing)}) in {str(run)!r}: {advice}"
            )
    elif not overwrite and ((run / CURVE).exists() or (run / WEIGHTS).exists()):
        raise InvalidData(f"There is a training run without its {CONFIG} in {str(run)!r}: {advice}")
    try:
        run.mkdir(parents=True, exist_ok=True)
        for name in _WRITTEN if overwrite else ():
            (run / name).unlink(missing_ok=True)
        config.save(run)
    except OSError as error:
        raise InvalidData(f"Cannot write to {str(run)!r}: {error.strerror}. Name another folder.") from error


def _cut_curve(path: Path, steps: int) -> float:
    """Leave out of a curve what came after the newest weights; the seconds that the rest took."""
    kept: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                values = json.loads(line)
                if values["steps"] <= steps:
                    kept.append(values)
            except (ValueError, KeyError, TypeError):
                break
    path.write_text("".join(plain_json(values) + "\n" for values in kept), encoding="utf-8")
    return float(kept[-1].get("seconds") or 0.0) if kept else 0.0


def _recorder(curve: TextIO, weights: Path, seconds: float, progress: Progress) -> BaseCallback:
    """What SB3 calls while it learns."""
    from stable_baselines3.common.callbacks import BaseCallback

    class Recorder(BaseCallback):
        """Writes a line of the curve and a checkpoint after every rollout."""

        def _on_training_start(self) -> None:
            self._start = time.perf_counter()
            self._tally = _Tally()

        def _on_rollout_start(self) -> None:
            # The weights that the last rollout led to are learned only now.
            if self.n_calls:
                self._save()

        def _on_step(self) -> bool:
            self._tally.add(self.locals["infos"])
            progress(self.num_timesteps, None)
            return True

        def _on_rollout_end(self) -> None:
            elapsed = time.perf_counter() - self._start
            line = {"steps": self.num_timesteps, "seconds": round(seconds + elapsed, 2)}
            line["steps_per_second"] = round((self.num_timesteps - self.model._num_timesteps_at_start) / elapsed, 1)
            line |= self._tally.figures()
            self._tally = _Tally()
            self._line = line
            progress(self.num_timesteps, line)

        def _on_training_end(self) -> None:
            self._save()

        def _save(self) -> None:
            save_weights(self.model, weights)  # type: ignore[arg-type]
            curve.write(plain_json(self._line) + "\n")
            curve.flush()

    return Recorder()


class _Tally:
    """Adds up what happens in one rollout."""

    def __init__(self) -> None:
        self._rewards: list[float] = []
        self._turns: list[float] = []
        self._metrics: dict[str, list[float]] = {}
        self._calls: Counter[str] = Counter()
        self._errors = 0

    def add(self, infos: list[dict[str, Any]]) -> None:
        """Add a step of all environments."""
        for info in infos:
            self._calls[info["tool"] or "malformed"] += 1
            self._errors += info["error"] is not None
            if "episode" in info:
                self._rewards.append(float(info["episode"]["r"]))
                self._turns.append(float(info["episode"]["l"]))
                for name, value in info["metrics"].items():
                    self._metrics.setdefault(name, []).append(value)

    def figures(self) -> dict[str, Any]:
        """The means over the rollout; None where no episode has ended."""
        steps = max(1, self._calls.total())
        return {
            "episodes": len(self._rewards),
            "reward": fmean(self._rewards) if self._rewards else None,
            "turns": fmean(self._turns) if self._turns else None,
            "metrics": {name: fmean(values) for name, values in self._metrics.items()},
            "calls": {name: count / steps for name, count in sorted(self._calls.items())},
            "errors": self._errors / steps,
        }
