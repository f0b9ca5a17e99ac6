"""Texts and pictures as arrays of a fixed size, for trainers that know nothing else.

Example:
    >>> import numpy as np
    >>> picture = np.full((40, 80, 3), 7, np.uint8)
    >>> blocks = [{"type": "text", "text": "A car: "}, {"type": "image", "name": "img_0", "image": picture}]
    >>> padded = pad_blocks(blocks, Padding(pictures=2, side=64, text=32))
    >>> padded.pictures.shape, padded.sizes.tolist(), int(padded.mask[1].sum()) == 64 * 32
    ((2, 64, 64, 3), [[0, 0], [80, 40]], True)
    >>> text_of(padded.text)
    'A car: [image img_0]'
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from visenv.adapters.blocks import as_text
from visenv.env import VisionToolEnv
from visenv.errors import InvalidData
from visenv.images import fit_within
from visenv.protocol.messages import image_block, text_block
from visenv.types import BoolArray, Pixels


@dataclass(frozen=True)
class Padding:
    """How large the arrays are.

    Raises:
        InvalidData: if a number is not a whole one of at least 1.
    """

    pictures: int = 4
    """How many pictures; of more, the last ones are kept."""
    side: int = 224
    """Pixels of a side; a larger picture is shrunk, a smaller one keeps its size."""
    text: int = 2048
    """Bytes of UTF-8; a longer text is cut."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidData(f"Expected {name} to be a whole number of at least 1, but got {value!r}.")

    @classmethod
    def of(cls, value: Padding | Mapping[str, int] | None) -> Padding | None:
        """A padding as it may be given.

        Raises:
            InvalidData: if it is something else.
        """
        if value is None or isinstance(value, Padding):
            return value
        if not isinstance(value, Mapping) or set(value) - {"pictures", "side", "text"}:
            raise InvalidData(f"Expected padding to hold pictures, side and text, but got {value!r:.80}.")
        return cls(**value)

    def space(self) -> spaces.Dict:
        """The space of what ``Padded.arrays`` returns."""
        side = self.side
        return spaces.Dict(
            {
                "pictures": spaces.Box(0, 255, (self.pictures, side, side, 3), np.uint8),
                "mask": spaces.Box(0, 1, (self.pictures, side, side), np.uint8),
                "text": spaces.Box(0, 255, (self.text,), np.uint8),
            }
        )


@dataclass(frozen=True, eq=False)
class Padded:
    """Texts and pictures in arrays of a fixed size."""

    pictures: Pixels
    """(K, S, S, 3) uint8 RGB, the newest last, each in its upper left corner; 0 where there is none."""
    mask: BoolArray
    """(K, S, S) bool: where a picture is."""
    sizes: NDArray[np.int32]
    """(K, 2) int32: width and height in pixels before anything was shrunk; 0 where there is no picture."""
    text: NDArray[np.uint8]
    """(L,) uint8: UTF-8, with ``[image NAME]`` where a picture stood; 0 from its end on."""
    pictures_left_out: int
    """How many pictures were too many."""
    bytes_left_out: int
    """How much of the text was too long."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is observed: ``pictures``, ``mask`` and ``text``, all uint8."""
        return {"pictures": self.pictures, "mask": self.mask.astype(np.uint8), "text": self.text}


def pad_pictures(pictures: Sequence[Pixels], padding: Padding) -> Padded:
    """Pictures alone.

    Args:
        pictures: (H, W, 3) uint8 each, the newest last.
        padding: how large the arrays are.

    Raises:
        InvalidData: if something is no picture.
    """
    return pad_blocks([{"type": "image", "image": picture} for picture in pictures], padding)


def pad_blocks(blocks: Iterable[Mapping[str, Any]], padding: Padding) -> Padded:
    """Content blocks, as messages and replies hold them.

    Args:
        blocks: ``{"type": "text", "text"}`` and ``{"type": "image", "name", "image"}``, with (H, W, 3) uint8 pixels.
        padding: how large the arrays are.

    Raises:
        InvalidData: if something is no such block.
    """
    blocks = list(blocks)
    for block in blocks:
        if block.get("type") not in ("text", "image"):
            raise InvalidData(f"Expected a content block of the type 'text' or 'image', but got {block!r:.80}.")
    shown = [_checked(block["image"]) for block in blocks if block["type"] == "image"]
    count, side = padding.pictures, padding.side
    kept = shown[-count:]
    pictures = np.zeros((count, side, side, 3), np.uint8)
    mask = np.zeros((count, side, side), np.bool_)
    sizes = np.zeros((count, 2), np.int32)
    for place, picture in enumerate(kept, start=count - len(kept)):
        small = fit_within(picture, side, side)
        pictures[place, : small.shape[0], : small.shape[1]] = small
        mask[place, : small.shape[0], : small.shape[1]] = True
        sizes[place] = picture.shape[1], picture.shape[0]
    text = as_text(block for block in blocks if block["type"] == "text" or block.get("name"))
    whole = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace")
    # Not in the middle of a character.
    cut = whole[: padding.text].decode("utf-8", "ignore").encode()
    row = np.zeros(padding.text, np.uint8)
    row[: len(cut)] = np.frombuffer(cut, np.uint8)
    return Padded(pictures, mask, sizes, row, len(shown) - len(kept), len(whole) - len(cut))


def text_of(row: NDArray[np.uint8]) -> str:
    """The text of a row of bytes that ``pad_blocks`` made.

    Args:
        row: (L,) uint8.
    """
    return np.asarray(row, np.uint8).tobytes().rstrip(b"\0").decode("utf-8", "replace")


def pictures_of(padded: Padded) -> list[Pixels]:
    """The pictures without what was added around them, the newest last; shrunk ones stay small."""
    return [
        picture[: int(there[:, 0].sum()), : int(there[0].sum())]
        for picture, there in zip(padded.pictures, padded.mask, strict=True)
        if there.any()
    ]


def pad_view(env: VisionToolEnv, padding: Padding) -> Padded:
    """What an agent sees of an episode: the query, the last reply, and the pictures in view.

    Args:
        env: with an episode.
        padding: how large the arrays are.
    """
    episode = env.episode
    said = episode.query + (f"\n\n{episode.transcript[-1].reply}" if episode.transcript else "")
    seen = [image_block(picture.name, picture.pixels) for picture in episode.visible()]
    return pad_blocks([text_block(f"{said}\n\n"), *seen], padding)


def _checked(picture: Any) -> Pixels:
    fits = isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3
    if not fits or picture.shape[2] != 3 or not picture.size:
        got = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise InvalidData(f"Expected a picture as (H, W, 3) uint8, but got {got}.")
    return picture
