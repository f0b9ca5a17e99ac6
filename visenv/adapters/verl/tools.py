"""The fallback: the tools of an environment as verl's own ``BaseTool``s, for its ``tool_agent`` loop.

``write_tool_config`` writes the file for ``actor_rollout_ref.rollout.multi_turn.tool_config_path``: one entry a tool,
and the answer as one more. Prefer ``VisenvAgentLoop``: here an episode cannot end a trajectory, and verl cuts replies.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from visenv.adapters.blocks import with_pillow
from visenv.adapters.calls import written_call
from visenv.adapters.verl.records import standing_score, trajectory_records
from visenv.adapters.verl.sharing import SharedEnv, described_env, plain_settings, sample_of, shared_env
from visenv.async_batches import drive_async
from visenv.env import VisionToolEnv
from visenv.errors import InvalidData, MissingDependency, UnknownName
from visenv.protocol.flat import flat_tools, from_flat
from visenv.protocol.schema import ANSWER_TOOL
from visenv.types import ToolSpec

try:
    from verl.tools.base_tool import BaseTool
    from verl.tools.schemas import OpenAIFunctionToolSchema, ToolResponse
except ImportError as error:
    raise MissingDependency('visenv.adapters.verl needs verl: pip install "visenv[verl]".') from error

FINISHED = "The episode has finished: nothing more can be done in it. Say that you are done."


@dataclass(eq=False)
class Session:
    """The episode of one trajectory."""

    env: VisionToolEnv
    paid: float = 0.0
    """What its turns have paid."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while one is taken: a model may call several tools at once."""

    @property
    def score(self) -> float:
        """What it pays if nothing more is done."""
        return standing_score(self.env.episode, self.paid)


@dataclass(eq=False)
class Sessions:
    """The episodes of the trajectories that are under way, for all tools with the same settings."""

    shared: SharedEnv
    by_trajectory: WeakKeyDictionary[Any, Session] = field(default_factory=WeakKeyDictionary)
    """Of verl's ``tool_agent``, which creates and releases a tool for every call: gone with the trajectory."""
    by_instance: dict[str, Session] = field(default_factory=dict)
    """Of whoever creates a tool once a trajectory: gone when it is released."""
    rows: dict[str, Any] = field(default_factory=dict)
    """The samples that created tools are about."""


_sessions: dict[SharedEnv, Sessions] = {}


def sessions_of(shared: SharedEnv) -> Sessions:
    """The episodes that are under way with these settings in this process."""
    return _sessions.setdefault(shared, Sessions(shared))


class VisenvTool(BaseTool):
    """One tool of an environment, with flat arguments; all tools of a trajectory work in one episode.

    A call is a turn of the episode, bad ones included. After the episode's end every tool says that it is over and
    changes nothing. What the episode has come to so far stands in the trajectory's ``extra_fields``, where
    ``compute_score`` finds it.

    Args:
        config: ``env_id``, ``tool`` (its name, or ``Answer``), and ``env``: keywords of the environment.
        tool_schema: the schema that the model is told; made from the tool if left out.

    Raises:
        InvalidData: if the settings are not as above.
        UnknownName: if the environment has no such tool.
    """

    def __init__(self, config: dict[str, Any], tool_schema: OpenAIFunctionToolSchema | None = None) -> None:
        for name in ("env_id", "tool"):
            if not isinstance(config.get(name), str):
                raise InvalidData(f"Expected the tool's config to have {name!r}, a text, but got {config!r:.120}.")
        self.sessions = sessions_of(shared_env(config["env_id"], plain_settings(config.get("env"))))
        specs = {spec.name: spec for spec in _specs(self.sessions.shared.env())}
        if config["tool"] not in specs:
            raise UnknownName(f"Unknown tool {config['tool']!r} of {config['env_id']}. Known: {', '.join(specs)}.")
        self.spec = specs[config["tool"]]
        super().__init__(config, tool_schema or self.get_openai_tool_schema())

    def get_openai_tool_schema(self) -> OpenAIFunctionToolSchema:
        """The tool's schema in flat form, which verl keeps whole."""
        return OpenAIFunctionToolSchema.model_validate(flat_tools([self.spec])[0])

    async def create(self, instance_id: str | None = None, **kwargs: Any) -> tuple[str, ToolResponse]:
        """Get ready for calls about a sample.

        Args:
            instance_id: of the trajectory, for callers that create a tool once; made up if left out.
            **kwargs: ``create_kwargs`` of the row, or the same by name: ``sample_id`` or ``index``, and ``split``.
        """
        made = instance_id or str(uuid4())
        self.sessions.rows[made] = kwargs.get("create_kwargs") or kwargs
        return made, ToolResponse()

    async def execute(
        self, instance_id: str, parameters: dict[str, Any], **kwargs: Any
    ) -> tuple[ToolResponse, float, dict[str, Any]]:
        """Take a turn: call the tool.

        Args:
            instance_id: as ``create`` returned it.
            parameters: by flat names; the nested form is taken, too.
            **kwargs: ``agent_data`` of the trajectory, from verl's ``tool_agent``.

        Returns:
            The reply, what the turn has paid, and ``error``: the code of what was wrong with the call, or None.
        """
        agent_data = kwargs.get("agent_data")
        session = await self._session(instance_id, agent_data)
        async with session.turn:
            return await self._turn(session, parameters, agent_data)

    async def _turn(
        self, session: Session, parameters: Any, agent_data: Any
    ) -> tuple[ToolResponse, float, dict[str, Any]]:
        episode = session.env.episode
        if episode.done:
            return ToolResponse(text=FINISHED), 0.0, {"error": "finished"}
        steps = session.env.stepping(self._action(session, parameters))
        result = session.env.finish(await drive_async(steps, self.sessions.shared.pool(session.env)))
        session.paid += result.reward
        if agent_data is not None:
            agent_data.extra_fields.update({**trajectory_records(episode), "episode_score": session.score})
        error = result.turn.error
        return _response(episode.reply()), result.reward, {"error": None if error is None else error.code}

    async def calc_reward(self, instance_id: str, **kwargs: Any) -> float:
        """What the episode pays if nothing more is done in it; 0 for an invalid one, and where none has begun."""
        trajectory = kwargs.get("agent_data")
        found = self.sessions.by_instance.get(instance_id)
        session = found if trajectory is None else self.sessions.by_trajectory.get(trajectory)
        return 0.0 if session is None else session.score

    async def release(self, instance_id: str, **kwargs: Any) -> None:
        """Forget an instance; an episode that belongs to a trajectory of ``tool_agent`` goes on."""
        self.sessions.by_instance.pop(instance_id, None)
        self.sessions.rows.pop(instance_id, None)

    async def _session(self, instance_id: str, agent_data: Any) -> Session:
        sessions = self.sessions
        known: Any = sessions.by_instance if agent_data is None else sessions.by_trajectory
        key = instance_id if agent_data is None else agent_data
        if key not in known:
            split, options = sample_of(sessions.rows.get(instance_id))
            env = await sessions.shared.begin(split, options)
            # Calls that one turn makes side by side find the episode of the first.
            known.setdefault(key, Session(env))
        session: Session = known[key]
        return session

    def _action(self, session: Session, parameters: Any) -> Any:
        given = parameters if isinstance(parameters, Mapping) else {}
        return written_call(session.env.episode, self.spec.name, from_flat(self.spec, given))


def write_tool_config(env_id: str, path: str | Path, **keywords: Any) -> Path:
    """Write the file that names an environment's tools to verl.

    Args:
        env_id: as ``gym.make`` takes it.
        path: of the YAML file.
        **keywords: of the environment, plain values.

    Returns:
        The path.

    Raises:
        VisenvError: as ``gym.make``.
    """
    import yaml

    specs = _specs(described_env(env_id, keywords))
    home = f"{VisenvTool.__module__}.{VisenvTool.__name__}"
    settings = {"type": "native", "env_id": env_id, "env": keywords}
    tools = [{"class_name": home, "config": {**settings, "tool": spec.name}} for spec in specs]
    # Through JSON, so that nothing but plain values gets in, and nothing is written as a reference to another tool's.
    text = yaml.safe_dump(json.loads(json.dumps({"tools": tools})), sort_keys=False)
    Path(path).write_text(text, encoding="utf-8")
    return Path(path)


def _specs(env: VisionToolEnv) -> list[ToolSpec]:
    return [*env.specs, ANSWER_TOOL]


def _response(blocks: list[dict[str, Any]]) -> ToolResponse:
    shown = with_pillow(blocks)
    text = "".join(block["text"] for block in shown if block["type"] == "text")
    images = [block["image"] for block in shown if block["type"] == "image"]
    return ToolResponse(text=text.strip(), image=images) if images else ToolResponse(text=text.strip())
