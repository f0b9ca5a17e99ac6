"""Gymnasium spaces for actions and observations."""

from __future__ import annotations

import re
import string
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from visenv.types import MAX_PHRASE, Argument, IntArray, Pixels, ToolSpec

SIDE = 128
"""Pixels of a side of the pictures in observations."""
SLOTS = 16
"""Images that observations and actions can address."""
TILE = SIDE // 4
"""Pixels of a side of one of the 4 x 4 tiles of the contact sheet."""
FEATURES = 11
"""Of each slot: valid, visible, log2 of the scale, window (x0, y0, x1, y1), has points, has boxes, count, age."""
MOST = 16.0
"""The greatest of a slot's values."""
DETECTIONS = 32
"""Detections shown; rows of x0, y0, x1, y1 (parts of the root's sides), score, final."""
VOCABULARY = 4096
"""Token ids: 0 pads, the others are hashes of words."""
QUERY_TOKENS = 32
PHRASES = 16
"""Candidates of discrete mode."""
QUERY_ENDS, QUERY_WORDS = 5, 5
"""Of which, after the whole query, this many are what follows one of its first words, and so many its words."""
PHRASE_TOKENS = 6
PATCH_PARTS = (2, 3, 4, 5)
"""Patch sizes of discrete mode, as parts of the longer side."""
CELLS = 8
"""Point cells of discrete mode along a side."""
SIGNED_POINTS = 4
"""Signed points of one structured action."""

PRINTABLE = string.ascii_letters + string.digits + string.punctuation + " "
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")

_FUNCTION_WORDS = frozenset("a an and are at by for from i in is it its me of on or that the there to with".split())


def words(text: str) -> list[str]:
    """The words of a text, in order and in lower case.

    Example:
        >>> words("The red car's 2nd wheel.")
        ['the', 'red', "car's", '2nd', 'wheel']
    """
    return _WORD.findall(text.lower())


@lru_cache(maxsize=4096)
def token_ids(text: str, length: int) -> IntArray:
    """A text as token ids, padded with 0: each word's checksum, folded into the vocabulary.

    Args:
        text: any text.
        length: how many ids to return; further words are left out.

    Returns:
        (length,) int32, read-only.
    """
    ids = np.zeros(length, dtype=np.int32)
    for index, word in enumerate(words(text)[:length]):
        ids[index] = 1 + zlib.crc32(word.encode()) % (VOCABULARY - 1)
    ids.flags.writeable = False
    return ids


def phrase_candidates(query: str, vocabulary: Sequence[str]) -> tuple[str, ...]:
    """The phrases that discrete mode can use.

    They are the query; what is left of it without its first words ("Segment the red car": "the red car", "red car",
    "car"), as most of these still say what is meant; its words, without those that mean nothing alone; and the data
    set's vocabulary. A query of fewer words repeats them, so that no candidate is empty; one that is longer than a
    phrase may be is cut.

    Example:
        >>> phrase_candidates("Mark a red car.", ["car", "red car"])
        ('Mark a red car.', 'a red car', 'red car', 'car', 'a red car', 'red car',
        'mark', 'red', 'car', 'mark', 'red', 'car', 'red car', 'car', 'red car', 'car')
    """
    query = query[:MAX_PHRASE]
    starts = [match.start() for match in _WORD.finditer(query)][1 : 1 + QUERY_ENDS]
    ends = [query[start:].rstrip(" .?!,;:") for start in starts] or [query]
    parts = [word for word in words(query) if word not in _FUNCTION_WORDS] or words(query) or [query]
    rest = list(vocabulary) or [query]
    several = ((ends, QUERY_ENDS), (parts, QUERY_WORDS), (rest, PHRASES - 1 - QUERY_ENDS - QUERY_WORDS))
    return tuple([query, *(texts[i % len(texts)] for texts, count in several for i in range(count))])


def observation_space(pictures: bool, tools: int) -> spaces.Dict:
    """The space of observations.

    Args:
        pictures: whether the two pictures are part of it.
        tools: how many there are, the answer left out.
    """
    picture = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
    members: dict[str, spaces.Space[Any]] = {"image": picture, "memory_images": picture} if pictures else {}
    members |= {
        "memory_state": spaces.Box(0, MOST, (SLOTS, FEATURES), np.float32),
        "detections": spaces.Box(0, 1, (DETECTIONS, 6), np.float32),
        "query": spaces.Box(0, VOCABULARY - 1, (QUERY_TOKENS,), np.int32),
        "phrases": spaces.Box(0, VOCABULARY - 1, (PHRASES, PHRASE_TOKENS), np.int32),
        "calls": spaces.Box(0, 1, (tools + 1,), np.float32),
        "progress": spaces.Box(0, 1, (1,), np.float32),
    }
    return spaces.Dict(members)


def structured_space(specs: Sequence[ToolSpec]) -> spaces.Space[Any]:
    """One ``Dict`` a tool, in the order of ``specs``, then the answer.

    Signed points are places in parts of the image's sides, and for each whether it is left out (0), on what is meant
    (1) or beside it (2). Candidates are numbered from the newest.
    """
    members = [spaces.Dict({arg.name: _argument_space(arg) for arg in spec.arguments}) for spec in specs]
    return spaces.OneOf([*members, spaces.Dict({"text": spaces.Text(256, min_length=0, charset=PRINTABLE)})])


def _argument_space(argument: Argument) -> spaces.Space[Any]:
    kind = argument.kind
    if kind in ("images", "candidates"):
        return spaces.MultiBinary(SLOTS)
    if kind in ("image", "candidate"):
        return spaces.Discrete(SLOTS)
    if kind == "choice":
        return spaces.Discrete(len(argument.choices))
    if kind == "choices":
        return spaces.MultiBinary(len(argument.choices))
    if kind == "integer":
        return spaces.Discrete(argument.high - argument.low + 1, start=argument.low)
    if kind == "patch_sizes":
        return spaces.Dict({"images": spaces.MultiBinary(SLOTS), "size": spaces.Discrete(1024, start=1)})
    if kind in ("point", "box"):
        return spaces.Box(0, 1, (2 if kind == "point" else 4,), np.float32)
    if kind == "points":
        places = spaces.Box(0, 1, (SIGNED_POINTS, 2), np.float32)
        return spaces.Dict({"places": places, "signs": spaces.MultiDiscrete([3] * SIGNED_POINTS)})
    return spaces.Text(64 if kind == "phrase" else 512, charset=PRINTABLE)


def discrete_space(specs: Sequence[ToolSpec]) -> spaces.MultiDiscrete:
    """Tool (the answer last), image slot, phrase, mode, patch size, point cell; a part that no tool uses has size 1."""
    arguments = [argument for spec in specs for argument in spec.arguments]
    kinds = {argument.kind for argument in arguments}
    choices = [len(argument.choices) for argument in arguments if argument.kind in ("choice", "choices")]
    modes = max([*choices, 3 if "points" in kinds else 1])
    patches = len(PATCH_PARTS) if "patch_sizes" in kinds else 1
    cells = CELLS**2 if kinds & {"point", "points", "box"} else 1
    return spaces.MultiDiscrete([len(specs) + 1, SLOTS, PHRASES, modes, patches, cells])


def text_space() -> spaces.Text:
    """A model's raw turn. The space holds printable characters, space and newline; ``step`` takes any text."""
    return spaces.Text(4096, min_length=0, charset=PRINTABLE + "\n")


class PixelsSpace(gym.Space[Pixels]):
    """Pictures of any size: (H, W, 3) uint8 RGB.

    Args:
        max_side: the largest side that is sampled.
        seed: of the sampler.
    """

    def __init__(self, max_side: int = 64, seed: int | np.random.Generator | None = None) -> None:
        self.max_side = max_side
        super().__init__(None, np.uint8, seed)

    @property
    def is_np_flattenable(self) -> bool:
        """Pictures of different sizes have no common flat form."""
        return False

    def sample(self, mask: None = None, probability: None = None) -> Pixels:
        """A picture of noise, of random size."""
        height, width = self.np_random.integers(1, self.max_side, size=2, endpoint=True)
        return self.np_random.integers(0, 255, size=(height, width, 3), dtype=np.uint8, endpoint=True)

    def contains(self, x: Any) -> bool:
        """Whether it is a picture."""
        return isinstance(x, np.ndarray) and x.dtype == np.uint8 and x.ndim == 3 and x.shape[2] == 3 and x.size > 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PixelsSpace) and other.max_side == self.max_side

    def __hash__(self) -> int:
        return hash((type(self), self.max_side))

    def __repr__(self) -> str:
        return f"PixelsSpace(max_side={self.max_side})"


class AnyText(spaces.Text):
    """Text of any characters; samples are printable."""

    def __init__(self, max_length: int = 1_000_000, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(max_length, min_length=0, charset=PRINTABLE + "\n", seed=seed)

    def contains(self, x: Any) -> bool:
        """Whether it is a text of at most ``max_length`` characters."""
        return isinstance(x, str) and len(x) <= self.max_length
