"""Any OpenAI-compatible chat endpoint as a policy: hosted models, vLLM, SGLang, ``transformers serve``, llama.cpp."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from visenv.env import VisionToolEnv
from visenv.episode import Episode
from visenv.errors import InvalidData
from visenv.policies.endpoint import Endpoint, Reply
from visenv.protocol import Dialect, get_dialect, openai_tools, to_openai_content
from visenv.protocol.openai import OpenAI
from visenv.types import Malformed, ToolCall, Turn

CHAT = "openai:"
"""How the policy is written: ``openai:MODEL``."""
BASE_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"
MODES = ("native", "text")


class ChatPolicy:
    """Lets a model behind the OpenAI chat completions protocol act; images go as data URLs.

    For loops that await their policies: ``visenv eval`` and ``visenv.async_runner.AsyncEpisodeRunner``. One object
    plays one episode at a time; shallow copies share the connections and the bound on parallel requests. An endpoint
    that fails for good raises ``EndpointError``, by which these loops record the episode as invalid.

    Args:
        model: as the server names it.
        base_url: of the server.
        tools: ``"native"`` sends the tools along and reads tool calls, with ``dialect="openai"``; ``"text"`` leaves
            both to the text of messages, with ``action_mode="text"`` and any dialect.
        key_variable: the environment variable that holds the key; it is read from nowhere else and never written down.
        max_tokens: of an answer.
        temperature: 0 for the likeliest answer.
        parallel: requests under way at once.
        retries: how often a request that failed is sent again.
        timeout: seconds that one request may take.
        stream: whether answers come in pieces, so that an endless one is noticed while it comes.
        max_bytes: of an answer that are read; a longer one counts as cut at its length limit.
        image_format: ``"png"`` keeps every pixel, ``"jpeg"`` is smaller.
        extra: further members of each request's body, such as ``{"top_p": 0.9}``.

    Attributes:
        usage: what this episode has used: ``requests``, ``retries``, ``prompt_tokens``, ``completion_tokens`` as the
            server counts them, and ``unreported`` answers about which it said nothing.

    Raises:
        InvalidData: if a value is out of range.
        MissingDependency: if httpx is not installed.

    Example:
        >>> policy = ChatPolicy("qwen", base_url="http://localhost:8000/v1", tools="text")
        >>> policy.name, policy.env_keywords({"tools": "text"})
        ('openai', {'action_mode': 'text'})
    """

    name = "openai"

    def __init__(
        self,
        model: str,
        *,
        base_url: str = BASE_URL,
        tools: Literal["native", "text"] = "native",
        key_variable: str = KEY_VARIABLE,
        max_tokens: int = 2048,
        temperature: float = 0.0,
        parallel: int = 8,
        retries: int = 6,
        timeout: float = 120.0,
        stream: bool = True,
        max_bytes: int = 4 * 2**20,
        image_format: Literal["png", "jpeg"] = "png",
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(model, str) or not model:
            raise InvalidData(f"Expected {CHAT}MODEL with the name of a model, but got {model!r}.")
        if tools not in MODES:
            raise InvalidData(f"Expected tools to be 'native' or 'text', but got {tools!r}.")
        if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
            raise InvalidData(f"Expected max_tokens to be a whole number of at least 1, but got {max_tokens!r}.")
        self._native, self._image_format = tools == "native", image_format
        self._settings: dict[str, Any] = {
            "model": model,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "stream": stream,
            **({"stream_options": {"include_usage": True}} if stream else {}),
            **(extra or {}),
        }
        self._endpoint = Endpoint(
            base_url,
            os.environ.get(key_variable) or None,
            parallel=parallel,
            retries=retries,
            timeout=timeout,
            max_bytes=max_bytes,
        )
        self.usage: Counter[str] = Counter()
        self._chance = np.random.default_rng(0)
        self._tools: list[dict[str, Any]] = []
        self._dialect: Dialect = OpenAI()

    @staticmethod
    def env_keywords(options: Mapping[str, Any]) -> dict[str, str]:
        """The keywords that an environment needs for a policy of these options."""
        return {"action_mode": "text"} if options.get("tools") == "text" else {"dialect": "openai"}

    def reset(self, env: VisionToolEnv, seed: np.random.SeedSequence) -> None:
        """See ``visenv.policies.Policy.reset``.

        Raises:
            InvalidData: if the environment does not take turns in the way that they are asked for.
        """
        wanted = self.env_keywords({"tools": "native" if self._native else "text"})
        has = {"dialect": env.config.dialect, "action_mode": env.action_mode}
        if any(has[name] != value for name, value in wanted.items()):
            raise InvalidData(f"Expected an environment made with {wanted}, but it has {has}.")
        self.usage, self._chance = Counter(), np.random.default_rng(seed)
        self._tools, self._dialect = openai_tools(env.specs), get_dialect(env.config.dialect)

    async def act(self, episode: Episode) -> Any:
        """See ``visenv.policies.Policy.act``.

        Raises:
            EndpointError: if the endpoint fails for good.
        """
        body = {**self._settings, "messages": self._messages(episode)}
        if self._native:
            body["tools"] = self._tools
        reply = await self._endpoint.complete(body, self.usage, self._chance)
        return self._action(reply)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._endpoint.aclose()

    def _action(self, reply: Reply) -> Any:
        if self._native:
            if reply.finish_reason == "length":
                return OpenAI().parse(reply.message, "length")
            return {"content": None, **reply.message}
        content, reasoning = reply.message.get("content", ""), reply.message.get("reasoning_content", "")
        if not isinstance(content, str):
            return Malformed("not_text", f"The turn must be text, but it is of type {type(content).__name__}.")
        if reply.message.get("tool_calls"):
            return self._put_back(reply)
        if isinstance(reasoning, str) and reasoning and "<think>" not in content:
            # Servers take the thought out of the text, in which the dialect wants it.
            content = f"<think>{reasoning}</think>\n{content}"
        return {"text": content, "finish_reason": reply.finish_reason}

    def _put_back(self, reply: Reply) -> Any:
        """The text of a turn whose call the server took out of it, as some do unasked."""
        call = OpenAI().parse({**reply.message, "reasoning_content": None}, reply.finish_reason)
        if not isinstance(call, ToolCall):
            return call
        thought = reply.message.get("reasoning_content") or call.thought
        thought = thought if isinstance(thought, str) else ""
        call = replace(call, thought=thought.replace("<think>", "").replace("</think>", "").strip())
        return {"text": self._dialect.render(call), "finish_reason": reply.finish_reason}

    def _messages(self, episode: Episode) -> list[dict[str, Any]]:
        system, task, *rest = episode.messages()
        messages = [{"role": "system", "content": _text(system)}, self._shown(task)]
        for turn, said, reply in zip(episode.transcript, rest[::2], rest[1::2], strict=True):
            messages += self._native_turn(turn, said, reply) if self._native else [_said(said), self._shown(reply)]
        return messages

    def _native_turn(self, turn: Turn, said: Mapping[str, Any], reply: Mapping[str, Any]) -> list[dict[str, Any]]:
        """A call and its reply; the reply of a tool is text alone, so that its images follow as the user's."""
        if not isinstance(turn.action, ToolCall):
            return [_said(said), self._shown(reply)]
        call_id = f"call_{turn.index}"
        messages = [OpenAI().to_message(turn.action, call_id), OpenAI().reply_message(_text(reply), call_id)]
        images = [block for block in reply["content"] if block["type"] == "image"]
        if images:
            names = ", ".join(block["name"] for block in images)
            blocks: Sequence[dict[str, Any]] = [{"type": "text", "text": f"The reply shows {names}:"}, *images]
            messages.append({"role": "user", "content": to_openai_content(blocks, self._image_format)})
        return messages

    def _shown(self, message: Mapping[str, Any]) -> dict[str, Any]:
        return {"role": message["role"], "content": to_openai_content(message["content"], self._image_format)}


def _said(message: Mapping[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": _text(message)}


def _text(message: Mapping[str, Any]) -> str:
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")
