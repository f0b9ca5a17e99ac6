"""Data to begin with: many tries about each sample, of which the good ones are learned from.

A strong model, or a script whose choices are changed by chance, plays each sample several times; what came to a good
result is kept, as RSAgent (arXiv 2512.24023) and VisHarness (arXiv 2605.29894) make the data of their first training
stage. A run of tries is an evaluation like any other: it survives being killed, any number of processes may play it,
and ``visenv.export`` reads it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from visenv.errors import InvalidData
from visenv.evaluation import EvalConfig, evaluate
from visenv.evaluation.running import Progress
from visenv.export.runs import RecordedRun
from visenv.export.selecting import Filters, Selection, select
from visenv.policies.chat import CHAT

TEMPERATURE = 1.0
"""Of a chat endpoint, whose tries would all be the same at 0."""


def synth_config(
    env_id: str,
    *,
    policy: str = "scripted",
    noise: float = 0.3,
    samples: int | None = None,
    tries: int = 8,
    seed: int = 0,
    env: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> EvalConfig:
    """What is played: a policy whose tries differ, several times about each sample.

    Args:
        env_id: as ``gym.make`` takes it.
        policy: a registered name, or ``openai:MODEL`` for a chat endpoint.
        noise: how often choices of a registered policy are changed by chance, in [0, 1]; with 0 it plays as it is. A
            chat endpoint has its ``temperature``.
        samples: how many; None for all of the split.
        tries: of each sample.
        seed: of the order of samples and of all choices.
        env: keywords of ``gym.make``; the split is ``train`` unless they say otherwise.
        options: keywords of ``visenv.policies.chat.ChatPolicy``; turns come as text, at a temperature of 1, unless they
            say otherwise.

    Raises:
        InvalidData: if a value is out of range.

    Example:
        >>> config = synth_config("VisHarness/RefSeg-v0", samples=10, tries=4)
        >>> config.policy, config.episodes, config.tries, config.keywords["split"]
        ('varied:inner=scripted,noise=0.3', 10, 4, 'train')
    """
    if isinstance(noise, bool) or not isinstance(noise, (int, float)) or not 0 <= noise <= 1:
        raise InvalidData(f"Expected noise to be a number in [0, 1], but got {noise!r}.")
    chat = policy.startswith(CHAT)
    if not chat and noise and policy.isidentifier():
        policy = f"varied:inner={policy},noise={noise:g}"
    chosen = {"tools": "text", "temperature": TEMPERATURE, **(options or {})} if chat else dict(options or {})
    return EvalConfig(env_id, policy, samples, seed, {"split": "train", **(env or {})}, chosen, tries)


@dataclass(frozen=True)
class Screening:
    """What came of the tries."""

    samples: int
    """That have a valid try."""
    tries: int
    """That have ended."""
    good: int
    """Tries that are good enough to learn from."""
    kept: int
    """Of these, those that are neither doubles nor more than is wanted of a sample."""
    always_right: int
    """Samples of which every valid try is good."""
    always_wrong: int
    """Samples of which none is."""
    why: dict[str, int]
    """Why the others are not kept, by reason."""

    @classmethod
    def of(cls, selection: Selection) -> Screening:
        """Count what was selected."""
        rates = [selection.success(sample) for sample in selection.samples]
        valid = [one for tries in selection.samples.values() for one in tries]
        return cls(
            samples=len(rates),
            tries=len(selection.kept) + len(selection.dropped),
            good=sum(one.verdict.good for one in valid),
            kept=len(selection.kept),
            always_right=rates.count(1.0),
            always_wrong=rates.count(0.0),
            why=dict(sorted(Counter(each["why"] for each in selection.dropped).items())),
        )


def synthesize(
    config: EvalConfig,
    folder: str | os.PathLike[str],
    *,
    filters: Filters | None = None,
    workers: int = 1,
    concurrency: int = 1,
    overwrite: bool = False,
    progress: Progress = lambda follower: None,
) -> Screening:
    """Play the tries, as far as they have not been played, and screen them.

    Args:
        config: of ``synth_config``.
        folder: of the run; the same call goes on with one that was stopped.
        filters: what is good enough; those of the publications if left out.
        workers: processes that play.
        concurrency: tries that each of them has under way.
        overwrite: whether another run that is there is replaced.
        progress: told what has ended.

    Raises:
        VisenvError: as ``visenv.evaluation.evaluate``.

    Example:
        >>> import tempfile
        >>> config = synth_config("VisHarness/RefSeg-v0", samples=2, tries=3, env={"experts": "oracle"})
        >>> screening = synthesize(config, tempfile.mkdtemp())
        >>> screening.samples, screening.tries
        (2, 6)
    """
    evaluate(config, folder, workers=workers, concurrency=concurrency, overwrite=overwrite, progress=progress)
    return Screening.of(select(RecordedRun(folder, env_id=config.env_id).records(), filters or Filters()))
