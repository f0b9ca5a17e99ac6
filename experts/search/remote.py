"""A search service over HTTP as an expert: bounded, patient, no faster than allowed, and asked once."""

from __future__ import annotations

import asyncio
import json
import math
import os
import threading
import time
import zlib
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visenv.capabilities import ExpertFailure, Passages, Request, Search, not_answered
from visenv.errors import ExpertError, InvalidData, MissingDependency
from visenv.experts.search.recorded import Recorded
from visenv.experts.search.services import Service, find_service, passages_of

if TYPE_CHECKING:
    import httpx

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds before the first retry, which double with each, and the most of them."""
MAX_ANSWER_BYTES = 4 * 2**20
_AGAIN = (408, 409, 425, 429)
"""Answers after which the same request may succeed, besides all from 500 on."""
_LOOK_SECONDS = 0.01
"""How often a request that waits for others looks whether it may begin."""
_TOLD = 200
"""Characters of a service's error that are passed on."""


class ServiceSearch:
    """Finds passages through a search service.

    What a service has answered is kept in ``cache``, and never asked for again: a run that is repeated gives the same
    results, though the service has others by then. With ``offline`` nothing else is looked at. A request that still
    fails after all retries fails alone. The key is read from the environment when it is needed, and stands in no file,
    no message and no copy.

    Args:
        service: ``serper``, ``brave``, ``searxng``, ``retriever`` (Search-R1's server), or a ``Service`` of one's own.
        address: where it is, such as ``http://127.0.0.1:8080``; needed for services of one's own.
        key_variable: the environment variable that holds the key; the service's usual one if left out.
        cache: a folder for answers; None to keep none.
        offline: whether only answers in ``cache`` are used.
        per_second: the most requests that this object begins in a second.
        parallel: requests under way at once.
        retries: how often a request that failed is sent again, after growing waits or the one that the service names.
        timeout: seconds that one request may take in all.
        max_batch: the most requests in one call.

    Raises:
        UnknownName: if there is no such service.
        InvalidData: if a value is out of range, the address is missing, or the key is.
        MissingDependency: if httpx is not installed.
    """

    name = "search-service"
    capabilities: tuple[str, ...] = ("Search",)
    per_sample = False

    def __init__(
        self,
        service: str | Service,
        *,
        address: str | None = None,
        key_variable: str | None = None,
        cache: str | Path | None = None,
        offline: bool = False,
        per_second: float = 5.0,
        parallel: int = 4,
        retries: int = 3,
        timeout: float = 20.0,
        max_batch: int = 32,
    ) -> None:
        self.service = find_service(service)
        for name, value, least in (("parallel", parallel, 1), ("retries", retries, 0), ("max_batch", max_batch, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidData(f"Expected {name} to be a whole number of at least {least}, but got {value!r}.")
        for name, number in (("per_second", per_second), ("timeout", timeout)):
            if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 < number < math.inf:
                raise InvalidData(f"Expected {name} to be a number above 0, but got {number!r}.")
        self.address = _checked_address(address or self.service.address, self.service.name)
        self.key_variable = key_variable or self.service.key_variable
        self.offline = offline
        self._recorded = None if cache is None else Recorded(cache)
        if offline and self._recorded is None:
            raise InvalidData("Expected a cache to be used offline: cache='a-folder' with recorded answers.")
        self._interval, self._next = 1.0 / per_second, 0.0
        self._parallel, self._retries, self._timeout = parallel, retries, float(timeout)
        self.max_batch = max_batch
        self.fingerprint = f"search-service-1-{self.service.name}-{self.address}{'-offline' if offline else ''}"
        self._lock, self._room = threading.Lock(), threading.Semaphore(parallel)
        if not offline:
            _httpx()
            self._key()

    def run(self, requests: Sequence[Request]) -> list[Passages | ExpertFailure]:
        """Answer a batch; result ``i`` belongs to request ``i``, and is a failure where the service failed for good."""
        for request in requests:
            if not isinstance(request, Search):
                raise not_answered(self.name, request)
        # In a thread of its own: the caller's may have a loop that is running.
        with ThreadPoolExecutor(1) as alone:
            return alone.submit(asyncio.run, self._answers(requests)).result()

    async def _answers(self, requests: Sequence[Any]) -> list[Passages | ExpertFailure]:
        asked = [self._asked(request) for request in requests]
        known = [self._recorded.get(each) if self._recorded else None for each in asked]
        if self.offline or all(found is not None for found in known):
            return [self._offline(request, found) for request, found in zip(requests, known, strict=True)]
        key = self._key()
        headers = {"Accept-Encoding": "gzip"} | ({} if key is None else {str(self.service.key_header): key})
        async with _httpx().AsyncClient(headers=headers, timeout=self._timeout) as client:
            work = [
                self._answer(client, request, each, found)
                for request, each, found in zip(requests, asked, known, strict=True)
            ]
            return list(await asyncio.gather(*work))

    def _offline(self, request: Search, found: list[tuple[str, str]] | None) -> Passages | ExpertFailure:
        if found is not None:
            return _ranked(found)
        return ExpertFailure(
            self.name, f"there is no recorded answer to {request.query!r:.80}, and the service must not be asked"
        )

    async def _answer(
        self,
        client: httpx.AsyncClient,
        request: Search,
        asked: dict[str, Any],
        found: list[tuple[str, str]] | None,
    ) -> Passages | ExpertFailure:
        if found is None:
            try:
                async with self._place():
                    found = await self._patiently(client, request)
            except ExpertError as error:
                return ExpertFailure(error.expert, error.message)
            if self._recorded is not None:
                self._recorded.put(asked, found)
        return _ranked(found)

    async def _patiently(self, client: httpx.AsyncClient, request: Search) -> list[tuple[str, str]]:
        """Ask until there is an answer.

        Raises:
            ExpertError: if there is none after all retries, or the service refuses.
        """
        problem = ""
        for attempt in range(self._retries + 1):
            await asyncio.sleep(self._turn())
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0**attempt)
            try:
                return await asyncio.wait_for(self._once(client, request), self._timeout)
            except _TryAgain as error:
                problem = str(error)
                wait = wait if error.wait is None else min(LONGEST_WAIT, max(wait, error.wait))
            except asyncio.TimeoutError:
                problem = f"no whole answer within {self._timeout:g} s"
            if attempt < self._retries:
                await asyncio.sleep(wait)
        raise ExpertError(self.name, f"{self.service.name} failed {self._retries + 1} times, at last: {problem}")

    async def _once(self, client: httpx.AsyncClient, request: Search) -> list[tuple[str, str]]:
        import httpx

        url = f"{self.address}{self.service.path}"
        # An agent's text may hold what can be sent to nobody.
        query = request.query.encode("utf-8", "replace").decode()
        try:
            fields = self.service.ask(query, request.limit)
            async with client.stream("POST" if "json" in fields else "GET", url, **fields) as response:
                data = bytearray()
                async for part in response.aiter_raw():
                    data += part
                    if len(data) > MAX_ANSWER_BYTES:
                        raise ExpertError(self.name, f"{self.service.name} answers with over {MAX_ANSWER_BYTES} bytes")
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise _TryAgain(self._unkeyed(f"{type(error).__name__}: {error}")) from None
        except (httpx.InvalidURL, ValueError, TypeError) as error:
            said = self._unkeyed(f"{type(error).__name__}: {error}")
            raise ExpertError(self.name, f"{self.service.name} cannot be asked this: {said:.{_TOLD}}") from None
        status, answer = response.status_code, self._unpacked(data, response.headers.get("content-encoding", ""))
        if status != 200:
            said = " ".join(self._unkeyed(answer.decode("utf-8", "replace")).split())[:_TOLD]
            if status in _AGAIN or status >= 500:
                raise _TryAgain(f"HTTP {status}: {said}", _seconds(response.headers.get("retry-after")))
            hint = f" Is the key in {self.key_variable} right?" if status in (401, 403) else ""
            raise ExpertError(self.name, f"{self.service.name} refuses: HTTP {status}: {said}{hint}")
        try:
            rows = passages_of(self.service, json.loads(answer), request.limit)
        except (ValueError, RecursionError) as error:
            raise _TryAgain(f"the answer cannot be read: {self._unkeyed(str(error)):.{_TOLD}}") from None
        # A service may repeat what it was sent, and passages are written to files.
        return [(self._unkeyed(title), self._unkeyed(text)) for title, text in rows]

    def _unpacked(self, data: bytes | bytearray, encoding: str) -> bytes:
        """An answer as it was before it was packed, which may be a thousand times as long.

        Raises:
            ExpertError: if it is too long.
            _TryAgain: if it is broken, or packed otherwise than was asked for.
        """
        if encoding.strip().lower() in ("", "identity"):
            return bytes(data)
        if encoding.strip().lower() not in ("gzip", "x-gzip"):
            raise _TryAgain(f"the answer is packed as {encoding!r:.40}, which nobody asked for")
        packed = zlib.decompressobj(31)
        try:
            answer = packed.decompress(data, MAX_ANSWER_BYTES + 1)
        except zlib.error as error:
            raise _TryAgain(f"the answer cannot be unpacked: {error}") from error
        if len(answer) > MAX_ANSWER_BYTES:
            raise ExpertError(self.name, f"{self.service.name} answers with over {MAX_ANSWER_BYTES} bytes")
        if not packed.eof:
            raise _TryAgain("the packed answer is cut off")
        return answer

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """One of the places for requests under way, which several threads, each with a loop of its own, may share."""
        while not self._room.acquire(blocking=False):
            await asyncio.sleep(_LOOK_SECONDS)
        try:
            yield
        finally:
            self._room.release()

    def _turn(self) -> float:
        """How many seconds to wait, so that no more requests begin in a second than allowed."""
        with self._lock:
            now = time.monotonic()
            begin = max(now, self._next)
            self._next = begin + self._interval
        return begin - now

    def _asked(self, request: Search) -> dict[str, Any]:
        """What an answer is kept under."""
        return {
            "service": self.service.name,
            "address": self.address,
            "query": request.query,
            "limit": request.limit,
        }

    def _key(self) -> str | None:
        """The key, from the environment.

        Raises:
            InvalidData: if the service needs one, and it is not there.
        """
        if self.service.key_header is None:
            return None
        variable = self.key_variable
        key = os.environ.get(variable, "").strip() if variable else ""
        if not key:
            raise InvalidData(
                f"Expected the key of {self.service.name!r} in the environment variable {variable}, but it is not set: "
                f"export {variable}=..., name another with key_variable, or use recorded answers with cache and "
                "offline=True."
            )
        if not key.isascii() or not key.isprintable():
            raise InvalidData(f"Expected the key in {variable} to be printable ASCII, but it is not.")
        return key

    def _unkeyed(self, text: str) -> str:
        key = os.environ.get(self.key_variable, "").strip() if self.key_variable else ""
        return text.replace(key, "***") if key else text

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_room")} | {"_next": 0.0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())
        self._room = threading.Semaphore(self._parallel)


class _TryAgain(Exception):
    """A request failed in a way that another one may not."""

    def __init__(self, problem: str, wait: float | None = None) -> None:
        super().__init__(problem)
        self.wait = wait


def _httpx() -> Any:
    try:
        import httpx
    except ImportError as error:
        raise MissingDependency('Search services need httpx: pip install "visenv[search]"') from error
    return httpx


def _checked_address(address: str | None, service: str) -> str:
    if address is None:
        raise InvalidData(f"Expected the address of {service!r}, as in address='http://127.0.0.1:8080', but got none.")
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
        good = good and not parts.query and not parts.fragment and parts.port != 0
    except (ValueError, AttributeError, TypeError):
        good = False
    if not good:
        raise InvalidData(
            "Expected an address such as https://host:8080, without a name, a password or a question in it (the key "
            f"comes from an environment variable), but got {address!r:.80}."
        )
    return address.rstrip("/")


def _ranked(found: list[tuple[str, str]]) -> Passages:
    """Passages with scores by their rank: services do not say how good they are, or each in its own way."""
    titles, texts = tuple(title for title, _ in found), tuple(text for _, text in found)
    return Passages(titles, texts, 1.0 / np.arange(1, len(found) + 1))


def _seconds(header: str | None) -> float | None:
    """The wait in seconds that ``Retry-After`` asks for, as a number or by a date; None where it asks for none."""
    try:
        value = float(header or "")
    except ValueError:
        try:
            value = max(0.0, parsedate_to_datetime(header or "").timestamp() - time.time())
        except (ValueError, TypeError, OverflowError):
            return None
    return value if 0 <= value < math.inf else None
