"""Where a model runs and in what precision, checked before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from visenv.errors import InvalidData, MissingDependency

if TYPE_CHECKING:
    import torch

PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Placement:
    """A device and a precision that this machine has."""

    device: torch.device
    dtype: torch.dtype

    @property
    def precision(self) -> str:
        """As it is written in presets."""
        import torch

        return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[self.dtype]


def import_torch(extra: str) -> None:
    """Make sure that torch can be imported.

    Args:
        extra: which of visenv's extras brings it to the expert that asks.

    Raises:
        MissingDependency: naming the extra.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingDependency(f'This expert needs torch: pip install "visenv[{extra}]".') from error


def place(device: str = "auto", precision: str = "auto") -> Placement:
    """The device and the precision to run in.

    Args:
        device: ``auto`` (CUDA if there is one, else Apple's MPS, else the CPU), ``cpu``, ``cuda``, ``cuda:N``, ``mps``.
        precision: ``fp32``, ``bf16``, ``fp16``, or ``auto``: bf16 where CUDA computes in it, fp32 elsewhere.

    Raises:
        InvalidData: if this machine has no such device, or the device does not compute in that precision.
    """
    import torch

    if precision not in PRECISIONS:
        raise InvalidData(f"Expected precision to be one of {', '.join(PRECISIONS)}, but got {precision!r}.")
    where = _device(device)
    if precision == "auto":
        fits = where.type == "cuda" and torch.cuda.is_bf16_supported()
        return Placement(where, torch.bfloat16 if fits else torch.float32)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    if precision == "fp16" and where.type == "cpu":
        raise InvalidData("Expected fp32 or bf16 on the CPU, which computes in fp16 slowly or not at all; got fp16.")
    if precision == "bf16" and where.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise InvalidData(f"Expected fp16 or fp32, since {torch.cuda.get_device_name(where)} has no bf16; got bf16.")
    return Placement(where, dtype)


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise InvalidData(f"Expected device to be auto, cpu, cuda, cuda:N or mps, but got {name!r}.") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            build = "was built without CUDA" if torch.version.cuda is None else "finds no GPU or no driver"
            raise InvalidData(
                f'Expected a CUDA device for device={name!r}, but torch {torch.__version__} {build}. Use device="cpu" '
                'or "auto", or mend what `python -c "import torch; torch.zeros(1).cuda()"` says.'
            )
        if device.index is not None and device.index >= count:
            raise InvalidData(f"Expected a CUDA device below cuda:{count} (there are {count}), but got {name!r}.")
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise InvalidData('Expected Apple\'s MPS for device="mps", but this machine has none: use "cpu" or "auto".')
    elif device.type != "cpu":
        raise InvalidData(f"Expected device to be auto, cpu, cuda, cuda:N or mps, but got {name!r}.")
    return device
