"""Talking to an OpenAI-compatible chat endpoint: bounded, patient, and with an account of what was used."""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from visenv.errors import EndpointError, InvalidData, MissingDependency

if TYPE_CHECKING:
    import httpx

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
"""Seconds before the first retry, which double with each, and the most of them."""
CONNECT_SECONDS = 10.0
_AGAIN = (408, 409, 425, 429)
"""Answers after which the same request may succeed, besides all from 500 on."""
_UNFIT: dict[str, str | None] = {
    "stream_options": None,
    "temperature": None,
    "max_tokens": "max_completion_tokens",
}
"""Members that some servers refuse, and what these call them; None for those to be left out."""
_TOLD = 300
"""Characters of a server's error that are passed on."""


@dataclass(frozen=True)
class Reply:
    """What a model answered."""

    message: dict[str, Any]
    """``{"role": "assistant", "content", "reasoning_content", "tool_calls"}``, without what is empty."""
    finish_reason: str | None


class Endpoint:
    """A server's chat completions, for any number of coroutines.

    Args:
        base_url: such as ``https://api.openai.com/v1``.
        key: who asks; None for servers that ask nobody.
        parallel: requests under way at once; others wait for their turn.
        retries: how often a request that failed is sent again, after growing waits or the one that the server names.
        timeout: seconds that one request may take in all.
        max_bytes: of an answer that are read; a longer one is cut there.

    Raises:
        InvalidData: if the address is none, or a number is out of range.
        MissingDependency: if httpx is not installed.
    """

    def __init__(
        self, base_url: str, key: str | None, *, parallel: int, retries: int, timeout: float, max_bytes: int
    ) -> None:
        try:
            import httpx
        except ImportError as error:
            raise MissingDependency('Chat endpoints need httpx: pip install "visenv[chat]"') from error
        try:
            address = httpx.URL(base_url)
        except (httpx.InvalidURL, TypeError) as error:
            raise InvalidData(
                f"Expected base_url to be an address such as http://host:8000/v1, but {error}."
            ) from error
        if address.scheme not in ("http", "https") or not address.host or address.userinfo:
            raise InvalidData(
                "Expected base_url to be an address such as http://host:8000/v1, without a name or password in it "
                "(the key comes from an environment variable)."
            )
        for name, value, least in (("parallel", parallel, 1), ("retries", retries, 0), ("max_bytes", max_bytes, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidData(f"Expected {name} to be a whole number of at least {least}, but got {value!r}.")
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < math.inf:
            raise InvalidData(f"Expected timeout to be a number of seconds above 0, but got {timeout!r}.")
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._key, self._parallel, self._retries = key, parallel, retries
        self._timeout, self._max_bytes = float(timeout), max_bytes
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: httpx.AsyncClient | None = None
        self._refused_names: set[str] = set()
        self._room = asyncio.Semaphore(parallel)

    async def complete(self, body: Mapping[str, Any], usage: Counter[str], chance: np.random.Generator) -> Reply:
        """What the model says to a conversation.

        Args:
            body: of the request.
            usage: to which tokens, requests and retries are added.
            chance: scatters the waits, so that many who were refused do not come back as one.

        Raises:
            EndpointError: if it fails for good.
        """
        problem = ""
        client = self._connected()
        attempt = -1
        while (attempt := attempt + 1) <= self._retries:
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0**attempt) * (0.5 + chance.random())
            usage["requests"] += 1
            usage["retries"] += attempt > 0
            async with self._room:
                try:
                    return await asyncio.wait_for(self._once(client, self._fitted(body), usage), self._timeout)
                except _Unfit:
                    attempt -= 1
                    continue
                except _TryAgain as error:
                    problem = str(error)
                    wait = wait if error.wait is None else min(LONGEST_WAIT, max(wait, error.wait))
                except asyncio.TimeoutError:
                    problem = f"no whole answer within {self._timeout:g} s"
            if attempt < self._retries:
                await asyncio.sleep(wait)
        raise EndpointError(f"{self._url} failed {self._retries + 1} times, at last: {problem}")

    def _fitted(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A request without what the server has refused, or under the name that it wants."""
        names = {name: _UNFIT[name] if name in self._refused_names else name for name in body}
        return {new: body[name] for name, new in names.items() if new is not None}

    async def aclose(self) -> None:
        """Close the connections; a later request opens new ones."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _connected(self) -> httpx.AsyncClient:
        import httpx

        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            # Connections belong to the loop that opened them.
            headers = {} if self._key is None else {"Authorization": f"Bearer {self._key}"}
            limits = httpx.Limits(max_connections=self._parallel)
            timeout = httpx.Timeout(self._timeout, connect=min(CONNECT_SECONDS, self._timeout), pool=None)
            self._client = httpx.AsyncClient(headers=headers, limits=limits, timeout=timeout)
            self._loop, self._room = loop, asyncio.Semaphore(self._parallel)
        return self._client

    async def _once(self, client: httpx.AsyncClient, body: Mapping[str, Any], usage: Counter[str]) -> Reply:
        import httpx

        try:
            async with client.stream("POST", self._url, json=body) as response:
                if response.status_code != 200:
                    await self._refused(response)
                if "text/event-stream" in response.headers.get("content-type", ""):
                    return await self._streamed(response, usage)
                data, whole = await self._read(response)
                return _answer(data, usage) if whole else _cut("")
        except httpx.TransportError as error:
            raise _TryAgain(f"{type(error).__name__}: {error}") from error

    async def _refused(self, response: httpx.Response) -> None:
        data, _ = await self._read(response)
        said = " ".join(data.decode("utf-8", "replace").split())[:_TOLD]
        problem = f"HTTP {response.status_code}: {said}"
        # Servers differ in what they know; each is asked again without what it has refused, once for all.
        refused = [
            name for name, other in _UNFIT.items() if (other or name) in said and name not in self._refused_names
        ]
        if response.status_code in (400, 422) and refused:
            self._refused_names.update(refused)
            raise _Unfit
        if response.status_code in _AGAIN or response.status_code >= 500:
            raise _TryAgain(problem, _seconds(response.headers.get("retry-after")))
        hint = " Is the key in the environment variable that the policy names?" if response.status_code == 401 else ""
        raise EndpointError(f"{self._url} refuses: {problem}{hint}")

    async def _read(self, response: httpx.Response) -> tuple[bytes, bool]:
        """The body of an answer, and whether it is whole."""
        data = bytearray()
        async for part in response.aiter_bytes():
            data += part
            if len(data) > self._max_bytes:
                return bytes(data[: self._max_bytes]), False
        return bytes(data), True

    async def _streamed(self, response: httpx.Response, usage: Counter[str]) -> Reply:
        """An answer that comes in pieces (server-sent events)."""
        growing = _Growing()
        async for event in self._events(response):
            if event is None:
                growing.finish_reason = "length"
                break
            growing.add(event)
        else:
            if growing.finish_reason is None:
                raise _TryAgain("the stream was cut")
        _account(usage, growing.usage)
        return Reply(growing.message(), growing.finish_reason)

    async def _events(self, response: httpx.Response) -> AsyncIterator[dict[str, Any] | None]:
        """The events of a stream; None where it is longer than is read."""
        rest, size = b"", 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > self._max_bytes:
                yield None
                return
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                data = line.strip().removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
                if data == b"[DONE]":
                    return
                if data:
                    yield _json_object(data)


class _Unfit(Exception):
    """A server has refused a member of the request that it can do without."""


class _TryAgain(Exception):
    """A request failed in a way that another one may not."""

    def __init__(self, problem: str, wait: float | None = None) -> None:
        super().__init__(problem)
        self.wait = wait


@dataclass
class _Growing:
    """A message under way."""

    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    finish_reason: str | None = None
    usage: Any = None

    def add(self, event: Mapping[str, Any]) -> None:
        """Add a piece.

        Raises:
            _TryAgain: if it is an error, or none of a chat completion.
        """
        if "error" in event:
            raise _TryAgain(f"the stream broke: {str(event['error'])[:_TOLD]}")
        self.usage = event.get("usage") or self.usage
        for choice in event.get("choices") or ():
            if not isinstance(choice, Mapping):
                raise _TryAgain("the stream holds no choices of a chat completion")
            delta = choice.get("delta")
            delta = delta if isinstance(delta, Mapping) else {}
            for into, names in ((self.content, ("content",)), (self.reasoning, ("reasoning_content", "reasoning"))):
                text = next((delta[name] for name in names if isinstance(delta.get(name), str)), "")
                into.append(text)
            calls = delta.get("tool_calls")
            for place, piece in enumerate(calls if isinstance(calls, list) else ()):
                self._add_call(place, piece)
            reason = choice.get("finish_reason")
            self.finish_reason = reason if isinstance(reason, str) else self.finish_reason

    def _add_call(self, place: int, piece: object) -> None:
        piece = piece if isinstance(piece, Mapping) else {}
        index = piece.get("index", place)
        call = self.calls.setdefault(
            index if isinstance(index, int) else place, {"type": "function", "function": {"name": "", "arguments": ""}}
        )
        given = piece.get("function")
        for name in ("name", "arguments"):
            value = given.get(name) if isinstance(given, Mapping) else None
            before = call["function"][name]
            if isinstance(value, str) and isinstance(before, str):
                call["function"][name] = before + value
            elif value is not None:
                call["function"][name] = value

    def message(self) -> dict[str, Any]:
        """The message so far."""
        calls = [self.calls[index] for index in sorted(self.calls)]
        parts = {"content": "".join(self.content), "reasoning_content": "".join(self.reasoning), "tool_calls": calls}
        return {"role": "assistant", **{name: value for name, value in parts.items() if value}}


def _answer(data: bytes, usage: Counter[str]) -> Reply:
    """The answer in a whole body.

    Raises:
        _TryAgain: if it is no chat completion.
    """
    value = _json_object(data)
    choices = value.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        raise _TryAgain(f"the answer is no chat completion: {data[:_TOLD].decode('utf-8', 'replace')}")
    _account(usage, value.get("usage"))
    kept = {name: message[name] for name in ("content", "reasoning_content", "tool_calls") if message.get(name)}
    reason = choice.get("finish_reason")
    return Reply({"role": "assistant", **kept}, reason if isinstance(reason, str) else None)


def _cut(content: str) -> Reply:
    return Reply({"role": "assistant", "content": content}, "length")


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _TryAgain(f"the answer is not JSON: {data[:_TOLD].decode('utf-8', 'replace')}") from error
    if not isinstance(value, dict):
        raise _TryAgain("the answer is no JSON object")
    return value


def _account(usage: Counter[str], told: object) -> None:
    """Add what a server says that it used; how many answers it said nothing about is counted, too."""
    if not isinstance(told, Mapping):
        usage["unreported"] += 1
        return
    for name in ("prompt_tokens", "completion_tokens"):
        value = told.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            usage[name] += value


def _seconds(header: str | None) -> float | None:
    """The wait that ``Retry-After`` asks for, in seconds or as a date."""
    if header is None:
        return None
    with suppress(ValueError):
        value = float(header)
        return value if 0 <= value < math.inf else None
    with suppress(TypeError, ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    return None
