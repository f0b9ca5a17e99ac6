"""The typed client."""

from __future__ import annotations

from typing import Any

from openenv.core import EnvClient
from openenv.core.client_types import StepResult

from visenv.adapters.openenv.models import VisionAction, VisionObservation, VisionState


class VisionClient(EnvClient[VisionAction, VisionObservation, VisionState]):
    """The typed client: ``async with VisionClient(base_url=…) as env``, or ``with VisionClient(base_url=…).sync()``.

    ``reset`` takes ``seed``, ``episode_id``, ``index`` or ``sample_id``; ``step`` a ``VisionAction``, or a mapping of
    its members; both return a ``StepResult`` whose ``observation`` is a ``VisionObservation``. What the server refuses
    (a session too many, a sample that does not exist, a step after the end) is a ``RuntimeError`` with its reason.
    """

    def _step_payload(self, action: VisionAction | dict[str, Any]) -> dict[str, Any]:
        return dict(action) if isinstance(action, dict) else action.model_dump(exclude_unset=True)

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[VisionObservation]:
        reward, done = payload.get("reward"), payload.get("done", False)
        seen = VisionObservation.model_validate({**payload["observation"], "reward": reward, "done": done})
        return StepResult(observation=seen, reward=reward, done=done)

    def _parse_state(self, payload: dict[str, Any]) -> VisionState:
        return VisionState.model_validate(payload)
