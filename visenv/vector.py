"""Many episodes at once, stepped together, so that experts are called in batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, TypeGuard

import numpy as np
from gymnasium.error import ClosedEnvironmentError
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from visenv.driving import drive_all
from visenv.env import VisionToolEnv
from visenv.episode import EpisodeState, StepResult
from visenv.errors import EpisodeOver, InvalidData
from visenv.observation import Observation
from visenv.sample_process import SampleProcess
from visenv.sample_streams import SampleStream
from visenv.types import BoolArray, Sample

PER_ENV_OPTIONS = ("index", "sample_id")
WHOLE = frozenset({"error", "outcome", "tool", "final_obs"})
"""Keys of infos whose values are not stacked part by part."""


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
        # First what closing needs: Gymnasium closes also what could not be made.
        self._workers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="visenv-samples")
        self.envs: list[VisionToolEnv] = []
        self._samples: SampleProcess | None = None
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
        shared = keywords | {
            "dataset": first.dataset,
            "experts": first.pool.experts,
            "toolset": tuple(first.config.tools.values()),
        }
        self.envs = [first, *(self.env_class(**shared) for _ in range(num_envs - 1))]
        self.pool = first.pool
        self.render_mode = first.render_mode
        self.single_observation_space = first.observation_space
        self.single_action_space = first.action_space
        self.observation_space = batch_space(first.observation_space, num_envs)
        self.action_space = batch_space(first.action_space, num_envs)
        self.seeds: tuple[int | None, ...] = (None,) * num_envs
        self._copy = copy
        # With processes for experts, one more draws samples: on a thread of this one it would hold the others up.
        self._samples = SampleProcess(first.dataset) if keywords.get("expert_workers") else None
        self._streams: dict[int, SampleStream] = {}
        """Of each environment, once it was reset."""
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
            options: ``reset_mask`` (num_envs,) bool says whose episodes begin (all of them if left out), and who gets a
                new seed; ``index`` and ``sample_id`` ask for samples, one value for all or one for each environment.
                Who is given a sample that it asked for keeps its place in its stream.

        Raises:
            InvalidData: if seed or options are not as above.
            DatasetError: if there is no such sample, or one cannot be read; no episode has begun.
            ClosedEnvironmentError: after ``close``.
        """
        self._check_open()
        options = dict(options or {})
        mask = self._mask(options.pop("reset_mask", None))
        seeds = self.spawn_seeds(seed)
        begun = np.flatnonzero(mask).tolist()
        asked = {index: self.envs[index].choose(self._choice(options, index)) for index in begun}
        states = {index: self.envs[index].prepare(sample) for index, sample in asked.items() if sample is not None}
        self._seed({index: seeds[index] for index in begun})
        states |= self._draw(index for index in begun if index not in states)
        infos: dict[str, Any] = {}
        for index in begun:
            self._begin(index, states[index])
            infos = self._add_info(infos, self.envs[index].info(), index)
        return self._returned(), infos

    def step(self, actions: Any) -> tuple[Observation, NDArray[np.float64], BoolArray, BoolArray, dict[str, Any]]:
        """Take one turn in every environment.

        A step that raises has not been taken: every episode is where it was. A sample that cannot be drawn is passed,
        so that the same step can be tried again.

        Args:
            actions: one for each environment, as ``VisionToolEnv.step`` takes it; an array in discrete mode.

        Raises:
            InvalidData: if there are not as many actions as environments.
            EpisodeOver: if nothing was reset yet, or an episode has ended that nobody has reset
                (``autoreset_mode="disabled"``).
            DatasetError: if an episode is to begin, and its sample cannot be read.
            ClosedEnvironmentError: after ``close``.
        """
        rewards, terminations, truncations, parts = self.advance(actions)
        infos: dict[str, Any] = {}
        for index, part in enumerate(parts):
            infos = self._add_info(infos, part, index)
        return self._returned(), rewards, terminations, truncations, infos

    def advance(self, actions: Any) -> tuple[NDArray[np.float64], BoolArray, BoolArray, list[dict[str, Any]]]:
        """What ``step`` does, for drivers that want one info an environment, and the observations where they lie.

        Args:
            actions: as ``step`` takes them.

        Returns:
            Rewards, terminations, truncations, and the infos; where an episode has ended and another one has begun at
            once, its info holds ``final_obs`` and ``final_info``. The observations are in ``observations``.

        Raises:
            Exception: as ``step``.
        """
        self._check_open()
        one = isinstance(actions, (Mapping, str, bytes)) or not isinstance(actions, Iterable)
        actions = [actions] if one else list(actions)
        if one or len(actions) != self.num_envs:
            got = type(actions[0]).__name__ if one else len(actions)
            raise InvalidData(f"Expected {self.num_envs} actions, one for each environment, but got {got}.")
        if self.autoreset_mode is AutoresetMode.DISABLED and self._over.any():
            ended = np.flatnonzero(self._over).tolist()
            raise EpisodeOver(
                f"The episodes of the environments {ended} have ended: reset them (options['reset_mask'])."
            )
        fresh = self._over.copy() if self.autoreset_mode is AutoresetMode.NEXT_STEP else np.zeros_like(self._over)
        acting = np.flatnonzero(~fresh).tolist()
        rewards = np.zeros(self.num_envs, np.float64)
        terminations, truncations = np.zeros_like(self._over), np.zeros_like(self._over)
        before = [self.envs[index].episode.get_state() for index in acting]

        def observe(place: int, _: StepResult) -> None:
            # While others wait for experts; what it takes is remembered by the episode.
            self.envs[acting[place]].observation(self._row(acting[place]))

        try:
            results = drive_all([self.envs[index].stepping(actions[index]) for index in acting], self.pool, observe)
            for index, result in zip(acting, results, strict=True):
                late = self._steps[index] + 1 == self.max_episode_steps
                rewards[index], terminations[index] = result.reward, result.terminated
                truncations[index] = result.truncated or late
            over = terminations | truncations
            due = over if self.autoreset_mode is AutoresetMode.SAME_STEP else fresh
            states = self._draw(np.flatnonzero(due).tolist())
        except BaseException:
            for index, state in zip(acting, before, strict=True):
                self.envs[index].episode.set_state(state)
            for index in acting:
                self.envs[index].observation(self._row(index))
            raise
        for index, result in zip(acting, results, strict=True):
            self.envs[index].finish(result)
        self._steps[acting] += 1
        self._over = over | fresh
        infos: list[dict[str, Any]] = []
        for index, env in enumerate(self.envs):
            final: dict[str, Any] = {}
            if index in states:
                if over[index]:
                    final = {"final_obs": env.observation(), "final_info": env.info()}
                self._begin(index, states[index])
            infos.append(final | env.info())
        return rewards, terminations, truncations, infos

    def render(self) -> tuple[Any, ...] | None:
        """One frame an environment; see ``VisionToolEnv.render``."""
        return None if self.render_mode is None else tuple(env.render() for env in self.envs)

    def close_extras(self, **kwargs: Any) -> None:
        """Stop drawing samples."""
        self._workers.shutdown(wait=True, cancel_futures=True)
        if self._samples is not None:
            self._samples.close()
        for env in self.envs:
            env.close()

    # --- beyond Gymnasium ---------------------------------------------------------------------------------------------

    @property
    def observations(self) -> Observation:
        """The observations as they lie in memory, (num_envs, …) each: the next step writes over them."""
        return self._observations

    @property
    def episodes(self) -> list[Any]:
        """The episode of each environment."""
        return [env.episode for env in self.envs]

    def action_masks(self) -> BoolArray:
        """(num_envs, sum of the parts) bool: see ``VisionToolEnv.action_masks``."""
        return np.stack([env.action_masks() for env in self.envs])

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError("The environments are closed: make new ones.")

    def _draw(self, indices: Iterable[int]) -> dict[int, EpisodeState]:
        """What comes next in some environments; where one cannot be drawn, the others keep theirs for another time."""
        states = {index: self._streams[index].peek(index) for index in indices}
        for index in states:
            self._streams[index].advance(index)
        return states

    def _begin(self, index: int, state: EpisodeState) -> None:
        self.envs[index].begin(state.sample)
        self.envs[index].episode.set_state(state)
        self.envs[index].observation(self._row(index))
        self._steps[index], self._over[index] = 0, False

    def _sampling(self, rng: np.random.Generator) -> tuple[Sample, np.random.Generator]:
        """A sample by chance, and the generator as it is after that."""
        return (self.envs[0].dataset.draw(rng), rng) if self._samples is None else self._samples.draw(rng)

    def _prepare(self, sample: Sample) -> EpisodeState:
        """What an episode begins with, whose images experts may look at until then."""
        state = self.envs[0].prepare(sample)
        self.pool.foresee([state.workspace.view(name, sample.sample_id) for name in state.workspace.images])
        return state

    def _row(self, index: int) -> Observation:
        return {name: values[index] for name, values in self._observations.items()}

    def _returned(self) -> Observation:
        if not self._copy:
            return self._observations
        return {name: values.copy() for name, values in self._observations.items()}

    def _seed(self, seeds: Mapping[int, int | None]) -> None:
        """Give environments the streams of their seeds; those whose seed is None keep the one that they have."""
        readers: dict[tuple[int, int | None], list[int]] = {}
        for index, seed in seeds.items():
            if seed is not None or index not in self._streams:
                readers.setdefault((index // self.group_size, seed), []).append(index)
        for (_, seed), indices in readers.items():
            for index in indices:
                if index in self._streams:
                    self._streams[index].leave(index)
            stream = SampleStream(self._sampling, self._prepare, seed, indices, self._workers)
            self._streams |= dict.fromkeys(indices, stream)
        self.seeds = tuple(old if (new := seeds.get(index)) is None else new for index, old in enumerate(self.seeds))

    def spawn_seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        """The seed that ``reset(seed=seed)`` gives each environment: one a group, spawned from a whole number."""
        if seed is None:
            return [None] * self.num_envs
        if _is_seed(seed):
            groups = np.random.SeedSequence(seed).spawn(self.num_envs // self.group_size)
            spawned = [int(child.generate_state(1, np.uint32)[0]) for child in groups]
            return [spawned[index // self.group_size] for index in range(self.num_envs)]
        given: list[Any] = list(seed) if isinstance(seed, (list, tuple, np.ndarray)) else [seed]
        expected = f"Expected a seed (a whole number of at least 0), or {self.num_envs} of them or None"
        if len(given) != self.num_envs or not all(value is None or _is_seed(value) for value in given):
            raise InvalidData(f"{expected}, but got {seed!r:.80}.")
        return [None if value is None else int(value) for value in given]

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
        for key, value in env_info.items():
            stacked = vector_infos.get(key)
            if isinstance(value, dict) and key not in WHOLE:
                vector_infos[key] = self._add_info({} if stacked is None else stacked, value, env_num)
            else:
                if stacked is None:
                    stacked = vector_infos[key] = _empty_stack(self.num_envs, value)
                elif isinstance(value, float) and stacked.dtype.kind in "bi":
                    # The first value decides the kind of an array: a fraction after a whole number would be cut off.
                    stacked = vector_infos[key] = stacked.astype(np.float64)
                stacked[env_num] = value
            there = vector_infos.get(f"_{key}")
            if there is None:
                there = vector_infos[f"_{key}"] = np.zeros(self.num_envs, dtype=np.bool_)
            there[env_num] = True
        return vector_infos


def _empty_stack(count: int, value: object) -> NDArray[Any]:
    """Where the values of one key of so many infos are gathered, if this is the first."""
    if type(value) in (bool, int, float) or isinstance(value, np.number):
        return np.zeros(count, dtype=type(value))
    if isinstance(value, np.ndarray):
        return np.zeros((count, *value.shape), dtype=value.dtype)
    return np.full(count, None, dtype=object)


def _is_seed(value: object) -> TypeGuard[int]:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= 0


def _autoreset_mode(value: str | AutoresetMode) -> AutoresetMode:
    for mode in AutoresetMode:
        if value in (mode, mode.value, mode.name.lower()):
            return mode
    names = ", ".join(repr(mode.name.lower()) for mode in AutoresetMode)
    raise InvalidData(f"Expected autoreset_mode to be one of {names}, but got {value!r}.")
