"""NeMo-Gym: environments as a resources server, for its agents with and without an end of the episode.

``VisionServer`` speaks to both of NeMo-Gym's own agents, which have the loop:

- ``gymnasium_agent`` calls ``/reset`` and ``/step``, and stops when the episode ends.
- ``simple_agent`` calls ``/seed_session``, an endpoint a tool, and ``/verify`` for the reward. It knows no end: after
  that, tools say so and change nothing. Its model's last text is the answer.

Some things are as NeMo-Gym has them, and the adapter makes the best of each:

- Prompts hold pictures, but replies are text: the first picture travels with the row (``to_rows``). ``VisionAgent`` is
  the ``gymnasium_agent`` whose model sees the pictures of replies, too.
- A picture that was shown stays in the model's context, so nothing is archived: ``memory`` is ``"keep_all"``.
- A session may never be verified, if its agent has died: the longest unused is forgotten beyond ``max_sessions``.
- Endpoints and tools have one name space, so a model can call ``seed_session`` or ``verify``: an episode of
  ``simple_agent`` is begun once, and comes to what it has come to however often that is asked.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from visenv.adapters.blocks import as_text
from visenv.adapters.calls import written_call
from visenv.adapters.making import Shared, make_env
from visenv.adapters.rows import first_samples, row_options, row_seed
from visenv.async_batches import AsyncPool, drive_async
from visenv.env import VisionToolEnv
from visenv.episode import Episode, StepResult
from visenv.errors import DatasetError, InvalidData, MissingDependency
from visenv.images import to_data_url
from visenv.protocol import get_dialect
from visenv.protocol.schema import json_schema
from visenv.protocol.strict_json import load_json
from visenv.types import Malformed, ToolCall

try:
    from fastapi import FastAPI, HTTPException, Request
    from fastapi.responses import PlainTextResponse
    from nemo_gym.base_resources_server import (
        BaseResourcesServerConfig,
        BaseSeedSessionRequest,
        BaseSeedSessionResponse,
        BaseVerifyRequest,
        BaseVerifyResponse,
    )
    from nemo_gym.openai_utils import NeMoGymResponse
    from nemo_gym.rollout_collection import NG_FAILURE_CLASS_KEY
    from nemo_gym.server_utils import SESSION_ID_KEY
    from pydantic import ConfigDict, Field, PrivateAttr
    from resources_servers.gymnasium import GymnasiumServer, extract_text
except ImportError as error:
    raise MissingDependency('visenv.adapters.nemo_gym needs NeMo-Gym: pip install "visenv[nemo_gym]".') from error

FINISHED = "The episode has finished: nothing more can be done in it."
FAILED = {NG_FAILURE_CLASS_KEY: "expert"}
"""Marks a rollout that does not count: NeMo-Gym keeps it apart from the others, and tries again."""
CUT = "max_output_tokens"
"""What a response says of a turn that was cut off."""


class VisionServerConfig(BaseResourcesServerConfig):
    """What stands in the configuration of the server, besides what NeMo-Gym has there."""

    env_id: str
    """As ``gym.make`` takes it."""
    env: dict[str, Any] = Field(default_factory=dict)
    """Keywords of the environment; ``dialect`` is ``"openai"`` unless said otherwise."""
    pictures: bool = False
    """Whether replies bring their pictures along, for ``VisionAgent``."""
    seed: int | None = None
    """From which samples are drawn for rows that name none."""
    max_sessions: int = Field(1024, ge=1)
    """How many sessions are remembered; those that have ended go first."""


class SeedSessionRequest(BaseSeedSessionRequest):
    """A row of the data set, of which ``sample_id``, ``index`` and ``seed`` are looked at."""

    model_config = ConfigDict(extra="allow")


class VerifyRequest(BaseVerifyRequest):
    """A row of the data set, and the agent's last response."""

    model_config = ConfigDict(extra="allow")


class VerifyResponse(BaseVerifyResponse):
    """What the episode has paid, how it ended, and the environment's ``info``."""

    model_config = ConfigDict(extra="allow")
    terminated: bool
    truncated: bool
    info: dict[str, Any]


@dataclass(eq=False)
class _Session:
    """One episode, and what it has paid so far."""

    env: VisionToolEnv
    begun_once: bool
    """Whether it cannot be begun again: its tools are called as endpoints."""
    paid: float = 0.0
    came_to: dict[str, Any] | None = None
    """What ``/verify`` has said; nothing else is done in the session any more."""
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    def end(self) -> dict[str, Any]:
        """What the episode has come to, as if at the turn limit if it has not ended; its pictures are let go."""
        if self.came_to is not None:
            return self.came_to
        episode = self.env.episode
        if not episode.done:
            self.paid += sum(episode.stop().values())
        invalid = episode.problem is not None
        self.came_to = {
            "reward": 0.0 if invalid else self.paid,
            "terminated": not invalid,
            "truncated": invalid,
            "info": self.env.info(),
            **(FAILED if invalid else {}),
        }
        del self.env
        return self.came_to


class VisionServer(GymnasiumServer):
    """A resources server whose sessions are episodes; all ask the same experts, in batches.

    Rows that name a sample (``sample_id`` or ``index``, as ``to_rows`` writes them) hold the task in their prompt. For
    others a sample is drawn, and the task is the first observation of ``gymnasium_agent``.

    Args:
        config: what NeMo-Gym has read from the configuration.
        server_client: of NeMo-Gym.

    Raises:
        VisenvError: as ``gym.make``: data, weights and devices are checked now. Pydantic makes a ``ValidationError``
            with the same message of those that are a ``ValueError``, among them that of several worker processes.
    """

    config: VisionServerConfig
    _kind: Shared = PrivateAttr()
    _pool: AsyncPool = PrivateAttr()
    _drawing: asyncio.Lock = PrivateAttr(default_factory=asyncio.Lock)
    _seeds: np.random.SeedSequence = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Load data and experts."""
        super().model_post_init(context)
        if (self.config.num_workers or 1) > 1:
            raise InvalidData(
                f"Expected num_workers of 1, since episodes live in one process, but got {self.config.num_workers}: "
                "start more servers, or more processes of experts (env: {expert_workers: 2})."
            )
        fixed = {"action_mode": "text"}
        settings = {"memory": "keep_all", "obs": "features", "dialect": "openai", **self.config.env, **fixed}
        self._kind = Shared(self.config.env_id, settings)
        self._pool = AsyncPool(self._kind.first.pool)
        self._seeds = np.random.SeedSequence(self.config.seed)

    def setup_webserver(self) -> FastAPI:
        """The endpoints: those of both agents, and one a tool."""
        app: FastAPI = super().setup_webserver()
        app.post("/seed_session")(self.seed_session)
        app.post("/verify")(self.verify)
        # Whatever else is called is a tool, or a mistake of the model, which is a turn.
        app.post("/{tool:path}")(self.call_tool)
        return app

    # --- gymnasium_agent ----------------------------------------------------------------------------------------------

    async def reset(self, metadata: dict[str, Any], session_id: str | None = None) -> tuple[str | None, dict[str, Any]]:
        """Begin an episode about the sample of a row; the task as text, unless the row has it in its prompt."""
        session = await self._begin(metadata, session_id, once=False)
        info = session.env.info()
        if row_options(metadata):
            return None, info
        blocks = session.env.episode.messages()[-1]["content"]
        return as_text(blocks), await self._with_content(info, blocks)

    async def step(
        self, action: NeMoGymResponse, metadata: dict[str, Any], session_id: str | None = None
    ) -> tuple[str | None, float, bool, bool, dict[str, Any]]:
        """Take one turn: what a model has answered, a function call or a text.

        Returns:
            The reply (to a call it stands in ``info["tool_outputs"]``, as NeMo-Gym has it), the reward, whether the
            episode has ended, whether it was cut short (because it is invalid), and the environment's ``info``.
        """
        session = self._session(session_id)
        if session.came_to is not None:
            raise HTTPException(409, FINISHED)
        env = session.env
        calls = [item for item in action.output if item.type == "function_call"]
        cut = action.incomplete_details is not None and action.incomplete_details.reason == CUT
        reason = "length" if cut else None
        turn = _turn(env.episode, calls, extract_text(action), reason)
        result = await self._step(session, {"text": turn, "finish_reason": reason})
        if result is None:
            raise HTTPException(409, FINISHED)
        episode, info = env.episode, env.info()
        blocks = episode.messages()[-1]["content"]
        if calls:
            output = as_text(episode.reply())
            info["tool_outputs"] = [{"call_id": call.call_id, "output": output} for call in calls]
            # Outputs of functions are texts: pictures follow in a message.
            blocks = [block for block in blocks if block["type"] == "image"] if self.config.pictures else []
        if not episode.done:
            info = await self._with_content(info, blocks)
        return as_text(blocks) or None, result.reward, result.terminated, result.truncated, info

    # --- simple_agent -------------------------------------------------------------------------------------------------

    async def seed_session(self, request: Request, body: SeedSessionRequest) -> BaseSeedSessionResponse:
        """Begin an episode about the sample of a row."""
        await self._begin(body.model_extra or {}, request.session[SESSION_ID_KEY], once=True)
        return BaseSeedSessionResponse()

    async def call_tool(self, tool: str, request: Request) -> PlainTextResponse:
        """Carry out a call: one turn. Whatever is wrong with it is said, and is a turn, too."""
        session = self._session(request.session[SESSION_ID_KEY])
        if session.came_to is not None:
            return PlainTextResponse(FINISHED)
        episode = session.env.episode
        try:
            arguments = load_json((await request.body()).decode("utf-8"))
        except (InvalidData, UnicodeDecodeError) as problem:
            action: Any = Malformed("bad_json", f"The arguments are not valid JSON: {problem}.")
        else:
            action = written_call(episode, tool, arguments)
        if await self._step(session, action) is None:
            return PlainTextResponse(FINISHED)
        return PlainTextResponse(as_text(episode.reply()))

    async def verify(self, request: Request, body: VerifyRequest) -> VerifyResponse:
        """Say what the episode has paid. If it has not ended, the model's last text is its answer; without, it is over.

        An invalid episode has the reward 0, ``info["invalid"]`` says why, and its rollout is marked as failed.
        """
        session = self._session(request.session[SESSION_ID_KEY])
        if text := _last_text(body.response):
            await self._step(session, {"name": "Answer", "arguments": {"text": text}})
        async with session.one_at_a_time:
            return VerifyResponse(**{**body.model_dump(), **session.end()})

    # --- both ---------------------------------------------------------------------------------------------------------

    def compute_metrics(self, tasks: list[list[dict[str, Any]]]) -> dict[str, Any]:
        """The environment's figures, as averages over the valid rollouts, and how many were not."""
        infos = [rollout.get("info") or {} for rollouts in tasks for rollout in rollouts]
        valid = [info["metrics"] for info in infos if "metrics" in info and "invalid" not in info]
        sums: Counter[str] = Counter()
        counts: Counter[str] = Counter()
        for metrics in valid:
            sums.update(metrics)
            counts.update(metrics.keys())
        invalid, unfinished = sum("invalid" in info for info in infos), sum("metrics" not in info for info in infos)
        return {
            **{f"mean/{name}": sums[name] / count for name, count in counts.items()},
            "mean/invalid": invalid / max(1, len(infos)),
            "mean/unfinished": unfinished / max(1, len(infos)),
        }

    async def _begin(self, row: Mapping[str, Any], session_id: str | None, once: bool) -> _Session:
        before = self.session_state.get(session_id)
        if before is not None and before.begun_once:
            raise HTTPException(409, "The episode of this session has been begun already.")
        env = self._kind.make()
        drawn = int(self._seeds.spawn(1)[0].generate_state(1)[0])
        try:
            seed = row_seed(row)
            async with self._drawing:
                await asyncio.to_thread(env.reset, seed=drawn if seed is None else seed, options=row_options(row))
        except (DatasetError, InvalidData) as problem:
            raise HTTPException(422, str(problem)) from problem
        self.session_state.pop(session_id, None)
        while len(self.session_state) >= self.config.max_sessions:
            ended = (one for one, session in self.session_state.items() if session.came_to is not None)
            del self.session_state[next(ended, next(iter(self.session_state)))]
        self.session_state[session_id] = session = _Session(env, once)
        return session

    def _session(self, session_id: str | None) -> _Session:
        session: _Session | None = self.session_state.pop(session_id, None)
        if session is None:
            raise HTTPException(409, "There is no episode in this session: begin one with /reset or /seed_session.")
        # Now the one that was used last.
        self.session_state[session_id] = session
        return session

    async def _step(self, session: _Session, action: Any) -> StepResult | None:
        """Take one turn; None if the episode has ended before."""
        async with session.one_at_a_time:
            if session.came_to is not None or session.env.episode.done:
                return None
            env = session.env
            with self._pool.member():
                result = env.finish(await drive_async(env.stepping(action), self._pool))
            session.paid += result.reward
            return result

    async def _with_content(self, info: dict[str, Any], blocks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        if not self.config.pictures:
            return info
        # Compressing pictures takes its time: other sessions go on.
        return {**info, "content": await asyncio.to_thread(_content, blocks)}


def _turn(episode: Episode, calls: list[Any], text: str, reason: str | None) -> Any:
    """What a model has answered, as the environment takes it."""
    if not calls:
        return text
    functions = [{"name": call.name, "arguments": call.arguments} for call in calls]
    tool_calls = [
        {"id": call.call_id, "type": "function", "function": function}
        for call, function in zip(calls, functions, strict=True)
    ]
    message = {"role": "assistant", "content": text or None, "tool_calls": tool_calls}
    if episode.dialect.name == "openai":
        return message
    action = get_dialect("openai").parse(message, reason)
    return written_call(episode, action.name, dict(action.arguments)) if isinstance(action, ToolCall) else action


def _last_text(response: NeMoGymResponse) -> str:
    """What the model said last, if it has called no function after it."""
    for item in reversed(response.output):
        if item.type in ("function_call", "function_call_output"):
            return ""
        if item.type == "message" and item.role == "assistant":
            return extract_text(response.model_copy(update={"output": [item]})).strip()
    return ""


def _content(blocks: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Content blocks as the Responses API takes them."""
    return [
        {"type": "input_image", "image_url": to_data_url(block["image"]), "detail": "auto"}
        if block["type"] == "image"
        else {"type": "input_text", "text": block["text"]}
        for block in blocks
    ]


def to_rows(
    env_id: str, *, agent: str, size: int | None = None, tools: bool = True, **keywords: Any
) -> list[dict[str, Any]]:
    """Rows of a data set for NeMo-Gym, one a sample, the rules and the task with its pictures in the prompt.

    Args:
        env_id: as ``gym.make`` takes it.
        agent: the name of the agent's configuration.
        size: how many samples, from the first; all of them if left out.
        tools: whether the model is told of the tools as functions; if not, the system message lists them as far as the
            dialect does.
        **keywords: of the environment, the same as in the server's configuration, among them ``dataset`` and ``split``.

    Returns:
        Rows of ``responses_create_params``, ``sample_id`` and ``agent_ref``, to be written as lines of JSON.

    Raises:
        InvalidData: if the split has no end and ``size`` is left out, or it has fewer samples.
    """
    env = make_env(env_id, {"obs": "features", "dialect": "openai", **keywords})
    functions = [
        {
            "type": "function",
            "name": spec.name,
            "description": spec.description,
            "parameters": json_schema(spec),
            "strict": False,
        }
        for spec in env.specs
    ]
    rows = []
    for sample in first_samples(env, size):
        env.begin(sample)
        messages = [
            {"role": message["role"], "content": _content(message["content"])} for message in env.episode.messages()
        ]
        prompt = {"input": messages, "tools": functions if tools else [], "parallel_tool_calls": False}
        rows.append(
            {
                "responses_create_params": prompt,
                "sample_id": sample.sample_id,
                "agent_ref": {"type": "responses_api_agents", "name": agent},
            }
        )
    return rows
