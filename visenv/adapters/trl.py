"""TRL: environments for ``GRPOTrainer(environment_factory=…)``, with every tool as a method.

TRL builds one instance a rollout and calls its methods as the model asks for them. Three things are as TRL has them,
and the adapter makes the best of each:

- A picture that was shown stays in the model's context, so nothing is archived: ``memory`` is ``"keep_all"``.
- An episode has no end there. After its own end every tool says that it is over and changes nothing; a model that stops
  calling tools before is scored as if at the turn limit, since its last text does not reach the environment. An answer
  is the tool ``Answer``.
- A tool that does not exist is refused by TRL itself: that costs no turn here.

Example:
    >>> from visenv.adapters.trl import environment_class
    >>> Environment = environment_class("VisHarness/RefSeg-v0", split="val", experts="oracle")
    >>> env = Environment()
    >>> task = env.reset(index=0)
    >>> [block["type"] for block in task]
    ['text', 'text', 'image']
    >>> _ = env.PhraseToBoxMask(images=["img_0"], phrase="thing")
    >>> _ = env.MergeBoxMask(images=["img_0"])
    >>> env.Answer(text="Here.")[0]["text"], env.get_reward()
    ('The episode has ended: answer.', 5.0)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from visenv.adapters.blocks import with_pillow
from visenv.adapters.calls import written_call
from visenv.adapters.making import Shared, make_env
from visenv.adapters.rows import first_samples, row_options
from visenv.env import VisionToolEnv
from visenv.errors import MissingDependency
from visenv.protocol.prompt import JOB
from visenv.protocol.schema import ANSWER_TOOL
from visenv.protocol.signatures import as_method

if TYPE_CHECKING:
    from datasets import Dataset

Blocks = list[dict[str, Any]]
RETURNS = "Text and pictures: what the tool found or made, or what was wrong with the call."
FINISHED = "The episode has finished: nothing more can be done in it."


def environment_class(env_id: str, *, owns_reward: bool = True, **keywords: Any) -> type:
    """A class for ``GRPOTrainer(environment_factory=…)``: ``reset``, one method a tool, and ``get_reward``.

    ``reset(**row)`` begins the episode about the sample that the row of the data set names (``sample_id`` or ``index``;
    by chance if it names none) and returns the task as content blocks, which TRL appends to the last message.

    Args:
        env_id: as ``gym.make`` takes it.
        owns_reward: whether there is a ``get_reward``; leave it out to use ``reward_funcs()`` in its place.
        **keywords: of the environment.

    Raises:
        VisenvError: as ``gym.make``: data, weights and devices are checked now.
    """
    settings = {"memory": "keep_all", "obs": "features", **keywords, "action_mode": "text"}
    shared = Shared(env_id, settings)
    members: dict[str, Any] = {
        "__doc__": f"{env_id} for TRL's GRPOTrainer.",
        "__init__": _init_of(shared),
        "reset": _reset,
        **{spec.name: as_method(spec, _call, RETURNS) for spec in shared.specs},
    }
    if owns_reward:
        members["get_reward"] = _reward
    name = re.sub(r"-v\d+$|\W", "", env_id.rpartition("/")[2])
    return type(name or "Environment", (_Base,), members)


class _Base:
    """What TRL does not see of an environment: only names with an underscore, since every other would be a tool."""

    _env: VisionToolEnv
    _total: float


def _init_of(shared: Shared) -> Callable[[Any], None]:
    def init(self: Any) -> None:
        self._env, self._total = shared.make(), 0.0

    return init


def _reset(self: _Base, **row: Any) -> Blocks:
    """Begin an episode about the sample of a row, and say what is asked."""
    self._env.reset(options=row_options(row))
    self._total = 0.0
    return with_pillow(self._env.episode.reply())


def _call(self: _Base, name: str, arguments: dict[str, Any]) -> Blocks:
    episode = self._env.episode
    if episode.done:
        return [{"type": "text", "text": FINISHED}]
    self._total += float(self._env.step(written_call(episode, name, arguments))[1])
    return with_pillow(episode.reply())


def _reward(self: _Base) -> float | None:
    """What the episode has paid; None if it is invalid, which TRL leaves out."""
    episode = self._env.episode
    if episode.problem is not None:
        return None
    if not episode.done:
        self._total += sum(episode.stop().values())
    return self._total


def reward_funcs() -> list[Callable[..., list[float | None]]]:
    """Reward functions for ``GRPOTrainer``: what each episode has paid, for classes without ``get_reward``.

    Here a model's last text, if it calls no tool, is its answer.
    """
    return [episode_reward]


def episode_reward(completions: list[Any], environments: list[Any], **_: Any) -> list[float | None]:
    """What the episodes have paid; None for an invalid one, which TRL leaves out.

    Args:
        completions: one a rollout: its messages.
        environments: one a rollout, of a class that ``environment_class`` made.
    """
    rewards = []
    for messages, environment in zip(completions, environments, strict=True):
        last = messages[-1] if isinstance(messages, list) and messages else {}
        text = _text(last.get("content")) if last.get("role") == "assistant" and not last.get("tool_calls") else ""
        if text and not environment._env.episode.done:
            _call(environment, ANSWER_TOOL.name, {"text": text})
        rewards.append(_reward(environment))
    return rewards


def _text(content: Any) -> str:
    if isinstance(content, list):
        content = "".join(block.get("text", "") for block in content if isinstance(block, Mapping))
    return content.strip() if isinstance(content, str) else ""


RULES = """\
You find, segment and count objects in images by calling the tools you are given, one a turn. The input image is \
img_0; a patch of NAME is NAME_rI_cJ (row and column from 1), an enlarged NAME is NAME_4x. A later result of the same \
kind on the same image replaces the earlier one. What counts is what was merged last: when it is right, or when there \
is nothing to find, call Answer. You have {max_turns} turns, and a call that cannot be carried out uses one up."""


def rules_of(env: VisionToolEnv) -> str:
    """What the model is told: where an environment has a job of its own, that, and how to end it."""
    rules = RULES if env.config.job == JOB else f"{env.config.job}\nWhen you are done, call Answer."
    return rules.replace("{max_turns}", str(env.config.max_turns))


def to_hf_dataset(env_id: str, *, size: int | None = None, **keywords: Any) -> Dataset:
    """A data set for TRL: a prompt and a sample's identifier a row; pictures stay where they are until ``reset``.

    Args:
        env_id: as ``gym.make`` takes it.
        size: how many samples, from the first; all of them if left out.
        **keywords: of the environment, among them ``dataset`` and ``split``.

    Returns:
        Columns ``prompt`` (the rules as a system message, and an empty user message that ``reset`` fills) and
        ``sample_id``.

    Raises:
        InvalidData: if the split has no end and ``size`` is left out, or it has fewer samples.
        MissingDependency: if datasets is not installed.
    """
    try:
        from datasets import Dataset
    except ImportError as error:
        raise MissingDependency('to_hf_dataset needs datasets: pip install "visenv[trl]".') from error
    env = make_env(env_id, {"obs": "features", **keywords})
    identifiers = [sample.sample_id for sample in first_samples(env, size)]
    prompt = [
        {"role": "system", "content": rules_of(env)},
        {"role": "user", "content": ""},
    ]
    return Dataset.from_dict({"prompt": [prompt] * len(identifiers), "sample_id": identifiers})
