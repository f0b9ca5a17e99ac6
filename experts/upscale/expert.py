"""Super-resolution as an expert."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from visenv.capabilities import ExpertFailure, Request, Result, Upscale, Upscaled, View, not_answered
from visenv.errors import ExpertError, InvalidData
from visenv.experts.upscale import lanczos
from visenv.experts.upscale.network import NetworkUpscaler, too_large
from visenv.images import Provenance, RootPixels

LANCZOS = "lanczos"


class UpscaleExpert:
    """Enlarges images by Real-ESRGAN and whatever else spandrel reads, or by Lanczos' filter.

    A network is applied once, or as often as the factor asked for needs (two passes of a 2x network are 4x); what is
    too large then is made smaller by averaging. Large images are cut into tiles that overlap, of which one row at a
    time is kept in floating point, and whose results are blended.

    Args:
        model: a file of weights that spandrel reads, a folder or hub id with one, a descriptor that
            ``spandrel.ModelLoader`` gave; or ``lanczos``, which needs neither weights nor torch.
        tile: side of a tile in pixels of the image given, at least 16.
        overlap: by how much neighbouring tiles overlap, at most half a tile. Of the overlap the outer quarter is
            thrown away, since a network sees too little there.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``; with ``auto``, fp32 where the network cannot do with less.
        compile: whether the network is compiled.
        max_batch: the most requests in one call, and the most tiles in one pass.
        memory_mb: the most megabytes that the weights may take; None for no limit.

    Raises:
        MissingWeights: if the weights are not there; the message says how to get them.
        MissingDependency: if spandrel is missing.
        InvalidData: if a value is out of range.

    Example:
        >>> from visenv.images import Provenance, RootPixels
        >>> pixels = np.zeros((5, 7, 3), np.uint8)
        >>> expert = UpscaleExpert("lanczos")
        >>> expert.run([Upscale(View(pixels, Provenance(RootPixels(pixels))), factor=4)])[0].pixels.shape
        (20, 28, 3)
    """

    name = "upscale"
    per_sample = False

    def __init__(
        self,
        model: Any,
        *,
        tile: int = 512,
        overlap: int = 48,
        device: str = "auto",
        precision: str = "auto",
        compile: bool = False,
        max_batch: int = 4,
        memory_mb: float | None = None,
    ) -> None:
        if type(tile) is not int or tile < 16:
            raise InvalidData(f"Expected tile to be a whole number of at least 16 pixels, but got {tile!r}.")
        if type(overlap) is not int or not 0 <= overlap <= tile // 2:
            raise InvalidData(f"Expected overlap to be from 0 to half a tile, but got {overlap!r}.")
        if type(max_batch) is not int or max_batch < 1:
            raise InvalidData(f"Expected max_batch to be a number of at least 1, but got {max_batch!r}.")
        self.capabilities: tuple[str, ...] = ("Upscale",)
        self.max_batch = max_batch
        self.network: NetworkUpscaler | None = None
        """What enlarges by a network; None for Lanczos' filter."""
        if model != LANCZOS:
            self.network = NetworkUpscaler(
                model,
                tile=tile,
                overlap=overlap,
                device=device,
                precision=precision,
                compile=compile,
                max_batch=max_batch,
                memory_mb=memory_mb,
            )
        self.fingerprint = lanczos.FINGERPRINT if self.network is None else self.network.fingerprint

    def run(self, requests: Sequence[Request]) -> Sequence[Result | ExpertFailure | ExpertError]:
        """Answer a batch; result ``i`` belongs to request ``i``."""
        if self.network is not None:
            return self.network.run(requests)
        return [self._filtered(request) for request in requests]

    def _filtered(self, request: Request) -> Result | ExpertFailure:
        if not isinstance(request, Upscale):
            raise not_answered(self.name, request)
        why = too_large(request, 1) or too_large(request, request.factor)
        if why:
            return ExpertFailure(self.name, why)
        return Upscaled(lanczos.lanczos(request.view.pixels, request.factor), self.fingerprint)

    def load(self) -> None:
        """Read the network now, if it was not yet.

        Raises:
            InvalidData: if it cannot be read, does not compute in the precision asked for, or takes too much memory.
        """
        if self.network is not None:
            self.network.load()

    def unload(self) -> None:
        """Free the device's memory; the network is loaded again when it is next needed."""
        if self.network is not None:
            self.network.unload()

    def warm_up(self) -> None:
        """Load the network, and enlarge a grey picture: the first real one is not slow then."""
        pixels = np.full((64, 64, 3), 128, np.uint8)
        self.run([Upscale(View(pixels, Provenance(RootPixels(pixels))))])
