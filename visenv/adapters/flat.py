"""Environments without ``OneOf`` and ``Text`` spaces, which most trainers of arrays cannot take, and with action masks.

``OneOf`` becomes a ``Dict`` of ``tool`` and the arguments of every tool, of which only those of the chosen one count;
a ``Text`` becomes a ``MultiDiscrete`` of characters, 0 for none. What is observed gets ``action_mask``.

Example:
    >>> import gymnasium as gym
    >>> env = FlatEnv(gym.make("VisHarness/RefSeg-v0", experts="oracle", split="val", obs="features"))
    >>> sorted(env.action_space["PhraseToBoxMask"]), env.action_space["Answer"]["text"].shape
    (['images', 'phrase'], (256,))
    >>> observation, _ = env.reset(options={"index": 0})
    >>> observation["action_mask"].tolist()[:7]
    [1, 1, 0, 1, 1, 0, 1]
    >>> action = env.flat_action({"name": "Answer", "arguments": {"text": "Nothing."}})
    >>> env.step(action)[4]["outcome"]["answer"]
    'Nothing.'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorWrapper
from gymnasium.vector.utils import batch_space, iterate

from visenv.actions import discrete_masks
from visenv.adapters.elements import structured_arguments
from visenv.adapters.padding import Padding, pad_view
from visenv.env import VisionToolEnv
from visenv.errors import InvalidData
from visenv.observation import Observation
from visenv.spaces import SLOTS
from visenv.types import Answer, Malformed, ToolCall
from visenv.vector import VisionToolVectorEnv
from visenv.wrappers.text import vision_env

TOOL, ANSWER, MASK = "tool", "Answer", "action_mask"


def flat_space(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """A space without ``Text``, and whose ``Discrete`` parts begin at 0.

    Example:
        >>> flat_space(spaces.Dict({"n": spaces.Discrete(3, start=5), "word": spaces.Text(2, charset="ab")}))
        Dict('n': Discrete(3), 'word': MultiDiscrete([3 3]))
    """
    if isinstance(space, spaces.Dict):
        return spaces.Dict({name: flat_space(part) for name, part in space.spaces.items()})
    if isinstance(space, spaces.Text):
        return spaces.MultiDiscrete([len(space.character_list) + 1] * space.max_length)
    return spaces.Discrete(int(space.n)) if isinstance(space, spaces.Discrete) else space


def to_flat(space: spaces.Space[Any], value: Any) -> Any:
    """An element of a space as one of ``flat_space(space)``.

    Raises:
        InvalidData: if a text is too long for the space, or has a character that it lacks; or a number is none of its.
    """
    if isinstance(space, spaces.Dict):
        return {name: to_flat(part, value[name]) for name, part in space.spaces.items()}
    if isinstance(space, spaces.Text):
        if not isinstance(value, str):
            raise InvalidData(f"Expected a text, but got {value!r:.80}.")
        unknown = sorted({letter for letter in value if letter not in space.character_set})
        if len(value) > space.max_length or unknown:
            why = f"{unknown[0]!r} in it" if unknown else f"{len(value)} characters"
            raise InvalidData(f"Expected a text of at most {space.max_length} printable characters, but got {why}.")
        places = {letter: place for place, letter in enumerate(space.character_list, start=1)}
        row = np.zeros(space.max_length, np.int64)
        row[: len(value)] = [places[letter] for letter in value]
        return row
    if isinstance(space, spaces.Discrete):
        if int(value) != value or not 0 <= value - space.start < space.n:
            last = space.start + space.n - 1
            raise InvalidData(f"Expected a whole number from {space.start} to {last}, but got {value!r:.80}.")
        return np.int64(value - space.start)
    return np.asarray(value, space.dtype)


def from_flat(space: spaces.Space[Any], value: Any) -> Any:
    """An element of ``flat_space(space)`` as one of the space.

    Raises:
        Exception: if the value is none (``TypeError``, ``ValueError``, ``KeyError`` or ``IndexError``).
    """
    if isinstance(space, spaces.Dict):
        return {name: from_flat(part, value[name]) for name, part in space.spaces.items()}
    if isinstance(space, spaces.Text):
        places = np.asarray(value, np.int64)
        ends = np.flatnonzero(places == 0)
        letters = space.character_list
        if places.ndim != 1 or places.min(initial=0) < 0:
            raise ValueError("a text is a row of numbers of at least 0")
        return "".join(letters[place - 1] for place in places[: ends[0] if ends.size else None].tolist())
    return int(value) + int(space.start) if isinstance(space, spaces.Discrete) else np.asarray(value, space.dtype)


class FlatView:
    """How one environment looks to a trainer of arrays.

    Args:
        env: which.
        padding: sizes of arrays that hold the pictures and texts in view, to be observed instead of numbers; None to
            leave the observation as it is.
        observed: the space of what is observed as it is.

    Raises:
        InvalidData: if that is no ``Dict``.
    """

    def __init__(self, env: VisionToolEnv, padding: Padding | None, observed: spaces.Space[Any]) -> None:
        self.padding, self._specs = padding, env.specs
        self.tools = (*(spec.name for spec in self._specs), ANSWER)
        space: spaces.Space[Any] = env.action_space
        self._members: dict[str, spaces.Space[Any]] = {}
        self._text = space if isinstance(space, spaces.Text) else None
        if isinstance(space, spaces.OneOf):
            self._members = dict(zip(self.tools, space.spaces, strict=True))
            tools = {name: flat_space(member) for name, member in self._members.items()}
            self.action_space: spaces.Space[Any] = spaces.Dict({TOOL: spaces.Discrete(len(self.tools)), **tools})
            self._mask = [len(self.tools), SLOTS]
        else:
            self.action_space = flat_space(space)
            self._mask = space.nvec.tolist() if isinstance(space, spaces.MultiDiscrete) else []
        inner = observed if padding is None else padding.space()
        if not isinstance(inner, spaces.Dict):
            raise InvalidData(f"Expected an environment whose observation is a Dict, but got {inner!r:.80}.")
        own = {MASK: spaces.Box(0, 1, (sum(self._mask),), np.uint8)} if self._mask else {}
        self.observation_space = spaces.Dict({**inner.spaces, **own})

    def observation(self, env: VisionToolEnv, observation: Observation) -> Observation:
        """What is observed."""
        seen: Observation = {**observation} if self.padding is None else {**pad_view(env, self.padding).arrays()}
        return {**seen, **{name: values[0] for name, values in self.masks([env]).items()}}

    def masks(self, envs: Sequence[VisionToolEnv]) -> Observation:
        """The masks of some environments under their name; nothing where there are none."""
        if not self._mask:
            return {}
        return {MASK: np.stack([discrete_masks(self._specs, self._mask, env.episode) for env in envs]).astype(np.uint8)}

    def action(self, action: Any) -> Any:
        """A flat action as the environment takes it; others are left as they are, for it to judge."""
        given_elsewhere = isinstance(action, (str, bytes, ToolCall, Answer, Malformed))
        if given_elsewhere or (isinstance(action, Mapping) and TOOL not in action):
            return action
        try:
            if self._members:
                index = int(action[TOOL])
                name = self.tools[index] if index >= 0 else ""
                return index, from_flat(self._members[name], action[name])
            return action if self._text is None else from_flat(self._text, action)
        except (TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
            return Malformed("bad_action", f"Expected an element of the flat action space: {error}.")

    def flat_text(self, text: Any) -> Any:
        """A model's raw turn as an element of the flat action space of text mode.

        Raises:
            InvalidData: if the space has no such element.
        """
        if not isinstance(self._text, spaces.Text) or not isinstance(text, str):
            raise InvalidData(f"Expected a text, in text mode, but got {text!r:.80}.")
        return to_flat(self._text, text)

    def flat_action(self, env: VisionToolEnv, action: Mapping[str, Any]) -> Any:
        """A call or an answer as an element of the flat action space.

        Args:
            env: with an episode, whose image slots are meant.
            action: ``{"name": …, "arguments": {…}}``; of the other tools, every argument is zero.

        Raises:
            InvalidData: if the space has no such element: no such tool, other arguments than the tool's, an image
                without a slot, a text too long.
        """
        name, given = action.get("name"), dict(action.get("arguments") or {})
        if name not in self._members:
            raise InvalidData(f"Expected the name of a tool ({', '.join(self._members) or 'none here'}), got {name!r}.")
        values = {tool: _first(space) for tool, space in self.action_space.spaces.items()}  # type: ignore[attr-defined]
        values[TOOL] = np.int64(self.tools.index(name))
        member = self._members[name]
        assert isinstance(member, spaces.Dict)
        if name == ANSWER:
            return {**values, name: to_flat(member, {"text": str(given.get("text", ""))})}
        (spec,) = (spec for spec in self._specs if spec.name == name)
        arguments = structured_arguments(spec, given, env.episode)
        try:
            values[name] = to_flat(member, arguments)
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidData(f"The action space has no element for {name} with {given!r:.200}: {error}") from error
        if not self.action_space.contains(values):
            raise InvalidData(f"The action space has no element for {name} with {given!r:.200}.")
        return values


def _first(space: spaces.Space[Any]) -> Any:
    """The element of a flat space that is zero."""
    if isinstance(space, spaces.Dict):
        return {name: _first(part) for name, part in space.spaces.items()}
    return np.int64(0) if isinstance(space, spaces.Discrete) else np.zeros(space.shape or (), space.dtype)


class FlatEnv(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """One environment, flat; see the module.

    In discrete mode the action space stays as it is; in text mode it is one ``MultiDiscrete`` of characters. ``step``
    still takes whatever the environment takes.

    ``tools`` are the names that the number ``tool`` stands for, the answer last.

    Args:
        env: an environment of visenv, wrapped or not.
        padding: of the pictures and texts in view, to be observed instead of numbers: ``{"pictures": 4, "side": 224,
            "text": 2048}``.

    Raises:
        InvalidData: if it is another kind of environment.
    """

    def __init__(self, env: gym.Env[Any, Any], padding: Padding | Mapping[str, int] | None = None) -> None:
        sizes = Padding.of(padding)
        gym.utils.RecordConstructorArgs.__init__(self, padding=None if sizes is None else vars(sizes))
        super().__init__(env)
        self.vision = vision_env(env)
        self._view = FlatView(self.vision, sizes, env.observation_space)
        self.tools = self._view.tools
        self.observation_space, self.action_space = self._view.observation_space, self._view.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._view.observation(self.vision, observation), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one turn."""
        observation, reward, terminated, truncated, info = self.env.step(self._view.action(action))
        return self._view.observation(self.vision, observation), float(reward), terminated, truncated, info

    def flat_action(self, action: Mapping[str, Any]) -> Any:
        """A call or an answer, ``{"name", "arguments"}``, as an element of the action space of structured mode.

        Raises:
            InvalidData: if the space has no such element.
        """
        return self._view.flat_action(self.vision, action)

    def flat_text(self, text: Any) -> Any:
        """A model's raw turn as an element of the action space of text mode.

        Raises:
            InvalidData: if the space has no such element: too long, or with characters that it lacks.
        """
        return self._view.flat_text(text)


class FlatVectorEnv(VectorWrapper):
    """Batched environments, flat; see the module.

    Args:
        envs: what ``gym.make_vec`` makes, with ``autoreset_mode`` ``"next_step"`` or ``"disabled"``.
        padding: as for ``FlatEnv``.

    Raises:
        InvalidData: if they are others.
    """

    def __init__(self, envs: Any, padding: Padding | Mapping[str, int] | None = None) -> None:
        super().__init__(envs)
        inner = envs.unwrapped
        if not isinstance(inner, VisionToolVectorEnv):
            raise InvalidData(f"Expected a VisionToolVectorEnv (gym.make_vec makes one), but got {envs!r:.80}.")
        if inner.autoreset_mode is AutoresetMode.SAME_STEP:
            raise InvalidData("Expected autoreset_mode 'next_step' or 'disabled', but got 'same_step'.")
        self.vision, self.autoreset_mode = inner, inner.autoreset_mode
        self._view = FlatView(inner.envs[0], Padding.of(padding), envs.single_observation_space)
        self.tools = self._view.tools
        self.single_observation_space, self.single_action_space = self._view.observation_space, self._view.action_space
        self.observation_space = batch_space(self.single_observation_space, inner.num_envs)
        self.action_space = batch_space(self.single_action_space, inner.num_envs)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes; see ``VisionToolVectorEnv.reset``."""
        observation, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        return self._observation(observation), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Take one turn everywhere.

        Args:
            actions: an element of the action space, or a sequence of one action an environment.
        """
        batched = isinstance(actions, Mapping) or (isinstance(actions, tuple) and isinstance(actions[0], Mapping))
        rows = list(iterate(self.action_space, actions)) if batched else list(actions)
        observation, rewards, terminated, truncated, infos = self.env.step([self._view.action(row) for row in rows])
        return self._observation(observation), rewards, terminated, truncated, infos

    def _observation(self, observation: Observation) -> Observation:
        if self._view.padding is None:
            masks = self._view.masks(self.vision.envs)
            return {**observation, **masks}
        rows = [self._view.observation(env, {}) for env in self.vision.envs]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
