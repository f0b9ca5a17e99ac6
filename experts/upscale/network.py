"""Super-resolution networks that spandrel reads, applied in tiles."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Sequence
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from visenv.capabilities import ExpertFailure, Request, Result, Upscale, Upscaled, not_answered
from visenv.errors import ExpertError, InvalidData, MissingDependency
from visenv.experts.models.base import ModelExpert
from visenv.experts.models.weights import find_file
from visenv.experts.upscale.tiles import Canvas
from visenv.types import Pixels

if TYPE_CHECKING:
    import torch
    from torch import nn

_RELEASES = "https://github.com/xinntao/Real-ESRGAN/releases/download"
URLS = {
    "RealESRGAN_x4plus.pth": f"{_RELEASES}/v0.1.0/RealESRGAN_x4plus.pth",
    "RealESRGAN_x2plus.pth": f"{_RELEASES}/v0.2.1/RealESRGAN_x2plus.pth",
    "RealESRGAN_x4plus_anime_6B.pth": f"{_RELEASES}/v0.2.2.4/RealESRGAN_x4plus_anime_6B.pth",
    "RealESRNet_x4plus.pth": f"{_RELEASES}/v0.1.1/RealESRNet_x4plus.pth",
    "realesr-general-x4v3.pth": f"{_RELEASES}/v0.2.5.0/realesr-general-x4v3.pth",
}
"""Where published weights are fetched from."""
_NAMES = ("RealESRGAN_x4plus.pth", "model.safetensors", "model.pth")
MAX_PIXELS = 200_000_000
"""The largest image that is made on the way or in the end, in pixels."""


def too_large(request: Upscale, factor: int) -> str | None:
    """Why a request cannot be answered, or None if it can.

    Args:
        request: what is asked.
        factor: by how much the image is enlarged on the way.
    """
    width, height = request.view.size
    if isinstance(request.factor, bool) or not isinstance(request.factor, int) or request.factor < 1:
        return f"expected a whole factor of at least 1, but got {request.factor!r}"
    if width * height * factor * factor > MAX_PIXELS:
        return (
            f"expected an enlarged image of at most {MAX_PIXELS} pixels, but {width}x{height} x {factor} is larger: "
            "split it into patches first"
        )
    return None


class Network:
    """A network of spandrel with what is known of it.

    Args:
        descriptor: as ``spandrel.ModelLoader`` gives it.

    Raises:
        InvalidData: if it does not enlarge pictures of three channels.
    """

    def __init__(self, descriptor: Any) -> None:
        from spandrel import ImageModelDescriptor

        if not isinstance(descriptor, ImageModelDescriptor):
            raise InvalidData(f"Expected a model that enlarges images, but got {type(descriptor).__name__}.")
        channels = (descriptor.input_channels, descriptor.output_channels)
        if channels != (3, 3) or descriptor.scale < 2:
            raise InvalidData(
                f"Expected a model that makes images of 3 channels larger, but got one that makes {channels[0]} "
                f"channels {channels[1]}, {descriptor.scale} times as large ({descriptor.architecture.name})."
            )
        self.descriptor = descriptor

    @property
    def scale(self) -> int:
        """How many times larger one pass makes an image."""
        return int(self.descriptor.scale)

    def passes(self, factor: int) -> tuple[int, int]:
        """How many passes reach a factor, and how many times larger the image is then."""
        count, reached = 0, 1
        while reached < factor:
            count, reached = count + 1, reached * self.scale
        return count, reached

    def __reduce__(self) -> tuple[Any, ...]:
        """By its tensors: what spandrel adds cannot be pickled."""
        state = {name: tensor.cpu() for name, tensor in self.descriptor.model.state_dict().items()}
        return _revived, (pickle.dumps(state),)


def _revived(state: bytes) -> Network:
    from spandrel import ModelLoader

    return Network(ModelLoader().load_from_state_dict(pickle.loads(state)))


def read_network(path: Path) -> Network:
    """Read a checkpoint: tensors, and nothing else of what is in it.

    Args:
        path: a ``.safetensors`` file, or one of torch (``.pth``, ``.pt``, ``.ckpt``).

    Raises:
        InvalidData: if it holds more than tensors, or no network that spandrel knows.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from spandrel import ModelLoader, UnsupportedModelError, canonicalize_state_dict

    try:
        if path.suffix.lower() == ".safetensors":
            state: Any = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*TorchScript archive")  # It is refused all the same.
                state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise InvalidData(
            f"Expected tensors alone in {path}, but it is damaged or holds something else, and was not read "
            f"({type(error).__name__})."
        ) from error
    try:
        return Network(ModelLoader().load_from_state_dict(canonicalize_state_dict(state)))
    except InvalidData:
        raise
    except UnsupportedModelError as error:
        raise InvalidData(f"Expected a network in {path} that spandrel {_version()} knows, but got another.") from error
    except Exception as error:  # Of the many architectures, each checks in its own way.
        raise InvalidData(
            f"Expected the weights of a network in {path}, but they do not fit: {error!s:.300}"
        ) from error


def _version() -> str:
    return metadata.version("spandrel")


class NetworkUpscaler(ModelExpert[Network]):
    """Enlarges images by a network; ``UpscaleExpert`` says how."""

    family, extra = "upscale", "upscale"
    capabilities = ("Upscale",)

    def __init__(self, model: Any, *, tile: int, overlap: int, precision: str, **keywords: Any) -> None:
        try:
            import spandrel  # noqa: F401
        except ImportError as error:
            raise MissingDependency('Super-resolution needs spandrel: pip install "visenv[upscale]".') from error
        self.tile, self.overlap = tile, overlap
        self._asked = precision
        given = model if isinstance(model, (str, Path)) else Network(model)
        super().__init__(given, precision=precision, settings={"tile": tile, "overlap": overlap}, **keywords)

    def _find(self, source: str | Path) -> tuple[Path, ...]:
        return (find_file(source, _NAMES, url=URLS.get(Path(source).name)),)

    def _load(self, source: tuple[Path, ...]) -> Network:
        return read_network(source[0])

    def _modules(self, model: Any) -> list[nn.Module]:
        return [model.descriptor.model]

    def _version(self) -> str:
        return f"1-{_version()}"

    def load(self) -> Network:
        """The model on its device; read now if it was not yet.

        Raises:
            InvalidData: if it cannot be read, does not compute in the precision asked for, or takes too much memory.
        """
        with self._lock:
            fresh = self._loaded is None
            network = super().load()
            if fresh and not self._computes(network):
                if self._asked != "auto":
                    self._loaded = None
                    raise InvalidData(
                        f"Expected precision to be fp32 or auto, since {network.descriptor.architecture.name} does not "
                        f"compute in {self._asked}."
                    )
                network.descriptor.model.float()
            return network

    def _computes(self, network: Network) -> bool:
        descriptor = network.descriptor
        able = {"fp16": descriptor.supports_half, "bf16": descriptor.supports_bfloat16}
        return bool(able.get(self.placement.precision, True))

    def _answer(self, model: Network, requests: Sequence[Request]) -> Sequence[Result | ExpertFailure | ExpertError]:
        answers: list[Result | ExpertFailure] = []
        waiting: dict[int, Pixels] = {}
        for index, request in enumerate(requests):
            if not isinstance(request, Upscale):
                raise not_answered(self.name, request)
            why = too_large(request, 1) or too_large(request, model.passes(request.factor)[1])
            answers.append(ExpertFailure(self.name, why) if why else Upscaled(request.view.pixels, self.fingerprint))
            if not why:
                waiting[index] = request.view.pixels
        left = {i: model.passes(requests[i].factor)[0] for i in waiting}  # type: ignore[union-attr]
        while any(left.values()):
            now = [index for index, count in left.items() if count]
            for index, grown in zip(now, self._enlarged(model, [waiting[i] for i in now]), strict=True):
                waiting[index], left[index] = grown, left[index] - 1
        for index, pixels in waiting.items():
            request = requests[index]
            assert isinstance(request, Upscale)
            answers[index] = Upscaled(_fitted(pixels, request), self.fingerprint)
        return answers

    def _enlarged(self, model: Network, pictures: Sequence[Pixels]) -> list[Pixels]:
        """One pass over several pictures, whose tiles go through the network together where they are of one size."""
        canvases = [Canvas(picture, self.tile, self.overlap, model.scale) for picture in pictures]
        for _, same in groupby(sorted(canvases, key=lambda canvas: canvas.tile), key=lambda canvas: canvas.tile):
            places = [(canvas, index) for canvas in same for index in range(len(canvas))]
            for start in range(0, len(places), self.max_batch):
                part = places[start : start + self.max_batch]
                grown = self._pass(model, [canvas.part(index) for canvas, index in part])
                for (canvas, _), tile in zip(part, grown, strict=True):
                    canvas.add(tile)
        return [canvas.result for canvas in canvases]

    def _pass(self, model: Network, tiles: Sequence[Pixels]) -> list[Any]:
        """Tiles of one size through the network; in halves, if the device's memory does not hold so many."""
        import torch

        weight = next(iter(model.descriptor.model.parameters()))
        batch = torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).to(self.placement.device)
        try:
            grown: torch.Tensor = model.descriptor(batch.to(weight.dtype) / 255)
        except torch.OutOfMemoryError:
            if len(tiles) == 1:
                raise
            grown = None  # type: ignore[assignment]
        if grown is None:
            self._empty_cache()
            middle = len(tiles) // 2
            return self._pass(model, tiles[:middle]) + self._pass(model, tiles[middle:])
        return list(grown.permute(0, 2, 3, 1).float().cpu().numpy())


def _fitted(pixels: Pixels, request: Upscale) -> Pixels:
    """An image that was enlarged too much, or not at all, in the size that was asked for."""
    width, height = (side * request.factor for side in request.view.size)
    if pixels.shape[:2] == (height, width):
        return pixels.copy() if request.factor == 1 else pixels
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
