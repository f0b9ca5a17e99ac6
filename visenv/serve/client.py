"""Experts that run elsewhere, asked as if they were here: ``experts="http://host:port"`` or ``experts="ray://app"``."""

from __future__ import annotations

import json
import math
import os
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import visenv
from visenv.capabilities import CAPABILITIES, EstimateDepth, ExpertFailure, Request, Result, Upscale, Upscaled
from visenv.clusters import TOKEN_VARIABLE, is_connected, join
from visenv.errors import ExpertError, InvalidData
from visenv.experts_checks import check_result
from visenv.serve.codec import digest_of, pack_requests, unpack_results, views_of
from visenv.serve.transport import Faulty, HttpTransport, NotServed, RayTransport, Refused, Transport
from visenv.serve.wire import PROTOCOL, Limits, WireError, unpack
from visenv.types import Pixels

REMEMBERED = 65536
"""Images whose digests are remembered."""
FAULTS = 3
"""How often in a row a request may come back faulty before it is given up."""
_CONCURRENT = 16


@dataclass(frozen=True)
class Patience:
    """How long a client waits.

    Raises:
        InvalidData: if a number is out of range.
    """

    timeout: float = 60.0
    """Seconds for one attempt, from sending to the last byte of the answer."""
    deadline: float = 180.0
    """Seconds for a call with all its attempts; then what was asked has failed."""
    first_wait: float = 0.2
    """Seconds before the second attempt; twice as many before each further one, give or take a half."""
    longest_wait: float = 5.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise InvalidData(f"Expected {name} to be seconds above 0, but got {value!r}.")

    def wait(self, attempt: int, chance: random.Random) -> float:
        """Seconds before an attempt; the second is 1."""
        return min(self.longest_wait, self.first_wait * 2 ** min(attempt - 1, 30)) * chance.uniform(0.5, 1.5)


def connect(
    address: str,
    *,
    token: str | None = None,
    timeout: float | None = None,
    deadline: float | None = None,
) -> list[ServedExpert]:
    """The experts that are served at an address; fails at once where nobody serves any.

    Args:
        address: ``http://host:port``, ``https://host:port``, or ``ray://app`` with the name of an application in the
            Ray that this process is connected to, or that ``RAY_ADDRESS`` or this machine's files name. Seconds may
            stand in it, too: ``http://host:port?timeout=10&deadline=60``.
        token: for servers that ask for one; from the environment variable ``VISENV_TOKEN`` if left out.
        timeout: seconds for one attempt; 60 if left out.
        deadline: seconds for a call with all its attempts; 180 if left out.

    Raises:
        InvalidData: if it is no such address, nobody listens there, or who listens serves another version.
    """
    plain, given = _settings(address)
    given |= {name: value for name, value in (("timeout", timeout), ("deadline", deadline)) if value is not None}
    patience = Patience(**given)
    token = token if token is not None else os.environ.get(TOKEN_VARIABLE) or None
    in_ray = plain.startswith("ray://")
    transport: Transport = RayTransport(_app(plain)) if in_ray else HttpTransport(plain, token)
    try:
        document = json.loads(transport.describe(min(patience.timeout, patience.deadline)))
    except (NotServed, Faulty, Refused) as error:
        raise InvalidData(
            f"Expected experts at {address!r}, but {error}. Start them with `visenv serve classical`, or see whether "
            "the address is right."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InvalidData(f"Expected experts of visenv at {address!r}, but something else answers there.") from error
    return _experts(address, document, transport, patience)


def _settings(address: str) -> tuple[str, dict[str, float]]:
    """An address without its query, and what stood there."""
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise InvalidData(f"Expected an address like http://127.0.0.1:8000, but got {address!r}: {error}.") from error
    given = {}
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name not in ("timeout", "deadline"):
            raise InvalidData(f"Expected timeout= or deadline= after the ? of an address, but got {name!r}.")
        try:
            given[name] = float(text)
        except ValueError:
            raise InvalidData(f"Expected {name} in an address to be seconds, but got {text!r}.") from None
    return urlunsplit(parts._replace(query="")), given


def _app(address: str) -> str:
    """The name of an application, once this process is connected to a Ray."""
    name = address.removeprefix("ray://").strip("/")
    if not name or "/" in name or ":" in name:
        raise InvalidData(
            f"Expected ray://APP with the name of an application on Ray Serve, such as ray://visenv, but got "
            f"{address!r}: which Ray it is in says the environment variable RAY_ADDRESS."
        )
    if not is_connected():
        join(os.environ.get("RAY_ADDRESS") or "auto")
    return name


def _experts(address: str, document: Any, transport: Transport, patience: Patience) -> list[ServedExpert]:
    """The experts of a server's description, once its version is known to fit."""
    if not isinstance(document, dict) or not isinstance(document.get("experts"), list):
        raise InvalidData(f"Expected experts of visenv at {address!r}, but something else answers there.")
    if document.get("protocol") != PROTOCOL or _series(document.get("visenv")) != _series(visenv.__version__):
        raise InvalidData(
            f"Expected visenv {visenv.__version__} (protocol {PROTOCOL}) at {address!r}, but there is "
            f"{document.get('visenv')!s:.20} (protocol {document.get('protocol')!s:.20}): install the same version of "
            "visenv on both sides."
        )
    shared = _Shared(transport, patience, address)
    try:
        transport.most = max(transport.most, int(document["body_bytes"]))
        served = [
            ServedExpert(
                shared,
                key=str(record["key"]),
                name=str(record["name"]),
                fingerprint=str(record["fingerprint"]),
                capabilities=tuple(name for name in record["capabilities"] if name in CAPABILITIES),
                most=max(1, min(int(record["max_batch"]), int(document["requests"]))),
                replicas=max(1, int(record["replicas"])),
                body_bytes=int(document["body_bytes"]),
            )
            for record in document["experts"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidData(
            f"Expected experts of visenv at {address!r}, but its description is broken: {error}"
        ) from None
    if not served:
        raise InvalidData(f"Expected experts at {address!r}, but none is served there.")
    return served


def _series(version: Any) -> tuple[str, ...]:
    """What has to agree of two versions: 0.4 of 0.4.2."""
    return tuple(str(version).split(".")[:2])


class _Shared:
    """What the experts of one server share: the way there, and what it is known to hold of pixels."""

    def __init__(self, transport: Transport, patience: Patience, address: str) -> None:
        self.transport, self.patience, self.address = transport, patience, address
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._digests: OrderedDict[str, str] = OrderedDict()
        """By provenance key."""
        self._held: OrderedDict[str, None] = OrderedDict()
        """Digests of what was sent to the server, or made there; it may have forgotten some."""
        self.chance = random.Random(os.urandom(8))

    def __getstate__(self) -> dict[str, Any]:
        return {"transport": self.transport, "patience": self.patience, "address": self.address}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._reset()

    def digests(self, requests: Sequence[Request]) -> tuple[dict[str, str], dict[str, Pixels]]:
        """The digests of all images of some requests, by provenance key; and their pixels, by digest."""
        digests, pixels = {}, {}
        for view in (view for request in requests for view in views_of(request)):
            key = view.provenance.key
            if key not in digests:
                with self._lock:
                    known = self._digests.get(key)
                digests[key] = known or digest_of(view.pixels)
                pixels[digests[key]] = view.pixels
                if not known:
                    self._note(self._digests, key, digests[key])
        return digests, pixels

    def holds(self, digest: str) -> bool:
        """Whether the server is thought to hold an image."""
        return digest in self._held

    def note_held(self, digests: Sequence[str]) -> None:
        """Take note of what the server holds since it answered."""
        for digest in digests:
            self._note(self._held, digest, None)

    def note_made(self, requests: Sequence[Request], results: Sequence[Any]) -> None:
        """Take note of the images that the server has made, by the keys that they will be asked about under."""
        for request, result in zip(requests, results, strict=True):
            if isinstance(request, Upscale) and isinstance(result, Upscaled):
                made = request.view.provenance.then(f"x{request.factor}:{result.fingerprint}")
                digest = digest_of(result.pixels)
                self._note(self._digests, made.key, digest)
                self._note(self._held, digest, None)

    def _note(self, known: OrderedDict[str, Any], key: str, value: Any) -> None:
        with self._lock:
            known[key] = value
            known.move_to_end(key)
            while len(known) > REMEMBERED:
                known.popitem(last=False)


class ServedExpert:
    """An expert on a server. Made by ``connect``.

    It gives the results of the expert itself. A call is split among the server's replicas, images stay together. Every
    call has an end: an attempt takes ``timeout`` seconds at most, all of them ``deadline``; in between the client
    waits, longer each time. Asking again changes nothing, since answers depend on what is asked alone. What could not
    be served by then has failed, and its episode is invalid. A request over which the server breaks down, or to which
    it answers garbage, is given up after three times; one of several is asked alone then, as the pool does it.

    Attributes:
        concurrent_calls: how many calls it takes at the same time.
    """

    per_sample = False
    remote = True
    """It runs elsewhere already: a copy of it in another process of this machine would be of no use."""
    mixes_capabilities = True
    """A batch may hold requests of several capabilities: the server sorts them."""

    def __init__(
        self,
        shared: _Shared,
        *,
        key: str,
        name: str,
        fingerprint: str,
        capabilities: tuple[str, ...],
        most: int,
        replicas: int,
        body_bytes: int,
    ) -> None:
        self._shared, self.key, self.name, self.fingerprint = shared, key, name, fingerprint
        self.capabilities = capabilities
        self._most, self._replicas, self._body_bytes = most, replicas, body_bytes
        self.max_batch = most * replicas
        self.concurrent_calls = _CONCURRENT

    @property
    def address(self) -> str:
        """Where it is served."""
        return self._shared.address

    def __repr__(self) -> str:
        return f"ServedExpert({self.name!r} at {self.address!r})"

    def run(self, requests: Sequence[Request]) -> list[Result | ExpertFailure | ExpertError]:
        """Answer a batch.

        Returns:
            In order: results; an ``ExpertFailure`` for each request that could not be served; an ``ExpertError`` for
            each that is worth asking alone.
        """
        if not requests:
            return []
        answers: dict[int, Result | ExpertFailure | ExpertError] = {}
        end = time.monotonic() + self._shared.patience.deadline
        digests, pixels = self._shared.digests(requests)
        parts = self._parts(requests, digests, pixels)
        errors: list[BaseException] = []

        def ask(part: list[int]) -> None:
            try:
                asked = [requests[place] for place in part]
                answers.update(zip(part, self._answered(asked, digests, pixels, end), strict=True))
            except BaseException as error:
                errors.append(error)

        # Daemons: whoever is interrupted while it waits here need not wait for them at the end.
        others = [threading.Thread(target=ask, args=(part,), daemon=True) for part in parts[1:]]
        for thread in others:
            thread.start()
        for part in parts[:1]:
            ask(part)
        for thread in others:
            thread.join()
        if errors:
            raise errors[0]
        return [answers[place] for place in range(len(requests))]

    def _parts(
        self, requests: Sequence[Request], digests: dict[str, str], pixels: dict[str, Pixels]
    ) -> list[list[int]]:
        """Which requests go together, as positions: those about one image, as evenly as that allows."""
        by_image: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            by_image.setdefault(digests[request.view.provenance.key], []).append(place)
        room, even = 0.9 * self._body_bytes, math.ceil(len(requests) / self._replicas)
        parts: list[list[int]] = [[]]
        named: set[str] = set()
        size = 0.0
        for places in by_image.values():
            if len(parts[-1]) >= even:
                parts.append([])
            for place in places:
                names = {digests[view.provenance.key] for view in views_of(requests[place])}
                named = named if parts[-1] else set()
                size = size if parts[-1] else 0.0
                adds = _reply_bytes(requests[place]) + sum(pixels[name].nbytes for name in names - named)
                if parts[-1] and (len(parts[-1]) >= self._most or size + adds > room):
                    parts.append([])
                    named, size = set(), 0.0
                    adds = _reply_bytes(requests[place]) + sum(pixels[name].nbytes for name in names)
                parts[-1].append(place)
                named |= names
                size += adds
        return parts

    def _answered(
        self, requests: list[Request], digests: dict[str, str], pixels: dict[str, Pixels], end: float
    ) -> Sequence[Result | ExpertFailure | ExpertError]:
        """What comes of a part, with all its attempts."""
        patience, attempt, faults, why = self._shared.patience, 0, 0, "it was not asked"
        while (left := end - time.monotonic()) > 0:
            try:
                return self._attempt(requests, digests, pixels, time.monotonic() + min(left, patience.timeout))
            except Refused as error:
                return [ExpertFailure(self.name, f"{error}, at {self.address}")] * len(requests)
            except (Faulty, WireError) as error:
                faults, why = faults + 1, str(error)
                if faults == FAULTS:
                    failed = f"{FAULTS} times: {why}, at {self.address}"
                    if len(requests) > 1:
                        return [ExpertError(self.name, failed) for _ in requests]
                    return [ExpertFailure(self.name, failed)]
            except NotServed as error:
                why = str(error)
            attempt += 1
            time.sleep(max(0.0, min(patience.wait(attempt, self._shared.chance), end - time.monotonic())))
        return [ExpertFailure(self.name, f"not served within {patience.deadline:g} s, at {self.address}: {why}")] * len(
            requests
        )

    def _attempt(
        self, requests: list[Request], digests: dict[str, str], pixels: dict[str, Pixels], end: float
    ) -> list[Result | ExpertFailure | ExpertError]:
        """Ask once; pixels are sent where the server does not hold them, or says so."""
        named = {digests[view.provenance.key] for request in requests for view in views_of(request)}
        send = {name for name in sorted(named) if not self._shared.holds(name)}
        for _ in range(2):
            sent = {name: pixels[name] for name in sorted(send)}
            if (size := sum(image.nbytes for image in sent.values())) > self._body_bytes:
                raise Refused(f"the server takes {self._body_bytes} bytes in one request, but its images have {size}")
            message = pack_requests(requests, digests, sent, fingerprint=self.fingerprint)
            left = end - time.monotonic()
            if left <= 0:
                break
            limits = Limits(body_bytes=self._shared.transport.most)
            reply = unpack(self._shared.transport.answer(self.key, message, left), limits)
            if "need" not in reply.header:
                return self._checked(requests, unpack_results(reply), named)
            needed = set(reply.fields.texts("need"))
            if not needed <= named:
                raise WireError("the server needs images that it was not asked about")
            send |= needed
        raise NotServed("the server has not kept the images that were sent")

    def _checked(
        self, requests: list[Request], results: list[Result | ExpertFailure | ExpertError], named: set[str]
    ) -> list[Result | ExpertFailure | ExpertError]:
        if len(results) != len(requests):
            raise WireError(f"expected {len(requests)} results, but got {len(results)}")
        for request, result in zip(requests, results, strict=True):
            if not isinstance(result, (ExpertFailure, ExpertError)):
                try:
                    check_result(request, result)
                except InvalidData as error:
                    raise WireError(f"the server sent a result that is none: {error}") from None
        self._shared.note_held(sorted(named))
        self._shared.note_made(requests, results)
        return results


def _reply_bytes(request: Request) -> int:
    """What the answer takes, where that is much."""
    if isinstance(request, Upscale):
        return request.factor**2 * request.view.pixels.nbytes
    return 4 * math.prod(request.view.size) if isinstance(request, EstimateDepth) else 0
