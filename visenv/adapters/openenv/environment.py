"""The environment of a session, and what all sessions share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import EnvironmentMetadata

import visenv
from visenv.adapters.blocks import with_data_urls
from visenv.adapters.calls import written_call
from visenv.adapters.making import AsyncShared
from visenv.adapters.openenv.models import VisionAction, VisionObservation, VisionState
from visenv.async_batches import drive_async
from visenv.datasets.base import Dataset
from visenv.env import VisionToolEnv
from visenv.errors import EpisodeOver, InvalidData
from visenv.protocol import get_dialect, openai_tools, system_prompt
from visenv.types import Malformed

PREVIEW = 100
"""How many samples one request of the task API is told of."""


class Backend(AsyncShared):
    """What all sessions of a server have in common.

    Args:
        env_id: as ``gym.make`` takes it.
        keywords: of the environment.
        image_format: of pictures that are sent.

    Raises:
        VisenvError: as ``gym.make``.
    """

    def __init__(self, env_id: str, keywords: dict[str, Any], image_format: Literal["png", "jpeg"] = "png") -> None:
        if image_format not in ("png", "jpeg"):
            raise InvalidData(f"Expected the image format 'png' or 'jpeg', but got {image_format!r}.")
        # A client cannot take back a picture that it was sent: nothing is archived.
        super().__init__(env_id, {"memory": "keep_all", "obs": "features", **keywords, "action_mode": "text"})
        self.image_format = image_format


class VisionEnvironment(Environment[VisionAction, VisionObservation, VisionState]):
    """One session: a view over one episode after the other.

    Args:
        backend: what it shares with the other sessions.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        self._backend = backend
        self._env: VisionToolEnv | None = backend.make()
        self._episode_id: str | None = None
        self._began = False

    @classmethod
    def factory(cls, env_id: str, **keywords: Any) -> Callable[[], VisionEnvironment]:
        """What makes sessions that share everything but their episode.

        Args:
            env_id: as ``gym.make`` takes it.
            **keywords: of the environment, and ``image_format``.

        Raises:
            VisenvError: as ``gym.make``: data, weights and devices are checked now.
        """
        image_format = keywords.pop("image_format", "png")
        return partial(cls, Backend(env_id, keywords, image_format))

    # --- OpenEnv's interface ------------------------------------------------------------------------------------------

    def reset(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        index: int | None = None,
        sample_id: str | None = None,
        **kwargs: Any,
    ) -> VisionObservation:
        """Begin an episode.

        Args:
            seed: of the samples of this session.
            episode_id: how the client calls it; the sample's identifier if left out.
            index: of the sample; drawn by chance if it and ``sample_id`` are left out.
            sample_id: of the sample.
            **kwargs: none.

        Raises:
            InvalidData: if there are other arguments, or these are not as they should be.
            DatasetError: if there is no such sample.
        """
        self._begin(seed, episode_id, index, sample_id, kwargs)
        return self._observation(None)

    async def reset_async(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        index: int | None = None,
        sample_id: str | None = None,
        **kwargs: Any,
    ) -> VisionObservation:
        """``reset``, while other sessions go on."""
        await self._backend.drawing(partial(self._begin, seed, episode_id, index, sample_id, kwargs))
        return await asyncio.to_thread(self._observation, None)

    def step(self, action: VisionAction, timeout_s: float | None = None, **kwargs: Any) -> VisionObservation:
        """Take a turn.

        Args:
            action: whatever it holds, it is a turn.
            timeout_s: is not looked at: ``expert_timeout`` bounds experts.
            **kwargs: are not looked at.

        Raises:
            EpisodeOver: if the episode has ended, none was begun, or the session was closed.
        """
        env = self._playing()
        _, reward, terminated, truncated, _ = env.step(_turn(env, action))
        return self._observation(float(reward), terminated, truncated)

    async def step_async(
        self, action: VisionAction, timeout_s: float | None = None, **kwargs: Any
    ) -> VisionObservation:
        """``step``, while other sessions go on: experts answer what several of them ask as one batch."""
        env = self._playing()
        result = env.finish(await drive_async(env.stepping(_turn(env, action)), self._backend.pool))
        seen = partial(self._observation, result.reward, result.terminated, result.truncated)
        return await asyncio.to_thread(seen)

    @property
    def state(self) -> VisionState:
        """Where the session stands, and what can be called."""
        env = self._open()
        episode = env.episode if self._began else None
        return VisionState(
            episode_id=self._episode_id,
            step_count=episode.turns if episode else 0,
            env_id=self._backend.env_id,
            sample_id=episode.sample_id if episode else None,
            max_turns=env.config.max_turns,
            dialect=env.config.dialect,
            instructions=system_prompt(env.specs, get_dialect(env.config.dialect), env.config.max_turns),
            tools=openai_tools(self._backend.specs),
        )

    def get_metadata(self) -> EnvironmentMetadata:
        """What the server tells of itself."""
        text = (type(self._backend.first).__doc__ or "").strip().partition("\n")[0]
        return EnvironmentMetadata(name=self._backend.env_id, description=text, version=visenv.__version__)

    def close(self) -> None:
        """Give the session up; what it shares with others stays."""
        self._env = None

    # --- OpenEnv's task API -------------------------------------------------------------------------------------------

    def list_splits(self) -> list[str]:
        """The one split that is served."""
        return [self._backend.first.dataset.split]

    def num_tasks(self, split: str) -> int:
        """How many samples there are.

        Raises:
            IndexError: if another split is served.
            NotImplementedError: if the split never ends.
        """
        size = self._dataset(split).size
        if size is None:
            raise NotImplementedError(f"The split {split!r} never ends: ask for tasks by their number.")
        return size

    async def list_tasks(self, split: str) -> list[dict[str, Any]]:
        """The first samples, at most ``PREVIEW``."""
        return await self.get_task_range(split, 0, PREVIEW)

    async def get_task(self, split: str, index: int) -> dict[str, Any]:
        """One sample, as ``reset(index=…)`` begins it.

        Raises:
            IndexError: if there is none of that number, or another split is served.
        """
        found = await self.get_task_range(split, index, index + 1) if index >= 0 else []
        if not found:
            raise IndexError(f"There is no sample {index} in the split {split!r}.")
        return found[0]

    async def get_task_range(
        self, split: str, start: int | None = None, stop: int | None = None
    ) -> list[dict[str, Any]]:
        """Some samples, at most ``PREVIEW`` from the start.

        Args:
            split: the one that is served.
            start: number of the first; 0 if left out.
            stop: the number after the last.

        Raises:
            IndexError: if another split is served, or a number is negative.
        """
        dataset = self._dataset(split)
        first = start or 0
        last = first + PREVIEW if stop is None else min(stop, first + PREVIEW)
        if first < 0 or last < 0:
            raise IndexError(f"Expected numbers of samples from 0, but got {start} to {stop}.")
        last = last if dataset.size is None else min(last, dataset.size)

        def read() -> list[dict[str, Any]]:
            samples = ((number, dataset.get(number)) for number in range(first, last))
            return [{"id": each.sample_id, "index": number, "query": each.query} for number, each in samples]

        return await self._backend.drawing(read)

    def _dataset(self, split: str) -> Dataset:
        dataset = self._backend.first.dataset
        if split != dataset.split:
            raise IndexError(f"Expected the split {dataset.split!r}, which is served here, but got {split!r}.")
        return dataset

    # --- the episode --------------------------------------------------------------------------------------------------

    def _open(self) -> VisionToolEnv:
        if self._env is None:
            raise EpisodeOver("The session was closed, by its client or for saying nothing too long: open another.")
        return self._env

    def _playing(self) -> VisionToolEnv:
        env = self._open()
        if not self._began:
            raise EpisodeOver("There is no episode yet: call reset() first.")
        return env

    def _begin(self, seed: Any, episode_id: Any, index: Any, sample_id: Any, unknown: dict[str, Any]) -> None:
        env = self._open()
        if unknown:
            raise InvalidData(
                f"Expected reset with seed, episode_id, index or sample_id, but got {', '.join(unknown)}."
            )
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
            raise InvalidData(f"Expected a seed of at least 0, but got {seed!r:.80}.")
        if episode_id is not None and not isinstance(episode_id, str):
            raise InvalidData(f"Expected episode_id to be a text, but got {episode_id!r:.80}.")
        asked = {"index": index, "sample_id": sample_id}
        env.reset(seed=seed, options={name: value for name, value in asked.items() if value is not None})
        self._began, self._episode_id = True, episode_id or env.episode.sample_id

    def _observation(
        self, reward: float | None, terminated: bool = False, truncated: bool = False
    ) -> VisionObservation:
        env = self._open()
        return VisionObservation(
            done=terminated or truncated,
            reward=reward,
            content=with_data_urls(env.episode.reply(), self._backend.image_format),
            query=env.episode.query,
            terminated=terminated,
            truncated=truncated,
            info=env.info(),
        )


def _turn(env: VisionToolEnv, action: VisionAction) -> Any:
    """An action as the environment takes it."""
    if action.text is None:
        return written_call(env.episode, action.name, {} if action.arguments is None else action.arguments)
    if action.name is not None:
        return Malformed("bad_action", "Expected either a call (name, arguments) or a text, but got both.")
    return {"text": action.text, "finish_reason": action.finish_reason}
