"""What all neural experts share: weights that are checked at once and loaded when needed, a device, a budget."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

from visenv.capabilities import ExpertFailure, Request, Result, View
from visenv.errors import ExpertError, InvalidData
from visenv.experts.models.placing import Placement, import_torch, place
from visenv.experts.models.weights import files_digest, module_digest
from visenv.images import Provenance, RootPixels

if TYPE_CHECKING:
    from torch import nn

M = TypeVar("M")
"""What a family's ``_load`` returns: a model, or a model and its processor."""


class ModelExpert(ABC, Generic[M]):
    """An expert with a neural network, from a folder, a file, the hub's cache, or built by the user.

    Whether the weights and the device are there is checked at construction; the network is loaded when it is first
    needed (or by ``load`` and ``warm_up``). A copy in another process takes the path of the weights along and loads
    them there; a network that the user has built is copied itself.

    A subclass names its ``family``, ``extra`` and ``capabilities``, finds its files (``_find``), loads them (``_load``)
    and answers (``_answer``); what of its keywords changes results it passes on as ``settings``.

    Args:
        model: a folder, a file, a hub id (``owner/name``), or what ``_load`` would return.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        compile: whether the network is compiled by ``torch.compile``: slow to begin with, faster after that.
        max_batch: the most requests in one call.
        memory_mb: the most megabytes (10^6 bytes) that weights and what is remembered may take together on the device;
            None for no limit.
        settings: what else decides results, as plain values; part of the fingerprint.

    Attributes:
        placement: the device and the precision.

    Raises:
        MissingWeights: if the weights are not there; the message says how to get them.
        MissingDependency: if a package is missing.
        InvalidData: if the device or another value is out of range.
    """

    family: ClassVar[str]
    extra: ClassVar[str]
    """Which of visenv's extras brings what the family needs."""
    per_sample = False
    capabilities: tuple[str, ...]

    def __init__(
        self,
        model: Any,
        *,
        device: str = "auto",
        precision: str = "auto",
        compile: bool = False,
        max_batch: int = 16,
        memory_mb: float | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        import_torch(self.extra)
        for name, value in (("max_batch", max_batch), ("memory_mb", memory_mb)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value < 1):
                raise InvalidData(f"Expected {name} to be a number of at least 1, but got {value!r}.")
        self.name = self.family
        self.max_batch = int(max_batch)
        self.memory_mb = memory_mb
        self.compile = compile
        self.placement: Placement = place(device, precision)
        self._from_files = isinstance(model, (str, Path))
        self._source = self._find(model) if self._from_files else None
        self._loaded: M | None = None
        self._given: M | None = None if self._from_files else model
        if self._source is not None:
            digest = files_digest(*self._source)
        else:
            modules = self._modules(model)
            if not modules:
                raise InvalidData(
                    f"Expected model to be a folder, a file, a hub id or a built model of {self.family}, but got "
                    f"{type(model).__name__}."
                )
            digest = "-".join(module_digest(module) for module in modules)
        details = repr(sorted((settings or {}).items())) + self._version()
        short = hashlib.blake2b(details.encode(), digest_size=4).hexdigest()
        self.fingerprint = f"{self.family}-{digest}-{self.placement.precision}-{short}"
        self._lock = threading.RLock()

    # --- what a family says of itself ---------------------------------------------------------------------------------

    @abstractmethod
    def _find(self, source: str | Path) -> tuple[Path, ...]:
        """The files or folders of the weights, the one to load first; raises MissingWeights."""

    @abstractmethod
    def _load(self, source: tuple[Path, ...]) -> M:
        """Read the model from what ``_find`` found; never executes code from there."""

    @abstractmethod
    def _answer(self, model: M, requests: Sequence[Request]) -> Sequence[Result | ExpertFailure | ExpertError]:
        """Answer a batch, without gradients."""

    @abstractmethod
    def _modules(self, model: Any) -> list[nn.Module]:
        """The networks in what ``_load`` returns; none if it is something else."""

    def _place(self, module: nn.Module) -> None:
        """Move a network to the device and into the precision."""
        module.to(self.placement.device)
        # What is read in the right precision keeps in fp32 what its authors keep so (angles, for one).
        if any(p.is_floating_point() and p.dtype != self.placement.dtype for p in module.parameters()):
            module.to(self.placement.dtype)

    @property
    def _dynamic(self) -> bool | None:
        """Whether all sizes may change from call to call, as ``torch.compile`` asks; None for those that do."""
        return True

    def _called(self, model: M) -> list[nn.Module]:
        """The networks, or the parts of them, that ``_answer`` calls: ``torch.compile`` is put on these."""
        return self._modules(model)

    def _version(self) -> str:
        """Of whatever else decides results: packages, code."""
        return ""

    def _forget(self) -> None:
        """Drop what is remembered of images."""

    # --- using it -----------------------------------------------------------------------------------------------------

    def run(self, requests: Sequence[Request]) -> Sequence[Result | ExpertFailure | ExpertError]:
        """Answer a batch; result ``i`` belongs to request ``i``."""
        if not requests:
            return []
        import torch

        with self._lock, torch.inference_mode(), self._freeing_memory():
            return self._answer(self.load(), requests)

    def load(self) -> M:
        """The model on its device; read now if it was not yet.

        Raises:
            InvalidData: if it takes more than ``memory_mb``, or more than the device has left.
        """
        with self._lock:
            if self._loaded is None:
                made = self._load(self._source) if self._source is not None else self._given
                assert made is not None
                modules = self._modules(made)
                self._check_room(modules)
                for module in modules:
                    self._place(module.eval().requires_grad_(False))
                for module in self._called(made) if self.compile else ():
                    module.compile(dynamic=self._dynamic)
                self._loaded = made
            return self._loaded

    def unload(self) -> None:
        """Free the device's memory; the model is loaded again when it is next needed."""
        with self._lock:
            self._forget()
            if self._loaded is not None and self._given is not None:
                for module in self._modules(self._given):
                    module.to("cpu")
            self._loaded = None
            self._empty_cache()

    def warm_up(self) -> None:
        """Load the model, and answer a request of each kind on a grey picture: the first real one is not slow then."""
        pixels = np.full((64, 64, 3), 128, np.uint8)
        view = View(pixels, Provenance(RootPixels(pixels)))
        for request in self._examples(view):
            self.run([request])
        self._forget()

    def _examples(self, view: View) -> list[Request]:
        """A request of each kind that this expert answers."""
        from visenv.capabilities import CAPABILITIES, Prompt, SegmentPrompts

        made: list[Request] = []
        for name in self.capabilities:
            if name == "SegmentPrompts":
                made.append(SegmentPrompts(view, (Prompt(points=np.array([[32.0, 32.0]])),)))
            elif name in ("GroundPhrase", "PointPhrase"):
                made.append(CAPABILITIES[name](view, "thing"))
            else:
                made.append(CAPABILITIES[name](view))
        return made

    @property
    def spare_bytes(self) -> int | None:
        """What of ``memory_mb`` the loaded weights leave for what is remembered; None for no limit."""
        if self.memory_mb is None:
            return None
        return max(0, int(self.memory_mb * 1e6) - _bytes_of(self._modules(self.load()), self.placement))

    def _check_room(self, modules: Sequence[nn.Module]) -> None:
        import torch

        needed = _bytes_of(modules, self.placement)
        if self.memory_mb is not None and needed > self.memory_mb * 1e6:
            raise InvalidData(
                f"Expected the weights of {self.name} to fit into memory_mb={self.memory_mb:g}, but they take "
                f"{needed / 1e6:.0f} MB in {self.placement.precision}."
            )
        if self.placement.device.type == "cuda":
            free = torch.cuda.mem_get_info(self.placement.device)[0]
            if needed > free:
                raise InvalidData(
                    f"Expected {needed / 1e6:.0f} MB free on {self.placement.device} for {self.name}, but only "
                    f"{free / 1e6:.0f} MB are: unload another expert, or choose another device or precision."
                )

    @contextlib.contextmanager
    def _freeing_memory(self) -> Iterator[None]:
        """Give back what a failed batch took before the pool tries a smaller one."""
        import torch

        try:
            yield
        except torch.OutOfMemoryError as error:
            self._empty_cache()
            raise MemoryError(f"out of memory on {self.placement.device}: {error}") from error

    def _empty_cache(self) -> None:
        import torch

        if self.placement.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.placement.device.type == "mps":
            torch.mps.empty_cache()

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name not in ("_lock", "_loaded")}
        return state | {"_loaded": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock())


def share(value: float, name: str) -> float:
    """A threshold, if it is a number from 0 to 1.

    Args:
        value: the threshold.
        name: of the keyword, for the message.

    Raises:
        InvalidData: if it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise InvalidData(f"Expected {name} to be a number from 0 to 1, but got {value!r}.")
    return float(value)


def _bytes_of(modules: Sequence[nn.Module], placement: Placement) -> int:
    """What networks take on the device, in its precision; what they share counts once."""
    tensors = {id(part): part for module in modules for part in (*module.parameters(), *module.buffers())}
    return sum(
        tensor.numel() * (placement.dtype.itemsize if tensor.is_floating_point() else tensor.dtype.itemsize)
        for tensor in tensors.values()
    )
