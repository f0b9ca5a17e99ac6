"""Many episodes at once, stepped together, so that experts are called in batches."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from visenv.datasets.base import Dataset
from visenv.env import VisionToolEnv
from visenv.errors import EpisodeOver, InvalidData
from visenv.experts_pool import drive_all
from visenv.observation import Observation
from visenv.types import BoolArray, Sample

PER_ENV_OPTIONS = ("index", "sample_id")


class SampleStream:
    """The samples that one seed gives, in order, for one or several environments that all start at the first.

    The next sample is drawn on another thread before anybody asks for it.

    Args:
        dataset: where samples come from.
        seed: of the stream; the samples are those that one environment draws after ``reset(seed=seed)``.
        readers: how many environments read it.
        workers: who draws ahead.
    """

    def __init__(self, dataset: Dataset, seed: int | None, readers: int, workers: ThreadPoolExecutor) -> None:
        self._dataset, self._workers = dataset, workers
        self._rng = np_random(seed)[0]
        self._places = [0] * readers
        self._drawn: dict[int, Future[Sample]] = {}
        self._count = 0
        self._draw_ahead()

    def _draw_ahead(self) -> None:
        # One worker thread draws for everybody, in the order of submission: a stream's samples come in order.
        self._drawn[self._count] = self._workers.submit(self._dataset.draw, self._rng)
        self._count += 1

    def take(self, reader: int) -> Sample:
        """The next sample of one reader."""
        place = self._places[reader]
        sample = self._drawn[place].result()
        self._places[reader] += 1
        if place + 1 == self._count:
            self._draw_ahead()
        for passed in [number for number in self._drawn if number < min(self._places)]:
            del self._drawn[passed]
        return sample


class VisionToolVectorEnv(VectorEnv[Observation, Any, Any]):
    """Many environments of one id, whose expert calls are batched, cached and never done twice.

    Environment ``i`` gives the same observations, rewards and infos as a single one with ``seeds[i]`` and the same
    actions. A subclass for each id says which environment it is made of.

    Args:
        num_envs: how many.
        group_size: so many environments in a row share a stream of samples: the k-th episode of each is about the k-th
            sample of the group, as GRPO needs it. ``num_envs`` is a multiple of it.
        autoreset_mode: ``"next_step"``, ``"same_step"`` or ``"disabled"``, as Gymnasium defines them.
        max_episode_steps: steps after which an episode is truncated; None for no limit.
        copy: whether returned observations are copies; if not, the next step writes over them.
        **keywords: of ``VisionToolEnv``.

    Attributes:
        seeds: the seed of each environment, None where it was left to chance.
        pool: the experts, with counters of what was asked, batched and remembered.

    Raises:
        InvalidData: if a number is out of range.

    Example:
        >>> import gymnasium as gym
        >>> envs = gym.make_vec("VisHarness/RefSeg-v0", num_envs=4, group_size=2, experts="oracle")
        >>> obs, infos = envs.reset(seed=0)
        >>> obs["image"].shape, [infos["query"][0] == query for query in infos["query"]][:2]
        ((4, 128, 128, 3), [True, True])
    """

    env_class: ClassVar[type[VisionToolEnv]] = VisionToolEnv

    def __init__(
        self,
        num_envs: int = 1,
        *,
        group_size: int = 1,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        copy: bool = True,
        **keywords: Any,
    ) -> None:
        for name, value in (
            ("num_envs", num_envs),
            ("group_size", group_size),
            ("max_episode_steps", max_episode_steps),
        ):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InvalidData(f"Expected {name} to be a whole number of at least 1, but got {value!r}.")
        if num_envs % group_size:
            raise InvalidData(f"Expected num_envs to be a multiple of group_size={group_size}, but got {num_envs}.")
        self.num_envs, self.group_size, self.max_episode_steps = num_envs, group_size, max_episode_steps
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self.metadata = self.env_class.metadata | {"autoreset_mode": self.autoreset_mode}
        first = self.env_class(**keywords)
        shared = keywords | {"dataset": first.dataset, "experts": dict(first.pool.experts)}
        self.envs = [first, *(self.env_class(**shared) for _ in range(num_envs - 1))]
        self.pool = first.pool
        self.render_mode = first.render_mode
        self.single_observation_space = first.observation_space
        self.single_action_space = first.action_space
        self.observation_space = batch_space(first.observation_space, num_envs)
        self.action_space = batch_space(first.action_space, num_envs)
        self.seeds: tuple[int | None, ...] = (None,) * num_envs
        self._copy = copy
        self._workers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="visenv-samples")
        self._streams: dict[int, tuple[SampleStream, int]] = {}
        """Of each environment: its stream, and which of the stream's readers it is."""
        self._observations: Observation = {
            name: np.stack([zeros] * num_envs) for name, zeros in first.empty_observation().items()
        }
        self._steps = np.zeros(num_envs, np.int64)
        self._over = np.zeros(num_envs, np.bool_)

    # --- the Gymnasium interface --------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin episodes.

        Args:
            seed: an int is spawned into one seed a group, a list is used as given, None goes on as it is.
            options: ``reset_mask`` (num_envs,) bool says whose episodes begin (all of them if left out); ``index`` and
                ``sample_id`` ask for samples, one value for all or one for each environment.

        Raises:
            InvalidData: if seed or options are not as above.
            DatasetError: if there is no such sample.
        """
        options = dict(options or {})
        mask = self._mask(options.pop("reset_mask", None))
        choices = [self._choice(options, index) for index in range(self.num_envs)]
        self._seed(seed)
        chosen = [env.choose(choice) if on else None for env, choice, on in zip(self.envs, choices, mask, strict=True)]
        infos: dict[str, Any] = {}
        for index in np.flatnonzero(mask).tolist():
            self._begin(index, chosen[index])
            infos = self._add_info(infos, self.envs[index].info(), index)
        return self._returned(), infos

    def step(self, actions: Any) -> tuple[Observation, NDArray[np.float64], BoolArray, BoolArray, dict[str, Any]]:
        """Take one turn in every environment.

        Args:
            actions: one for each environment, as ``VisionToolEnv.step`` takes it; an array in discrete mode.

        Raises:
            InvalidData: if there are not as many actions as environments.
            EpisodeOver: if an episode has ended that nobody has reset (``autoreset_mode="disabled"``).
        """
        actions = list(actions)
        if len(actions) != self.num_envs:
            raise InvalidData(f"Expected {self.num_envs} actions, one for each environment, but got {len(actions)}.")
        if self.autoreset_mode is AutoresetMode.DISABLED and self._over.any():
            ended = np.flatnonzero(self._over).tolist()
            raise EpisodeOver(
                f"The episodes of the environments {ended} have ended: reset them (options['reset_mask'])."
            )
        fresh = self._over.copy() if self.autoreset_mode is AutoresetMode.NEXT_STEP else np.zeros_like(self._over)
        acting = np.flatnonzero(~fresh).tolist()
        results = drive_all([self.envs[index].stepping(actions[index]) for index in acting], self.pool)
        rewards = np.zeros(self.num_envs, np.float64)
        terminations, truncations = np.zeros_like(self._over), np.zeros_like(self._over)
        for index, result in zip(acting, results, strict=True):
            self.envs[index].finish(result)
            self._steps[index] += 1
            late = self.max_episode_steps is not None and self._steps[index] >= self.max_episode_steps
            rewards[index], terminations[index] = result.reward, result.terminated
            truncations[index] = result.truncated or late
        self._over = terminations | truncations
        infos: dict[str, Any] = {}
        for index, env in enumerate(self.envs):
            if fresh[index]:
                self._begin(index, None)
            elif self._over[index] and self.autoreset_mode is AutoresetMode.SAME_STEP:
                final = {"final_obs": env.observation(), "final_info": env.info()}
                infos = self._add_info(infos, final, index)
                self._begin(index, None)
            else:
                env.observation(self._row(index))
            infos = self._add_info(infos, env.info(), index)
        return self._returned(), rewards, terminations, truncations, infos

    def render(self) -> tuple[Any, ...] | None:
        """One frame an environment; see ``VisionToolEnv.render``."""
        return None if self.render_mode is None else tuple(env.render() for env in self.envs)

    def close_extras(self, **kwargs: Any) -> None:
        """Stop drawing samples."""
        self._workers.shutdown(wait=True, cancel_futures=True)

    # --- beyond Gymnasium ---------------------------------------------------------------------------------------------

    @property
    def episodes(self) -> list[Any]:
        """The episode of each environment."""
        return [env.episode for env in self.envs]

    def action_masks(self) -> BoolArray:
        """(num_envs, sum of the parts) bool: see ``VisionToolEnv.action_masks``."""
        return np.stack([env.action_masks() for env in self.envs])

    def _begin(self, index: int, sample: Sample | None) -> None:
        stream, reader = self._streams[index]
        self.envs[index].begin(stream.take(reader) if sample is None else sample)
        self.envs[index].observation(self._row(index))
        self._steps[index], self._over[index] = 0, False

    def _row(self, index: int) -> Observation:
        return {name: values[index] for name, values in self._observations.items()}

    def _returned(self) -> Observation:
        return copy.deepcopy(self._observations) if self._copy else self._observations

    def _seed(self, seed: int | Sequence[int | None] | None) -> None:
        """Give environments the streams of their seeds; those whose seed is None keep the one that they have."""
        given = self._seeds(seed)
        renewed = [index for index in range(self.num_envs) if given[index] is not None or not self._streams]
        readers: dict[tuple[int, int | None], list[int]] = {}
        for index in renewed:
            readers.setdefault((index // self.group_size, given[index]), []).append(index)
        for (_, value), indices in readers.items():
            stream = SampleStream(self.envs[0].dataset, value, len(indices), self._workers)
            self._streams |= {index: (stream, reader) for reader, index in enumerate(indices)}
        self.seeds = tuple(old if new is None else new for old, new in zip(self.seeds, given, strict=True))

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, (int, np.integer)):
            groups = np.random.SeedSequence(int(seed)).spawn(self.num_envs // self.group_size)
            spawned = [int(child.generate_state(1, np.uint32)[0]) for child in groups]
            return [spawned[index // self.group_size] for index in range(self.num_envs)]
        given = list(seed)
        if len(given) != self.num_envs:
            raise InvalidData(f"Expected a seed, or {self.num_envs} of them, but got {len(given)}.")
        return given

    def _mask(self, mask: Any) -> BoolArray:
        if mask is None:
            return np.ones(self.num_envs, np.bool_)
        if (
            not isinstance(mask, np.ndarray)
            or mask.shape != (self.num_envs,)
            or mask.dtype != np.bool_
            or not mask.any()
        ):
            expected = f"Expected options['reset_mask'] to be a bool array of shape ({self.num_envs},), True somewhere"
            raise InvalidData(f"{expected}, but got {mask!r:.80}.")
        if not self._streams and not mask.all():
            raise InvalidData(
                "Expected the first reset to begin every episode, but got a reset_mask that leaves some out."
            )
        return mask

    def _choice(self, options: Mapping[str, Any], index: int) -> dict[str, Any]:
        """The options of one environment: its own value of each that comes as a list or an array."""
        own = {}
        for name, value in options.items():
            several = name in PER_ENV_OPTIONS and isinstance(value, (list, tuple, np.ndarray))
            if several and len(value) != self.num_envs:
                raise InvalidData(f"Expected {self.num_envs} values of options[{name!r}], but got {len(value)}.")
            own[name] = value[index] if several else value
        return own

    def _add_info(self, vector_infos: dict[str, Any], env_info: dict[str, Any], env_num: int) -> dict[str, Any]:
        """Stack infos as Gymnasium does, but keep whole what is None in one episode and a dict in another."""
        whole = {name: env_info[name] for name in ("error", "outcome", "tool") if name in env_info}
        for name, value in whole.items():
            values = vector_infos.setdefault(name, np.full(self.num_envs, None, dtype=object))
            there = vector_infos.setdefault(f"_{name}", np.zeros(self.num_envs, dtype=np.bool_))
            values[env_num], there[env_num] = value, True
        rest = {name: value for name, value in env_info.items() if name not in whole}
        return super()._add_info(vector_infos, rest, env_num)


def _autoreset_mode(value: str | AutoresetMode) -> AutoresetMode:
    names = {mode.name.lower(): mode for mode in AutoresetMode}
    if isinstance(value, AutoresetMode):
        return value
    if value not in names:
        raise InvalidData(f"Expected autoreset_mode to be one of {', '.join(map(repr, names))}, but got {value!r}.")
    return names[value]
