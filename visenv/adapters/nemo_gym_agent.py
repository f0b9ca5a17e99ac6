"""NeMo-Gym's agent for environments in the style of Gymnasium, whose model sees the pictures of replies.

NeMo-Gym's replies are texts. ``VisionServer`` with ``pictures: true`` brings their pictures along, and here they are
put into the messages: those that the model is sent, and those of the record. The loop is NeMo-Gym's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from visenv.adapters.nemo_gym import FAILED
from visenv.errors import MissingDependency

try:
    from fastapi import Request
    from nemo_gym.openai_utils import NeMoGymEasyInputMessage
    from nemo_gym.server_utils import get_response_json
    from responses_api_agents.gymnasium_agent.app import GymnasiumAgent, GymnasiumAgentRunRequest, GymnasiumRunResponse
except ImportError as error:
    raise MissingDependency('visenv.adapters.nemo_gym_agent needs NeMo-Gym: pip install "visenv[nemo_gym]".') from error


class VisionAgent(GymnasiumAgent):
    """The ``gymnasium_agent``, with pictures; it is configured in the same way."""

    async def run(self, request: Request, body: GymnasiumAgentRunRequest) -> GymnasiumRunResponse:
        """Play one episode."""
        client = _WithPictures(self.server_client)
        rollout = GymnasiumAgent.model_construct(**{**dict(self), "server_client": client})
        result: GymnasiumRunResponse = await rollout.run(request, body)
        prompt, outputs = result.responses_create_params, result.response
        shown = client.shown([*prompt.input, *outputs.output])
        count = len(prompt.input)
        record = {
            "responses_create_params": prompt.model_copy(update={"input": shown[:count]}),
            "response": outputs.model_copy(update={"output": shown[count:]}),
            "info": {name: value for name, value in result.info.items() if name != "content"},
        }
        failed = FAILED if "invalid" in result.info else {}
        return GymnasiumRunResponse(**{**dict(result), **record, **failed})


class _WithPictures:
    """A client of one rollout: it takes note of the pictures of replies, and shows them to the model.

    Args:
        client: of NeMo-Gym.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._contents: list[list[dict[str, Any]] | None] = []
        """Of each message that the environment has sent, in order; None where its text is all."""

    async def post(self, server_name: str, url_path: str, **keywords: Any) -> Any:
        """As NeMo-Gym's client posts."""
        if url_path == "/v1/responses":
            body = keywords["json"]
            keywords["json"] = body.model_copy(update={"input": self.shown(body.input)})
        response = await self._client.post(server_name=server_name, url_path=url_path, **keywords)
        if url_path in ("/reset", "/step") and response.ok:
            came = await get_response_json(response)
            if came["observation"] and not (came.get("terminated") or came.get("truncated")):
                self._contents.append(came["info"].get("content"))
        return response

    def shown(self, items: Sequence[Any]) -> list[Any]:
        """Items of a conversation, the environment's messages with their pictures: they are the last of the user's."""
        out = list(items)
        messages = [place for place, item in enumerate(out) if _is_message(item)]
        own = messages[len(messages) - len(self._contents) :]
        for place, content in zip(own, self._contents, strict=True):
            if content:
                out[place] = NeMoGymEasyInputMessage(role="user", content=content)
        return out


def _is_message(item: Any) -> bool:
    return isinstance(item, NeMoGymEasyInputMessage) and item.role == "user" and isinstance(item.content, str)
