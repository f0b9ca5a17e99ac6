"""The agent loop: an episode, played by verl's servers, as the token ids that verl trains on.

It is named in a file for ``actor_rollout_ref.rollout.agent.agent_loop_config_path``, a list::

    - name: visenv
      _target_: visenv.adapters.verl.loop.VisenvAgentLoop
      env_id: VisHarness/ReasonSeg-v0
      env: {dataset: "reasonseg:/data/ReasonSeg", experts: "http://experts:8000", max_turns: 10}
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from visenv.adapters.verl.records import trajectory_flags
from visenv.adapters.verl.sharing import figures, plain_settings, sample_of, shared_env
from visenv.adapters.verl.streams import Encoder, Stream
from visenv.async_batches import WINDOW, AsyncPool, drive_async
from visenv.env import VisionToolEnv
from visenv.errors import InvalidData, MissingDependency
from visenv.memory import KeepAll, memory_policy

try:
    from verl.experimental.agent_loop.agent_loop import (
        AgentLoopBase,
        AgentLoopMetrics,
        AgentLoopOutput,
        _agent_loop_registry,
        register,
    )
    from verl.utils.profiler import simple_timer
    from verl.utils.tokenizer import get_processor_token_id
except ImportError as error:
    raise MissingDependency('visenv.adapters.verl needs verl: pip install "visenv[verl]".') from error

NAME = "visenv"
"""Under which the agent loop is registered, unless a file of agent loops has something else under it."""
ABORTED = ("abort", "aborted")
"""What servers say of a turn that they have broken off."""
SUMMED = ("spec_num_draft_tokens", "spec_num_accepted_tokens", "spec_num_verify_steps")
"""What servers count a turn, to be added up."""


@dataclass
class Played:
    """What came of an episode."""

    samples: list[Stream] = field(default_factory=list)
    """At least one, unless nothing could be begun."""
    rewards: list[float] = field(default_factory=list)
    """One a turn."""
    problem: str | None = None
    """Why it is invalid."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Seconds, and how often a server has put the trajectory off."""
    told: dict[str, Any] = field(default_factory=dict)
    """What the servers tell of themselves."""


class VisenvAgentLoop(AgentLoopBase):
    """Plays one episode of an environment: its messages, its tools, its end, its reward.

    With ``memory: keep_all``, the default, an episode is one sample of verl: what was read and written, in a row,
    nothing of it encoded twice. With any other memory, pictures are archived, so that the conversation that a turn sees
    does not begin with the one before: each turn is a sample of its own, as VisHarness trains, which verl's V1 trainer
    takes (``trainer.use_v1``).

    An episode that overflows a length, that a server has broken off or in which an expert fails is *invalid*: its
    reward is 0, none of its tokens is trained on, and ``extra_fields`` says why.

    Args:
        env_id: as ``gym.make`` takes it.
        env: keywords of the environment, plain values.
        max_turn_tokens: that the model may write in a turn; more, and the turn is cut, which uses it up.
        expert_window: for how many seconds the expert requests of all trajectories are gathered into one batch.
        drop_invalid: leave invalid episodes of the split ``train`` out, so that they do not shift the mean of their
            group; only the V1 trainer can.

    Raises:
        InvalidData: if a setting does not go with the model or the trainer.
    """

    def __init__(
        self,
        *args: Any,
        env_id: str = "VisHarness/ReasonSeg-v0",
        env: Mapping[str, Any] | None = None,
        max_turn_tokens: int = 1024,
        expert_window: float = WINDOW,
        drop_invalid: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        _check_names(kwargs.get("name"))
        if self.processor is None:
            raise InvalidData("Expected a vision-language model, but this one has no processor for pictures.")
        if isinstance(max_turn_tokens, bool) or not isinstance(max_turn_tokens, int) or max_turn_tokens < 1:
            raise InvalidData(f"Expected max_turn_tokens to be a whole number above 0, but got {max_turn_tokens!r}.")
        if not isinstance(drop_invalid, bool):
            raise InvalidData(f"Expected drop_invalid to be true or false, but got {drop_invalid!r}.")
        self.shared = shared_env(env_id, plain_settings(env), expert_window)
        self.drop_invalid = drop_invalid
        self.one_stream = isinstance(memory_policy(self.shared.keywords["memory"]), KeepAll)
        if not self.config.trainer.get("use_v1", True) and (self.drop_invalid or not self.one_stream):
            raise InvalidData(
                "Expected trainer.use_v1=True: the older trainer takes exactly one sample an episode, which needs "
                "memory: keep_all and drop_invalid: false."
            )
        media = {get_processor_token_id(self.processor, kind) for kind in ("image", "video", "audio")} - {None}
        self._encoder = Encoder(self.continuous_token_builder, self.tokenizer, media)
        rollout = self.rollout_config
        self._turn_tokens = max_turn_tokens if self.one_stream else min(max_turn_tokens, rollout.response_length)
        self._prompt_length, self._response_length = rollout.prompt_length, rollout.response_length
        self._model_length = rollout.max_model_len or self._prompt_length + self._response_length

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> AgentLoopOutput | list[AgentLoopOutput]:
        """Play the episode that a row is about.

        Args:
            sampling_params: of the model.
            **kwargs: the row, as ``to_parquet`` writes it; ``extra_info`` names the sample.

        Returns:
            One output; or a list with one for each turn, none if an invalid episode is to be left out.

        Raises:
            InvalidData: if the row names no sample, or the model's chat template drops pictures.
            DatasetError: if there is no such sample.
        """
        split, options = sample_of(kwargs.get("extra_info"))
        env = await self.shared.begin(split, options)
        priority = int(kwargs.get("priority") or 0)
        request_id = f"det-{priority}" if self.rollout_config.get("full_determinism", False) else uuid4().hex
        pool = self.shared.pool(env)
        with pool.member():
            played = await self._play(env, pool, sampling_params, {"request_id": request_id, "priority": priority})
        if played.problem is not None and self.drop_invalid and split == "train":
            return []
        # On a thread, since some metrics take their time.
        logprobs, steps = bool(sampling_params.get("logprobs")), kwargs.get("global_steps")
        outputs = await asyncio.to_thread(self._outputs, env, played, logprobs, steps)
        return outputs[0] if self.one_stream else outputs

    async def _play(
        self, env: VisionToolEnv, pool: AsyncPool, sampling_params: dict[str, Any], request: dict[str, Any]
    ) -> Played:
        """Play an episode to its end, or until it cannot go on."""
        episode, played = env.episode, Played()
        logprobs = bool(sampling_params.get("logprobs"))
        stream: Stream | None = None
        while not episode.done:
            if stream is None or not self.one_stream:
                stream = await asyncio.to_thread(self._encoder.begin, episode.messages(), logprobs)
                if len(stream.prompt) > self._prompt_length:
                    played.problem = f"prompt_length: {len(stream.prompt)} tokens, at most {self._prompt_length}"
                    return played
                played.samples.append(stream)
            else:
                reply = episode.dialect.wrap_blocks(episode.reply())
                stream = await asyncio.to_thread(self._encoder.heard, stream, reply)
            room, lack = self._room(stream)
            if room < 1:
                played.problem = lack
                return played
            limit = min(room, self._turn_tokens)
            with simple_timer("generate_sequences", played.metrics):
                output = await self.server_manager.generate(
                    prompt_ids=stream.tokens,
                    sampling_params={**sampling_params, "max_tokens": limit},
                    image_data=list(stream.images) or None,
                    video_data=None,
                    mm_processor_kwargs=self._get_mm_processor_kwargs(),
                    **request,
                )
            _note(played, output)
            tokens, heard = self._encoder.without_media(output.token_ids[:limit]), stream
            stream = await asyncio.to_thread(self._encoder.spoken, stream, tokens, output.log_probs)
            stream.routed = output.routed_experts
            played.samples[-1] = stream
            if output.stop_reason in ABORTED:
                played.problem = "aborted: the server has broken off a turn"
                return played
            full = len(output.token_ids) >= limit and not self._encoder.ended(tokens)
            cut = full or output.stop_reason == "length"
            if full and limit < self._turn_tokens:
                played.problem = lack
                return played
            said = {"text": self._encoder.text(heard, tokens), "finish_reason": "length" if cut else None}
            with simple_timer("tool_calls", played.metrics):
                result = env.finish(await drive_async(env.stepping(said), pool))
            played.rewards.append(result.reward)
        played.problem = None if episode.problem is None else f"expert: {episode.problem}"
        return played

    def _room(self, stream: Stream) -> tuple[int, str]:
        """How many tokens may follow, and which length it is that allows no more."""
        rooms = {
            "response_length": self._response_length - len(stream.response),
            "max_model_len": self._model_length - len(stream.prompt) - len(stream.response),
        }
        name = min(rooms, key=lambda name: rooms[name])
        most = self._response_length if name == "response_length" else self._model_length
        return rooms[name], f"{name}: the conversation needs more than {most} tokens"

    def _outputs(self, env: VisionToolEnv, played: Played, logprobs: bool, global_steps: Any) -> list[AgentLoopOutput]:
        episode, invalid = env.episode, played.problem is not None
        samples = [sample for sample in played.samples if sample.spoken] or [self._nothing(logprobs)]
        steps = {"min_global_steps": global_steps, "max_global_steps": global_steps}
        told = {
            **steps,
            **played.told,
            **trajectory_flags(episode, played.problem),
            "turn_scores": list(played.rewards),
            "tool_rewards": [],
            "reward_extra_info": {"invalid": float(invalid), **figures(env)},
        }
        return [
            AgentLoopOutput(
                prompt_ids=sample.prompt,
                response_ids=sample.response,
                response_mask=[0] * len(sample.mask) if invalid else sample.mask,
                response_logprobs=sample.logprobs,
                routed_experts=sample.routed,
                multi_modal_data={"images": sample.images} if sample.images else {},
                mm_processor_kwargs=self._get_mm_processor_kwargs(),
                reward_score=0.0 if invalid else sum(played.rewards),
                num_turns=max(1, 2 * episode.turns),
                metrics=AgentLoopMetrics(**played.metrics),
                extra_fields=dict(told),
            )
            for sample in samples
        ]

    def _nothing(self, logprobs: bool) -> Stream:
        """What stands for an episode in which the model wrote nothing: two tokens, none of them trained on."""
        ends = self.tokenizer.eos_token_id
        return Stream([ends], [], [0.0] if logprobs else None, response=[ends], mask=[0])


if NAME not in _agent_loop_registry:
    # A file of agent loops is read before this module, which it names: what it says of the name stands.
    register(NAME)(VisenvAgentLoop)


def _check_names(name: object) -> None:
    """Refuse settings of a file of agent loops that nobody reads: verl takes them without a word."""
    entry = _agent_loop_registry.get(str(name), {})
    known = {"name", "_target_", *inspect.signature(VisenvAgentLoop.__init__).parameters}
    if unknown := [setting for setting in entry if setting not in known and not str(setting).startswith("_")]:
        own = "env_id, env, max_turn_tokens, expert_window, drop_invalid"
        raise InvalidData(f"Unknown settings of the agent loop {name!r}: {', '.join(unknown)}. Known: {own}.")


def _note(played: Played, output: Any) -> None:
    """Keep what a server tells of itself: from which weights the first and the last turn came, and counts summed."""
    metrics, told = played.metrics, played.told
    metrics["num_preempted"] = metrics.get("num_preempted", 0) + (output.num_preempted or 0)
    for name, value in output.extra_fields.items():
        if name in SUMMED and name in told:
            told[name] = int(told[name]) + int(value)
        elif name == "max_global_steps" and value is not None:
            told[name] = value
        elif value is not None:
            told.setdefault(name, value)
