"""What an expert can be asked, and what it answers: typed requests and results, made for batches.

A *capability* is a request type. An expert is handed a list of requests and returns as many results, in order; a batch
is the only way to call one. Requests hold pixels and prompts and never anything of the truth.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np

from visenv.errors import ExpertError, InvalidData
from visenv.images import Provenance, RootPixels
from visenv.masks import Masks
from visenv.types import Detections, FloatArray, IntArray, Pixels


@dataclass(frozen=True, eq=False)
class View:
    """One named image of an episode, as an expert gets it."""

    pixels: Pixels
    """(H, W, 3) uint8 RGB; a view of the root's pixels wherever it can be."""
    provenance: Provenance
    """Where the pixels come from; ``provenance.key`` is the same for the same pixels."""
    name: str = "img_0"
    root: str = "img_0"
    to_root: FloatArray = field(default_factory=lambda: np.eye(3))
    """(3, 3) maps pixels of this image to pixels of its root."""
    sample_id: str = ""
    """Which sample the episode is about: an identifier, for experts that are given a source of truth."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


@dataclass(frozen=True, eq=False)
class GroundPhrase:
    """Find every instance of a phrase. Result: ``Detections`` with masks and scores."""

    view: View
    phrase: str
    capability: ClassVar[str] = "GroundPhrase"

    @property
    def arguments(self) -> Hashable:
        """What, besides the pixels, decides the result."""
        return self.phrase


@dataclass(frozen=True, eq=False)
class PointPhrase:
    """Point at everything a phrase refers to. Result: ``Points``."""

    view: View
    phrase: str
    capability: ClassVar[str] = "PointPhrase"

    @property
    def arguments(self) -> Hashable:
        """What, besides the pixels, decides the result."""
        return self.phrase


@dataclass(frozen=True, eq=False)
class Prompt:
    """One prompt for one object: points, a box, an earlier mask, or several of them."""

    points: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    """(K, 2) xy pixels."""
    labels: IntArray | None = None
    """(K,) 1 for a point on the object, 0 for one beside it; ones if left out."""
    box: FloatArray | None = None
    """(4,) xyxy pixels."""
    mask: Masks | None = None
    """One mask over the image, to be refined: what an earlier call gave."""

    @property
    def key(self) -> Hashable:
        """Equal for equal prompts."""
        parts = (self.points, self.labels, self.box)
        numbers = tuple(None if part is None else tuple(np.asarray(part, float).ravel().tolist()) for part in parts)
        return numbers if self.mask is None else (*numbers, self.mask)

    @property
    def located(self) -> Prompt:
        """The same for an expert that refines no masks: where nothing else says where, the box of the mask does."""
        if self.mask is None or self.box is not None or len(self.points):
            return self
        return replace(self, box=self.mask.boxes[0])


@dataclass(frozen=True, eq=False)
class SegmentPrompts:
    """Segment one object a prompt. Result: ``Candidates``, three a prompt."""

    view: View
    prompts: tuple[Prompt, ...]
    capability: ClassVar[str] = "SegmentPrompts"

    @property
    def arguments(self) -> Hashable:
        """What, besides the pixels, decides the result."""
        return tuple(prompt.key for prompt in self.prompts)


@dataclass(frozen=True, eq=False)
class Upscale:
    """Enlarge an image. Result: ``Upscaled``."""

    view: View
    factor: int = 4
    capability: ClassVar[str] = "Upscale"

    @property
    def arguments(self) -> Hashable:
        """What, besides the pixels, decides the result."""
        return self.factor


@dataclass(frozen=True, eq=False)
class EstimateDepth:
    """Say how near everything is. Result: ``Depth``."""

    view: View
    capability: ClassVar[str] = "EstimateDepth"

    @property
    def arguments(self) -> Hashable:
        """What, besides the pixels, decides the result: nothing."""
        return ()


@dataclass(frozen=True, eq=False)
class Embed:
    """Map an image, and texts to compare it with, to vectors. Result: ``Embedding``."""

    view: View
    texts: tuple[str, ...] = ()
    capability: ClassVar[str] = "Embed"

    @property
    def arguments(self) -> Hashable:
        """What, besides the pixels, decides the result."""
        return self.texts


DESCRIBING = ("caption", "compare", "visual_prompt")
"""What ``Describe`` can be asked to do: one image, several beside each other, or what is marked in one."""


@dataclass(frozen=True, eq=False)
class Describe:
    """Put an image into words, alone or beside others. Result: ``Description``.

    Raises:
        InvalidData: if the task is none of ``DESCRIBING``, or only one image is to be compared.
    """

    view: View
    task: str = "caption"
    """One of ``DESCRIBING``."""
    focus: str = ""
    """What to look at; all of it if empty."""
    others: tuple[View, ...] = ()
    """Further images, for ``compare``."""
    capability: ClassVar[str] = "Describe"

    def __post_init__(self) -> None:
        if self.task not in DESCRIBING:
            raise InvalidData(f"Expected task to be one of {', '.join(DESCRIBING)}, but got {self.task!r}.")
        if (self.task == "compare") != bool(self.others):
            raise InvalidData(f"Expected other images for 'compare' alone, but got {len(self.others)} of them.")

    @property
    def arguments(self) -> Hashable:
        """What, besides the pixels, decides the result."""
        return (self.task, self.focus, tuple(other.provenance.key for other in self.others))


@dataclass(frozen=True, eq=False)
class ReadText:
    """Read what is written in an image. Result: ``TextLines``."""

    view: View
    capability: ClassVar[str] = "ReadText"

    @property
    def arguments(self) -> Hashable:
        """What, besides the pixels, decides the result: nothing."""
        return ()


@dataclass(frozen=True, eq=False)
class FindVisualPrompts:
    """Find what is marked in an image, by circles, boxes or arrows. Result: ``Detections`` with labels (``circle A``).

    The middle of a detection's box is what is marked: of an arrow, where it points.
    """

    view: View
    capability: ClassVar[str] = "FindVisualPrompts"

    @property
    def arguments(self) -> Hashable:
        """What, besides the pixels, decides the result: nothing."""
        return ()


NOWHERE = View(np.zeros((1, 1, 3), np.uint8), Provenance(RootPixels(np.zeros((1, 1, 3), np.uint8))), "", "")
"""In the place of an image, for requests that are about none."""


@dataclass(frozen=True, eq=False)
class Search:
    """Look something up. Result: ``Passages``, the best first."""

    query: str
    limit: int = 3
    """The most passages wanted."""
    view: View = NOWHERE
    capability: ClassVar[str] = "Search"

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise InvalidData(f"Expected a limit of at least 1 passage, but got {self.limit}.")

    @property
    def arguments(self) -> Hashable:
        """What decides the result."""
        return (self.query, self.limit)


_IMAGE_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\.(?:png|jpe?g|bmp|webp)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class RunCode:
    """Run a program that reads an image file and may write one. Result: ``Ran``.

    Raises:
        InvalidData: if a file is none that a folder can hold, or no image by its name.
    """

    view: View
    """The image that the program finds as ``source``."""
    code: str
    """Python."""
    source: str = "input.png"
    """The file, in the folder in which the program runs, that holds the image."""
    target: str = "output.png"
    """The file that is read back if the program has written it."""
    capability: ClassVar[str] = "RunCode"

    def __post_init__(self) -> None:
        for name in (self.source, self.target):
            if not _IMAGE_FILE.fullmatch(name):
                raise InvalidData(f"Expected the plain name of an image file, such as input.png, but got {name!r:.80}.")

    @property
    def arguments(self) -> Hashable:
        """What, besides the pixels, decides the result."""
        return (self.code, self.source, self.target)


@dataclass(frozen=True)
class Points:
    """Points found in one image.

    Raises:
        InvalidData: if the fields disagree in number or have another shape.
    """

    points: FloatArray
    """(P, 2) float64 xy pixels."""
    scores: FloatArray
    """(P,) float64 in [0, 1]."""

    def __post_init__(self) -> None:
        points = np.asarray(self.points, dtype=np.float64)
        scores = np.asarray(self.scores, dtype=np.float64)
        points = points if points.size else np.zeros((0, 2))
        if points.ndim != 2 or points.shape[1] != 2 or scores.shape != points.shape[:1]:
            raise InvalidData(
                f"Expected points (P, 2) and as many scores (P,), but got {points.shape} and {scores.shape}."
            )
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "scores", scores)


@dataclass(frozen=True)
class Candidates:
    """For each prompt, a few masks that it may mean, in one image."""

    masks: tuple[Masks, ...]
    """One ``Masks`` of C candidates a prompt (C is 3 where an expert follows SAM)."""
    scores: tuple[FloatArray, ...]
    """(C,) float64 in [0, 1] for each prompt."""


@dataclass(frozen=True)
class Upscaled:
    """An enlarged image."""

    pixels: Pixels
    """(factor * H, factor * W, 3) uint8 RGB."""
    fingerprint: str = ""
    """Of the upscaler that made it: part of the new image's provenance."""


@dataclass(frozen=True)
class Depth:
    """How near every pixel of an image is."""

    nearness: FloatArray
    """(H, W) float32 in [0, 1], relative to this image: 1 is the nearest. Drawn in grey, brighter is nearer."""


@dataclass(frozen=True)
class Embedding:
    """Vectors whose dot products are cosine similarities."""

    image: FloatArray
    """(D,) float32 of length 1."""
    texts: FloatArray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """(T, D) float32 of length 1 each, one a text."""


@dataclass(frozen=True)
class Description:
    """What an expert says of one image or of several."""

    text: str


@dataclass(frozen=True)
class TextLines:
    """What is written in an image, a line at a time, in reading order."""

    texts: tuple[str, ...]
    """L lines."""
    corners: FloatArray
    """(L, 4, 2) float64 xy pixels: the corners of each line, clockwise from its own top left."""
    scores: FloatArray
    """(L,) float64 in [0, 1]."""

    @property
    def boxes(self) -> FloatArray:
        """(L, 4) float64 xyxy pixels: the upright box around each line."""
        return np.concatenate([self.corners.min(axis=1), self.corners.max(axis=1)], axis=1)


@dataclass(frozen=True)
class Passages:
    """What a search has found, the best first."""

    titles: tuple[str, ...]
    """P titles."""
    texts: tuple[str, ...]
    """P passages."""
    scores: FloatArray
    """(P,) float64, descending; only their order means something."""


@dataclass(frozen=True)
class Ran:
    """What came of a program. One that fails is a result like any other: ``error`` says how."""

    pixels: Pixels | None
    """(H, W, 3) uint8 RGB: the image that it wrote; None if it wrote none that can be read."""
    text: str = ""
    """What it printed, cut to a length that the expert states."""
    error: str = ""
    """Its exception, the limit that it broke, or why its image cannot be read; empty if all went well."""


@dataclass(frozen=True)
class ExpertFailure:
    """What stands in a result's place when an expert failed on that request."""

    expert: str
    message: str

    def to_error(self) -> ExpertError:
        """The same as an exception."""
        return ExpertError(self.expert, self.message)


Request: TypeAlias = (
    GroundPhrase
    | PointPhrase
    | SegmentPrompts
    | Upscale
    | EstimateDepth
    | Embed
    | Describe
    | ReadText
    | FindVisualPrompts
    | Search
    | RunCode
)
Result: TypeAlias = (
    Detections | Points | Candidates | Upscaled | Depth | Embedding | Description | TextLines | Passages | Ran
)
RESULTS: dict[type, type] = {
    GroundPhrase: Detections,
    PointPhrase: Points,
    SegmentPrompts: Candidates,
    Upscale: Upscaled,
    EstimateDepth: Depth,
    Embed: Embedding,
    Describe: Description,
    ReadText: TextLines,
    FindVisualPrompts: Detections,
    Search: Passages,
    RunCode: Ran,
}
"""What answers each kind of request."""
CAPABILITIES: dict[str, type] = {str(vars(kind)["capability"]): kind for kind in RESULTS}
"""Every kind of request, by name."""


def not_answered(expert: str, request: object) -> InvalidData:
    """What an expert raises that is asked what it does not answer."""
    return InvalidData(f"{expert} does not answer {type(request).__name__}.")


def foresees(expert: object) -> bool:
    """Whether an expert can look at images before it is asked about them."""
    return callable(getattr(expert, "foresee", None))


@runtime_checkable
class Expert(Protocol):
    """A model, or anything that behaves like one: a list of requests in, as many results out.

    One that can take several calls at the same time, from several threads, says how many by a further attribute
    ``concurrent_calls``; asynchronous drivers never make more than one at a time of any other. One whose batches take
    as long as their requests one by one has ``divisible = True``: processes are then given small parts, so that all
    have something to do and answers come as they are ready. One that can look at images before it is asked about them
    has a method ``foresee(views)``; it is called while nobody asks, and must not change any result.
    """

    name: str
    """As it stands in records and error messages."""
    fingerprint: str
    """Changes with anything that changes results: weights, thresholds, precision, version."""
    capabilities: tuple[str, ...]
    """Names of the request types it answers."""
    max_batch: int
    """The most requests it takes in one call."""
    per_sample: bool
    """Whether results depend on the sample besides the pixels (true only of experts with a source of truth)."""

    def run(self, requests: Sequence[Request]) -> Sequence[Result | ExpertFailure | ExpertError]:
        """Answer a batch; result ``i`` belongs to request ``i``. Any exception fails the whole batch.

        An expert that works in parts may put, in a result's place, an ``ExpertError``: that request is tried again; or
        an ``ExpertFailure``: it is not.
        """
        ...
