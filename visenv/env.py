"""The Gymnasium environment: a view over one episode after another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from visenv.actions import discrete_action, discrete_masks, encode_discrete, structured_action
from visenv.datasets.base import Dataset
from visenv.datasets.making import make_dataset
from visenv.driving import drive
from visenv.episode import Episode, EpisodeConfig, EpisodeState, Reward, Stepping, StepResult
from visenv.errors import EpisodeOver, InvalidData
from visenv.experts_making import ExpertsLike, make_experts
from visenv.experts_pool import ExpertPool
from visenv.experts_workers import WorkerExpert, in_workers
from visenv.images import letterbox
from visenv.memory import MemoryPolicy, memory_policy, token_rule
from visenv.observation import Observation, empty_observation, observe, phrase_tokens
from visenv.protocol.prompt import JOB
from visenv.records import costs, error_record, outcome_record, tool_of
from visenv.registration import Entry
from visenv.registration import rewards as reward_registry
from visenv.rewards.metrics.base import update_all
from visenv.spaces import discrete_space, observation_space, phrase_candidates, structured_space, text_space
from visenv.tools.base import Tool
from visenv.tools.toolsets import make_toolset
from visenv.types import Action, Answer, BoolArray, IntArray, Malformed, Pixels, Sample, ToolCall

RENDER_SIDE = 512
"""Pixels of a side of rendered frames: the same for every picture, as videos need it."""
ACTION_MODES = ("structured", "text", "discrete")
OBSERVATIONS = ("full", "features")


class VisionToolEnv(gym.Env[Observation, Any]):
    """An agent calls vision tools over several turns to find, segment or count what a query asks for.

    The base of every environment id; each says what its task, data and metrics are, and all take these keywords.

    Args:
        dataset: a data set, or the name of one: ``"scenes"`` (generated), ``"photos"``, ``"reasonseg:/path"``, …
        split: ``"train"``, ``"val"`` or ``"test"``.
        difficulty: 0 to 3, of generated data.
        experts: the models behind the tools: ``"classical"``, ``"oracle"``, ``"noisy"``, experts, or a mapping from
            capability to any of these.
        toolset: a tool set's name, or tools.
        reward: a reward's name, also with numbers for its arguments (``"visharness:step_cost=0.02"``), or an object
            with ``turn`` and ``final``.
        max_turns: after which the episode ends.
        token_budget: visual tokens shown after which the episode ends; None for no limit.
        memory: ``"latest"``, ``"last_k:K"``, ``"token_budget:N"``, ``"keep_all"``, or a policy object.
        action_mode: ``"structured"``, ``"text"`` or ``"discrete"``; every mode also takes a ``ToolCall``, an ``Answer``
            or ``{"name": …, "arguments": {…}}``.
        obs: ``"full"``, or ``"features"`` to leave the pictures out.
        dialect: how text turns are written.
        vlm: the model family whose visual tokens are counted: ``"qwen3_vl"`` or ``"qwen2_5_vl"``.
        render_mode: ``"rgb_array"``, ``"human"`` (prints each turn) or None.
        expert_workers: how many processes run the experts; 0 to run them in this one. ``close`` ends them.
        expert_timeout: seconds that a process may take for its part of a batch of requests; what takes longer fails and
            ends its episode as invalid, and no other. None for no limit. It needs ``expert_workers``.
        show_inputs: whether the input images are shown with the task; if not, the agent knows their names alone.

    Raises:
        UnknownName: if a name is not registered; the message offers the nearest.
        InvalidData: if a value is out of range.
        DatasetError: if the data set has no such split or cannot be read.
    """

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": 2}
    family: ClassVar[str] = "reasonseg"
    """What kind of sample a data set is asked for; one of ``visenv.datasets.base.FAMILIES`` or ``QUESTIONS``."""
    job: ClassVar[str] = JOB
    """What a model is told of its work; ``{max_turns}`` in it stands for the number of turns."""
    own_experts: ClassVar[Mapping[str, ExpertsLike]] = {}
    """Who answers, by capability, what ``experts`` does not."""
    plans: ClassVar[Mapping[str, str]] = {}
    """Entry points of what the policies ``scripted``, ``single`` and ``oracle`` do here, where it is not what they do
    elsewhere: generators of actions, as ``visenv.policies.base.PlannedPolicy.plan``."""
    metric_names: ClassVar[tuple[str, ...]] = ()
    """Entry points of the metrics that this task's benchmark reports."""

    def __init__(
        self,
        dataset: str | Dataset = "scenes",
        split: str = "train",
        difficulty: int = 1,
        experts: ExpertsLike = "classical",
        toolset: str | Iterable[Tool | type] = "visharness",
        reward: str | Reward = "visharness",
        max_turns: int = 10,
        token_budget: int | None = None,
        memory: str | MemoryPolicy = "latest",
        action_mode: str = "structured",
        obs: str = "full",
        dialect: str = "qwen3_vl",
        vlm: str = "qwen3_vl",
        render_mode: str | None = None,
        expert_workers: int = 0,
        expert_timeout: float | None = None,
        show_inputs: bool = True,
    ) -> None:
        _one_of("action_mode", action_mode, ACTION_MODES)
        _one_of("obs", obs, OBSERVATIONS)
        _one_of("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        self.dataset = make_dataset(dataset, family=self.family, split=split, difficulty=difficulty)
        self.config = EpisodeConfig(
            tools=make_toolset(toolset),
            reward=make_reward(reward) if isinstance(reward, str) else reward,
            max_turns=max_turns,
            token_budget=token_budget,
            memory=memory_policy(memory),
            tokens=token_rule(vlm),
            dialect=dialect,
            job=self.job,
            show_inputs=show_inputs,
        )
        find = self.truth_source()
        given = make_experts(experts, find)
        for capability, value in self.own_experts.items():
            if capability not in given and any(capability in tool.spec.asks for tool in self.config.tools.values()):
                given[capability] = make_experts({capability: value}, find)[capability]
        self.pool = ExpertPool(in_workers(given, expert_workers, expert_timeout))
        used = self.pool.experts.values()
        self._workers = [each for each in used if isinstance(each, WorkerExpert) and each not in given.values()]
        """Those that this environment has brought into other processes, and ends there."""
        self.pool.check(capability for tool in self.config.tools.values() for capability in tool.spec.asks)
        self.action_mode = action_mode
        self.render_mode = render_mode
        self._pictures = obs == "full"
        self._specs = [tool.spec for tool in self.config.tools.values()]
        self.observation_space: gym.Space[Any] = observation_space(self._pictures, len(self._specs))
        spaces = {"structured": structured_space, "discrete": discrete_space}
        self.action_space = spaces[action_mode](self._specs) if action_mode in spaces else text_space()
        self._episode: Episode | None = None
        self._result: StepResult | None = None

    # --- the Gymnasium interface --------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: of the stream from which samples are drawn.
            options: ``{"index": 3}`` or ``{"sample_id": "…"}`` to ask for one sample; drawn by chance otherwise.

        Raises:
            InvalidData: if the options are not among these.
            DatasetError: if there is no such sample.
        """
        super().reset(seed=seed)
        self.begin(self.choose(options or {}) or self.dataset.draw(self.np_random))
        return self.observation(), self.info()

    def begin(self, sample: Sample) -> None:
        """Begin an episode on a sample: what ``reset`` does once it has one."""
        sample = self.seen(sample)
        self._episode = Episode(self.config, sample)
        self._result = None
        self.phrases = self.phrases_of(sample)
        self.answers = self.answers_of(sample)
        self._phrase_tokens = phrase_tokens(self.phrases)
        if self.render_mode == "human":
            print(f"\n{sample.sample_id}: {sample.query}")

    def seen(self, sample: Sample) -> Sample:
        """A sample as episodes get it: for environments that change something about what their data sets give."""
        return sample

    def truth_source(self) -> Callable[[str], Sample]:
        """What gives experts that read the truth a sample by its identifier: with the images that episodes have."""
        return self.dataset.find

    def phrases_of(self, sample: Sample) -> tuple[str, ...]:
        """The phrases that a discrete action can choose from, by number.

        Returns:
            ``PHRASES`` of them.
        """
        return phrase_candidates(sample.query, self.dataset.vocabulary)

    def answers_of(self, sample: Sample) -> tuple[str, ...]:
        """What a discrete action can answer: the number of its phrase chooses, counted modulo how many there are."""
        return ("done",)

    def prepare(self, sample: Sample) -> EpisodeState:
        """What an episode about a sample begins with, for drivers that prepare the next one while experts work.

        All that its first observation and its first request will ask for is worked out and kept. May run on another
        thread; ``begin(sample)`` and then ``episode.set_state(prepared)`` begin the episode.
        """
        sample = self.seen(sample)
        episode = Episode(self.config, sample)
        # The observation itself is of no use: pictures keep what was made small of them, and roots their digests.
        observe(episode, phrase_tokens([sample.query]), empty_observation(self._pictures, len(self._specs)))
        for image in episode.workspace.images.values():
            _ = image.provenance.key
        return episode.get_state()

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one turn.

        Args:
            action: an element of the action space, a ``ToolCall``, an ``Answer``, ``{"name", "arguments"}``, or in text
                mode a text or ``{"text", "finish_reason"}``, where the reason ``"length"`` says that the text was cut.
                A bad action is a turn that says what was wrong, never an exception.

        Raises:
            EpisodeOver: if the episode has ended, or none was begun.
        """
        result = self.finish(drive(self.stepping(action), self.pool))
        return self.observation(), result.reward, result.terminated, result.truncated, self.info()

    def stepping(self, action: Any) -> Stepping:
        """The first half of ``step``, for drivers of their own: the episode's step, which is to be sent results.

        Args:
            action: as ``step`` takes it.
        """
        reason = None
        if self.action_mode == "text" and isinstance(action, Mapping) and "text" in action:
            action, reason = action["text"], action.get("finish_reason")
        return self.episode.step(self.interpret(action), reason)

    def finish(self, result: StepResult) -> StepResult:
        """The second half of ``step``: takes note of what the episode's step came to, and returns it."""
        self._result = result
        if self.render_mode == "human":
            self._print(result)
        return result

    def observation(self, out: Observation | None = None) -> Observation:
        """What is observed now.

        Args:
            out: arrays to write into, of the shapes of the observation space; new ones if left out.
        """
        return observe(self.episode, self._phrase_tokens, out or self.empty_observation())

    def empty_observation(self) -> Observation:
        """Zeros in the shapes of the observation space."""
        return empty_observation(self._pictures, len(self._specs))

    def render(self) -> Pixels | None:
        """The newest picture with what was found on it, or at the end the final result, in a square frame.

        Returns:
            (512, 512, 3) uint8; None in ``human`` mode, which prints each turn as it is taken.
        """
        if self.render_mode != "rgb_array":
            return None
        return letterbox(self.episode.newest_picture().pixels, RENDER_SIDE)[0]

    def close(self) -> None:
        """End the processes of the experts; a later step starts them again."""
        for expert in self._workers:
            expert.close()

    # --- beyond Gymnasium ---------------------------------------------------------------------------------------------

    @property
    def episode(self) -> Episode:
        """The episode at hand.

        Raises:
            EpisodeOver: if none was begun.
        """
        if self._episode is None:
            raise EpisodeOver("There is no episode yet: call reset() first.")
        return self._episode

    @property
    def task(self) -> str:
        """What kind of task the episode at hand is: the family of its data."""
        return self.family

    @property
    def episode_metrics(self) -> tuple[str, ...]:
        """Entry points of the metrics that the episode at hand is measured by; some or all of ``metric_names``."""
        return self.metric_names

    @property
    def specs(self) -> list[Any]:
        """The tools' specifications, in the order of the action space."""
        return list(self._specs)

    def action_masks(self) -> BoolArray:
        """Which parts of a discrete action make sense now, as sb3-contrib's ``MaskablePPO`` asks.

        Raises:
            InvalidData: in another action mode than ``discrete``.
        """
        if not isinstance(self.action_space, gym.spaces.MultiDiscrete):
            raise InvalidData(f"Expected action_mode='discrete' for action_masks(), but this is {self.action_mode!r}.")
        return discrete_masks(self._specs, self.action_space.nvec.tolist(), self.episode)

    def interpret(self, action: Any) -> Action | Mapping[str, Any] | str | bytes:
        """An element of the action space, or anything else that ``step`` takes, as the episode takes it."""
        if isinstance(action, (ToolCall, Answer, Malformed, Mapping)):
            return action
        if self.action_mode == "text":
            if isinstance(action, (str, bytes)):
                return action
            return Malformed("bad_action", f"Expected the text of a turn, but got {type(action).__name__}.")
        if self.action_mode == "discrete":
            return discrete_action(action, self._specs, self.episode, self.phrases, self.answers)
        return structured_action(action, self._specs, self.episode)

    def encode(self, action: Action) -> tuple[IntArray, BoolArray] | None:
        """The discrete action that means a call or an answer, for whoever learns from policies by rule.

        Args:
            action: that could be taken now.

        Returns:
            (6,) int64 the element of ``action_space``, the first of several, and (6,) bool which of its parts matter;
            None if no discrete action means that.

        Raises:
            InvalidData: in another action mode than ``discrete``.

        Example:
            >>> import gymnasium as gym
            >>> from visenv.types import ToolCall
            >>> env = gym.make("VisHarness/RefSeg-v0", experts="oracle", action_mode="discrete").unwrapped
            >>> _ = env.reset(seed=0)
            >>> element, used = env.encode(ToolCall("PhraseToBoxMask", {"images": ["img_0"], "phrase": env.phrases[2]}))
            >>> element.tolist(), used.tolist()
            ([0, 0, 2, 0, 0, 0], [True, True, True, False, False, False])
        """
        if not isinstance(self.action_space, gym.spaces.MultiDiscrete):
            raise InvalidData(f"Expected action_mode='discrete' for encode(), but this is {self.action_mode!r}.")
        nvec = self.action_space.nvec.tolist()
        return encode_discrete(action, self._specs, nvec, self.episode, self.phrases, self.answers)

    def metrics(self) -> dict[str, float]:
        """The episode's own figures: its benchmark's metrics over this one sample, and what it cost."""
        outcome, truth = self.episode.outcome, self.episode.truth
        metrics = [Entry(name, name).load()() for name in self.episode_metrics]
        update_all(metrics, outcome, truth)
        figures = {name: value for metric in metrics for name, value in metric.compute().items()}
        # Over one sample, how many there were and which figures do not apply is nothing to record.
        figures = {
            name: value
            for name, value in figures.items()
            if not name.endswith(("_n", "_failed")) and not math.isnan(value)
        }
        return figures | costs(self.episode)

    def choose(self, options: Mapping[str, Any]) -> Sample | None:
        """The sample that options ask for; None where they leave it to chance.

        Args:
            options: as ``reset`` takes them.

        Raises:
            InvalidData: if they are not as ``reset`` takes them.
            DatasetError: if there is no such sample.
        """
        if not isinstance(options, Mapping) or set(options) - {"index", "sample_id"} or len(options) > 1:
            raise InvalidData(f"Expected options to hold 'index' or 'sample_id', but got {options!r:.80}.")
        if "sample_id" in options:
            if not isinstance(options["sample_id"], str):
                raise InvalidData(f"Expected options['sample_id'] to be a text, but got {options['sample_id']!r:.80}.")
            return self.dataset.find(options["sample_id"])
        if "index" not in options:
            return None
        index, size = options["index"], self.dataset.size
        whole = isinstance(index, (int, np.integer)) and not isinstance(index, bool)
        if not whole or index < 0 or (size is not None and index >= size):
            limit = "a whole number of at least 0" if size is None else f"a whole number from 0 to {size - 1}"
            raise InvalidData(f"Expected options['index'] to be {limit}, but got {index!r}.")
        return self.dataset.get(int(index))

    def info(self) -> dict[str, Any]:
        """What stands beside the observation now: plain JSON values."""
        episode, result = self.episode, self._result
        turn = result.turn if result else None
        info: dict[str, Any] = {
            "sample_id": episode.sample_id,
            "turn": episode.turns,
            "query": episode.query,
            "reply": turn.reply if turn else "",
            "tool": tool_of(turn.action) if turn else None,
            "error": error_record(turn.error) if turn else None,
            "reward_terms": dict(result.reward_terms) if result else {},
            "visual_tokens": episode.memory.tokens,
        }
        if episode.done:
            info |= {
                "metrics": self.metrics(),
                "termination": episode.outcome.termination,
                "outcome": outcome_record(episode.outcome),
            }
        if episode.problem is not None:
            info["invalid"] = episode.problem
        return info

    def _print(self, result: StepResult) -> None:
        action = result.turn.action
        arguments = dict(action.arguments) if isinstance(action, ToolCall) else getattr(action, "text", "")
        print(f"[{result.turn.index}] {tool_of(action) or 'malformed'} {arguments}")
        print(f"    {result.turn.reply.rstrip()}\n    reward {result.reward:+.3f}")


def make_reward(text: str) -> Reward:
    """A reward from its name, and numbers for its arguments.

    Raises:
        UnknownName: if no reward has that name.
        InvalidData: if the arguments are not its own.

    Example:
        >>> make_reward("visharness:step_cost=0.02")
        VisHarnessReward(step_cost=0.02)
    """
    name, _, written = text.partition(":")
    made = reward_registry.load(name)
    try:
        pairs = [part.split("=") for part in written.split(",") if part.strip()]
        return made(**{key.strip(): float(value) for key, value in pairs})
    except (TypeError, ValueError) as error:
        raise InvalidData(f"Expected reward {text!r} as {name}:argument=number,…, but {error}.") from error


def _one_of(name: str, value: object, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        raise InvalidData(f"Expected {name} to be one of {', '.join(map(repr, choices))}, but got {value!r}.")
