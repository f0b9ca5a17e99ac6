"""What a program may use."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from visenv.errors import InvalidData


@dataclass(frozen=True)
class Limits:
    """What one program may use; a program that breaks a limit is ended, and its ``Ran.error`` says which.

    Raises:
        InvalidData: if one is out of range.

    Example:
        >>> Limits(seconds=2, memory_mb=256).memory_mb
        256
    """

    seconds: float = 10.0
    """From its start to its end, at most 600."""
    cpu_seconds: int = 5
    """Of processor time, a process."""
    memory_mb: int = 512
    """MiB beyond what the interpreter and the libraries take, of all its processes together."""
    processes: int = 16
    """Further processes and threads, at the same time."""
    folder_mb: int = 64
    """MiB of all files in its folder together, which lies in memory."""
    files: int = 256
    """Files and folders in its folder."""
    text_chars: int = 4000
    """Characters of what it prints; the rest is thrown away."""
    image_mb: int = 32
    """MiB of the image file that it writes."""
    image_pixels: int = 16_000_000
    """Pixels (width times height) of that image."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value, whole = getattr(self, each.name), each.name != "seconds"
            most = 600 if each.name == "seconds" else 2**31
            right = not isinstance(value, bool) and isinstance(value, int if whole else (int, float))
            if not right or not 0 < value <= most:
                kind = "a whole number" if whole else "a number"
                raise InvalidData(f"Expected {each.name} to be {kind} above 0 and at most {most}, but got {value!r}.")

    @property
    def key(self) -> str:
        """Equal for equal limits."""
        return ",".join(f"{name}={value:g}" for name, value in asdict(self).items())

    def inside(self) -> dict[str, Any]:
        """The same as the server in the sandbox takes it, in bytes."""
        return {
            "seconds": float(self.seconds),
            "cpu_seconds": self.cpu_seconds,
            "memory_bytes": self.memory_mb << 20,
            "processes": self.processes,
            "folder_bytes": self.folder_mb << 20,
            "files": self.files,
            # A character takes up to four.
            "text_bytes": 4 * self.text_chars,
            "image_bytes": self.image_mb << 20,
        }
