"""What goes over the wire: an action, an observation, and the state of a session."""

from __future__ import annotations

from typing import Any

from openenv.core.env_server.types import Action, Observation, State
from pydantic import ConfigDict, Field

from visenv.adapters.blocks import pictures_in
from visenv.types import Pixels


class VisionAction(Action):
    """One turn: a call of a tool or of ``Answer``, or in its place what a model wrote.

    Whatever stands in its members, it is a turn: a bad one is answered by what was wrong with it.
    """

    model_config = ConfigDict(extra="allow")

    name: Any = Field(None, description="Of a tool, or 'Answer'.", json_schema_extra={"type": "string"})
    arguments: Any = Field(None, description="Of the call; of 'Answer', text.", json_schema_extra={"type": "object"})
    text: Any = Field(
        None,
        description="A model's raw turn in the server's dialect, in place of a call.",
        json_schema_extra={"type": "string"},
    )
    finish_reason: Any = Field(
        None, description="Why the model stopped; 'length' if its text was cut.", json_schema_extra={"type": "string"}
    )


class VisionObservation(Observation):
    """What the environment says: the task, or the reply to a turn.

    ``done`` and ``reward`` (of this turn alone; None for the task) are OpenEnv's own. ``done`` is ``terminated`` or
    ``truncated``.
    """

    content: list[dict[str, Any]] = Field(default_factory=list)
    """OpenAI content parts: text, and pictures as ``image_url`` with a data URL, each at its place."""
    query: str = ""
    """What is asked."""
    terminated: bool = False
    """Whether the episode has come to an end of the task: an answer, the turn limit, the token budget."""
    truncated: bool = False
    """Whether it was broken off, since an expert stays broken: it does not count, and ``info["invalid"]`` says why."""
    info: dict[str, Any] = Field(default_factory=dict)
    """As ``env.step`` gives it."""

    @property
    def text(self) -> str:
        """The text parts as one."""
        return "".join(part["text"] for part in self.content if part.get("type") == "text")

    def pictures(self) -> list[Pixels]:
        """The pictures, in order: (H, W, 3) uint8 RGB each.

        Raises:
            InvalidImage: if the server sent something else.
        """
        return pictures_in(self.content)


class VisionState(State):
    """Of a session: what does not change from turn to turn. ``step_count`` is how many turns were taken."""

    env_id: str = ""
    sample_id: str | None = None
    """Of the episode; None before the first."""
    max_turns: int = 0
    dialect: str = ""
    """How a raw turn is written."""
    instructions: str = ""
    """The system prompt for a model that writes raw turns."""
    tools: list[dict[str, Any]] = Field(default_factory=list)
    """What can be called, as OpenAI-compatible servers are told; ``Answer`` is the last."""
