"""Which pixels go to another process: each image once, only what an expert is to see of it, and not what it made."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from visenv.capabilities import ExpertFailure, Request, Result, Upscale, Upscaled
from visenv.errors import ExpertError
from visenv.images import Provenance, RootPixels
from visenv.types import Pixels

HELD_BYTES = 64 * 2**20
"""What a process remembers of pixels."""
_NO_PIXELS = np.zeros((0, 0, 3), np.uint8)


@dataclass(frozen=True)
class Parcel:
    """Requests on their way to another process."""

    requests: list[Request]
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

    def parcel(self, requests: Sequence[Request]) -> Parcel:
        """Requests as the process needs them; what is sent along, it holds from now on."""
        views = {request.view.provenance.key: request.view for request in requests}
        fresh = {key: np.ascontiguousarray(view.pixels) for key, view in views.items() if key not in self}
        for key, view in views.items():
            self._hold(key, view.pixels.nbytes)
        self._shrink(set(views))
        forgotten, self._forgotten = [key for key in self._forgotten if key not in self], []
        return Parcel([_light(request) for request in requests], fresh, forgotten)

    def note(self, requests: Sequence[Request], answers: Sequence[Result | ExpertFailure | ExpertError]) -> None:
        """Take note of the images that the process made, and holds since."""
        for key, pixels in made(requests, answers).items():
            self._hold(key, pixels.nbytes)
        self._shrink(set())

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


def unpack(parcel: Parcel, held: dict[str, Pixels]) -> list[Request]:
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


def made(requests: Sequence[Request], answers: Sequence[Result | ExpertFailure | ExpertError]) -> dict[str, Pixels]:
    """The images that answers brought into being, by the provenance keys that they will be asked about under."""
    return {
        request.view.provenance.then(f"x{request.factor}:{answer.fingerprint}").key: answer.pixels
        for request, answer in zip(requests, answers, strict=True)
        if isinstance(request, Upscale) and isinstance(answer, Upscaled)
    }


def _light(request: Request) -> Request:
    """A request without pixels, neither the image's nor its root's."""
    provenance = request.view.provenance
    root = RootPixels(_NO_PIXELS)
    vars(root)["digest"] = provenance.root.digest  # what would be computed from the pixels that stay behind
    return replace(
        request, view=replace(request.view, pixels=_NO_PIXELS, provenance=Provenance(root, provenance.steps))
    )
