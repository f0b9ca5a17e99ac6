"""Any OpenAI-compatible chat endpoint as a policy: hosted models, vLLM, SGLang, ``transformers serve``, llama.cpp."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from visenv.env import VisionToolEnv
from visenv.episode import Episode
from visenv.errors import InvalidData
from visenv.policies.endpoint import Endpoint
from visenv.protocol import Dialect, get_dialect, openai_tools
from visenv.protocol.exchange import chat_messages, read_reply
from visenv.protocol.openai import OpenAI

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
        messages = chat_messages(
            episode.messages(), episode.transcript, native=self._native, image_format=self._image_format
        )
        body = {**self._settings, "messages": messages}
        if self._native:
            body["tools"] = self._tools
        reply = await self._endpoint.complete(body, self.usage, self._chance)
        return read_reply(reply.message, reply.finish_reason, native=self._native, dialect=self._dialect)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._endpoint.aclose()
