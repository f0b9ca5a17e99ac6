"""Pictures of a training set: each stored once, under the digest of its pixels, as PNG."""

from __future__ import annotations

from pathlib import Path

from visenv.images import RootPixels, to_png_bytes
from visenv.types import Pixels

FOLDER = "images"


def digest_of(pixels: Pixels) -> str:
    """The name under which a picture is stored.

    Args:
        pixels: (H, W, 3) uint8.
    """
    return RootPixels(pixels).digest


class PictureStore:
    """A folder of PNG files; a picture that is there already is neither encoded nor written again.

    Args:
        folder: of the set; the files are in its ``images``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._there: dict[str, int] = {}
        self.used: set[str] = set()
        """Digests of pictures that a row shows."""

    def keep(self, pixels: Pixels) -> str:
        """Store a picture, and return its digest.

        Args:
            pixels: (H, W, 3) uint8.
        """
        digest = digest_of(pixels)
        if digest not in self._there:
            data = to_png_bytes(pixels)
            path = self._folder / self.path(digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            self._there[digest] = len(data)
        return digest

    def path(self, digest: str) -> str:
        """Of a picture, relative to the set's folder, with forward slashes."""
        return f"{FOLDER}/{digest[:2]}/{digest}.png"

    def read(self, digest: str) -> bytes:
        """The PNG file of a picture."""
        return (self._folder / self.path(digest)).read_bytes()

    def size(self, digest: str) -> int:
        """Bytes of a picture's file."""
        return self._there[digest]

    @property
    def bytes(self) -> int:
        """Of all pictures that a row shows."""
        return sum(self._there[digest] for digest in self.used)

    def forget_unused(self) -> None:
        """Remove the files of pictures that no row shows."""
        for digest in self._there.keys() - self.used:
            (self._folder / self.path(digest)).unlink()
