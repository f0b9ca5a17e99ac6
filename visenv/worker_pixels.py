"""Which pixels go to another process: each image once, only what an expert is to see of it, and not what it made."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from visenv.capabilities import ExpertFailure, Request, Result, Upscale, Upscaled, View
from visenv.errors import ExpertError
from visenv.geometry import scaling
from visenv.images import Provenance, RootPixels
from visenv.types import Pixels

HELD_BYTES = 64 * 2**20
"""What a process remembers of pixels."""
_NO_PIXELS = np.zeros((0, 0, 3), np.uint8)


@dataclass(frozen=True, eq=False)
class Glance:
    """An image that a process may look at while nobody asks it anything: it will likely be asked about it."""

    view: View


class Later:
    """A view that is to be looked at if somebody still holds its pixels by then.

    Args:
        view: what to look at.
    """

    def __init__(self, view: View) -> None:
        self._steps = view.provenance.steps
        self._root, self._pixels = weakref.ref(view.provenance.root), weakref.ref(view.pixels)
        self._rest = (view.name, view.root, view.to_root, view.sample_id)

    def view(self) -> View | None:
        """The view; None if nobody holds its pixels any more."""
        root, pixels = self._root(), self._pixels()
        return None if root is None or pixels is None else View(pixels, Provenance(root, self._steps), *self._rest)


Message: TypeAlias = "Request | Glance"


@dataclass(frozen=True)
class Parcel:
    """Requests on their way to another process."""

    requests: list[Message]
    """Without their pixels."""
    pixels: dict[str, Pixels]
    """Those that the process does not hold yet, by provenance key."""
    forgotten: list[str]
    """Keys of those that it need not hold any more."""


class Ledger:
    """What one process holds, as the one that sends it knows.

    Args:
        limit: in bytes; what was used least recently is forgotten first.
    """

    def __init__(self, limit: int = HELD_BYTES) -> None:
        self.limit = limit
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._forgotten: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self._sizes

    def parcel(self, requests: Sequence[Message]) -> Parcel:
        """Requests as the process needs them; what is sent along, it holds from now on."""
        views = {request.view.provenance.key: request.view for request in requests}
        fresh = {key: np.ascontiguousarray(view.pixels) for key, view in views.items() if key not in self}
        for key, view in views.items():
            self._hold(key, view.pixels.nbytes)
        self._shrink(set(views))
        forgotten, self._forgotten = [key for key in self._forgotten if key not in self], []
        return Parcel([_light(request) for request in requests], fresh, forgotten)

    def note(self, requests: Sequence[Request], answers: Sequence[Result | ExpertFailure | ExpertError]) -> list[str]:
        """Take note of the images that the process made, and holds since; their keys."""
        new = made(requests, answers)
        for key, pixels in new.items():
            self._hold(key, pixels.nbytes)
        self._shrink(set())
        return list(new)

    def _hold(self, key: str, size: int) -> None:
        self._sizes[key] = size
        self._sizes.move_to_end(key)

    def _shrink(self, needed: set[str]) -> None:
        size = sum(self._sizes.values())
        for key in [key for key in self._sizes if key not in needed]:
            if size <= self.limit:
                break
            size -= self._sizes.pop(key)
            self._forgotten.append(key)


def unpack(parcel: Parcel, held: dict[str, Pixels]) -> list[Message]:
    """The requests of a parcel, with their pixels.

    Args:
        parcel: as it came.
        held: what this process holds, by provenance key; brought up to date.
    """
    for key in parcel.forgotten:
        held.pop(key, None)
    hold(parcel.pixels, held)
    return [
        replace(request, view=replace(request.view, pixels=held[request.view.provenance.key]))
        for request in parcel.requests
    ]


def hold(images: Mapping[str, Pixels], held: dict[str, Pixels]) -> None:
    """Keep images, for good as they are: experts are given them again."""
    for key, pixels in images.items():
        held[key] = pixels.view()
        held[key].flags.writeable = False


def made(requests: Sequence[Message], answers: Sequence[Result | ExpertFailure | ExpertError]) -> dict[str, Pixels]:
    """The images that answers brought into being, by the provenance keys that they will be asked about under."""
    return {view.provenance.key: view.pixels for view in made_views(requests, answers)}


def made_views(requests: Sequence[Message], answers: Sequence[Result | ExpertFailure | ExpertError]) -> list[View]:
    """The same, as experts will be shown them."""
    return [
        View(
            answer.pixels,
            request.view.provenance.then(f"x{request.factor}:{answer.fingerprint}"),
            to_root=request.view.to_root @ scaling(1 / request.factor),
            root=request.view.root,
            sample_id=request.view.sample_id,
        )
        for request, answer in zip(requests, answers, strict=True)
        if isinstance(request, Upscale) and isinstance(answer, Upscaled)
    ]


def _light(request: Message) -> Message:
    """A request without pixels, neither the image's nor its root's."""
    provenance = request.view.provenance
    root = RootPixels(_NO_PIXELS)
    vars(root)["digest"] = provenance.root.digest  # what would be computed from the pixels that stay behind
    return replace(
        request, view=replace(request.view, pixels=_NO_PIXELS, provenance=Provenance(root, provenance.steps))
    )
