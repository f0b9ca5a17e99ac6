"""SkyRL: environments for ``skyrl_gym.make``, which SkyRL's generators step with a model's turns.

Observations are messages in the format of OpenAI: with pictures, as SkyRL's generator for vision-language models takes
them, or text alone. Some things are as SkyRL has them, and the adapter makes the best of each:

- A picture that was shown stays in the model's context, so nothing is archived: ``memory`` is ``"keep_all"``.
- There is one end, ``done``. Which one it is stands in the metadata and the metrics; an invalid episode pays 0, is
  flagged there, and left out of the averages.
- The limit of turns is the trainer's (``generator.max_turns``), as of all its environments.
- A rollout that runs out of tokens is given up without a word to the environment: what stands then is measured as if
  at the turn limit, and nothing is paid for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from visenv.adapters.blocks import as_text, with_data_urls
from visenv.adapters.making import make_env
from visenv.adapters.rows import first_samples, row_options, row_seed
from visenv.adapters.threads import OnThreads
from visenv.errors import MissingDependency

try:
    import skyrl_gym
    from skyrl_gym.envs.base_text_env import BaseTextEnv, BaseTextEnvStepOutput, ConversationType
    from skyrl_gym.metrics import default_aggregate_metrics
except ImportError as error:
    raise MissingDependency('visenv.adapters.skyrl needs SkyRL-Gym: pip install "visenv[skyrl]".') from error

_SPECIAL = re.compile(r"<\|\w{1,64}\|>")


def register(env_id: str, *, name: str | None = None, pictures: bool = True, **keywords: Any) -> str:
    """Make an environment known to ``skyrl_gym.make``, and load its data and experts once for all that are made.

    Call it where the generator runs: with SkyRL's entry points, in the remote function that trains.

    Args:
        env_id: as ``gym.make`` takes it.
        name: under which it is known there, the ``env_class`` of rows; the id itself if left out.
        pictures: whether messages hold pictures; without them they hold text alone, ``[image NAME]`` for each.
        **keywords: of the environment.

    Returns:
        The name.

    Raises:
        VisenvError: as ``gym.make``: data, weights and devices are checked now.
        skyrl_gym.error.RegistrationError: if the name is taken.
    """
    settings = {"memory": "keep_all", "obs": "features", **keywords, "action_mode": "text"}
    kind = OnThreads(env_id, settings)
    skyrl_gym.register(name or env_id, entry_point=f"{__name__}:SkyRLEnv", kwargs={"kind": kind, "pictures": pictures})
    return name or env_id


class SkyRLEnv(BaseTextEnv):
    """One episode at a time, as SkyRL's generators play it; ``register`` makes it known.

    Args:
        kind: what all environments of a name have in common.
        env_config: keywords of the environment that this one has otherwise.
        extras: the row of the data set: ``sample_id`` or ``index`` say what the episode is about (by chance if neither
            is there, from ``seed``); ``max_turns`` is the trainer's limit.
        pictures: whether messages hold pictures.

    Attributes:
        env: the environment of visenv.
    """

    def __init__(
        self,
        kind: OnThreads,
        env_config: Mapping[str, Any] | None = None,
        extras: Mapping[str, Any] | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__()
        row = dict(extras or {})
        limit = {"max_turns": int(row["max_turns"])} if row.get("max_turns") is not None else {}
        self.env = kind.make(**{**(env_config or {}), **limit})
        self.max_turns = self.env.config.max_turns
        self._kind, self._pictures = kind, pictures
        self._options, self._seed = row_options(row), row_seed(row)
        self._paid = 0.0

    def init(self, prompt: ConversationType) -> tuple[ConversationType, dict[str, Any]]:
        """Begin the episode.

        Args:
            prompt: of the row; its system messages take the place of the environment's, which explains the tools.

        Returns:
            The system messages and the task, and the environment's ``info``.
        """
        self._kind.begin(self.env, seed=self._seed, options=self._options)
        self._seed = None
        self.turns, self._paid = 0, 0.0
        rules, task = self.env.episode.messages()
        system = [message for message in prompt if message["role"] == "system"]
        return [*(system or [self._shown(rules)]), self._shown(task)], self.env.info()

    def step(self, action: str) -> BaseTextEnvStepOutput:
        """Take one turn.

        Args:
            action: what the model wrote.

        Returns:
            The reply as a message, none at the end; the reward; whether the episode has ended; as metadata, the
            environment's ``info`` with ``terminated`` and ``truncated``.

        Raises:
            EpisodeOver: if it has ended before, or was not begun.
        """
        result = self._kind.step(self.env, _without_end(action))
        episode = self.env.episode
        self.turns = episode.turns
        self._paid += result.reward
        return BaseTextEnvStepOutput(
            observations=[] if episode.done else [self._shown(episode.messages()[-1])],
            reward=result.reward,
            done=episode.done,
            metadata={**self.env.info(), "terminated": result.terminated, "truncated": result.truncated},
        )

    def get_metrics(self) -> dict[str, Any]:
        """The figures of the episode, by name; one that has not ended is measured as if at the turn limit.

        Besides the environment's: ``reward``, what was paid; ``finished`` and ``invalid``, 0 or 1.
        """
        episode = self.env.episode
        finished = episode.done
        if not finished:
            episode.stop()
        invalid = episode.problem is not None
        return {**self.env.metrics(), "reward": self._paid, "finished": float(finished), "invalid": float(invalid)}

    @staticmethod
    def aggregate_metrics(metrics: list[dict[str, Any]]) -> dict[str, Any]:
        """Averages over many episodes: of ``invalid`` over all of them, of everything else over the valid ones."""
        valid = [one for one in metrics if not one.get("invalid")]
        shares: dict[str, Any] = default_aggregate_metrics([{"invalid": one.get("invalid", 0.0)} for one in metrics])
        return {**default_aggregate_metrics(valid), **shares}

    def _shown(self, message: Mapping[str, Any]) -> dict[str, Any]:
        blocks = message["content"]
        return {"role": message["role"], "content": with_data_urls(blocks) if self._pictures else as_text(blocks)}


def _without_end(action: Any) -> Any:
    """A turn without the special tokens that inference engines may leave at its end."""
    while isinstance(action, str) and action.rstrip().endswith("|>"):
        text = action.rstrip()
        start = text.rfind("<|")
        if start < 0 or not _SPECIAL.fullmatch(text, start):
            break
        action = text[:start].rstrip()
    return action


def to_rows(env_id: str, *, name: str | None = None, size: int | None = None, **keywords: Any) -> list[dict[str, Any]]:
    """Rows of a data set for SkyRL, one a sample; pictures stay where they are until the episode begins.

    Args:
        env_id: as ``gym.make`` takes it.
        name: under which the environment is registered; the id itself if left out.
        size: how many samples, from the first; all of them if left out.
        **keywords: of the environment, among them ``dataset`` and ``split``.

    Returns:
        Rows of ``prompt`` (the query, which ``init`` replaces by the whole task), ``env_class``, ``sample_id`` and
        ``data_source``.

    Raises:
        InvalidData: if the split has no end and ``size`` is left out, or it has fewer samples.
    """
    env = make_env(env_id, {"obs": "features", **keywords})
    return [
        {
            "prompt": [{"role": "user", "content": sample.query}],
            "env_class": name or env_id,
            "sample_id": sample.sample_id,
            "data_source": env.dataset.name,
        }
        for sample in first_samples(env, size)
    ]
