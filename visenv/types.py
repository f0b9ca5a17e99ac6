"""The nouns of visenv: what an agent does, what came of it, and what it is scored against.

Everything here is a frozen record of plain data: no behaviour that needs a model, an image library or a trainer.
Coordinates are pixels, ``xyxy``, half-open, origin top left, in the frame of the image named beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from visenv.errors import InvalidData

if TYPE_CHECKING:
    from visenv.contents import ImageContent
    from visenv.masks import Masks

FloatArray: TypeAlias = NDArray[np.floating[Any]]
IntArray: TypeAlias = NDArray[np.integer[Any]]
BoolArray: TypeAlias = NDArray[np.bool_]
Pixels: TypeAlias = NDArray[np.uint8]
"""An image: (H, W, 3) uint8, RGB."""

TaskKind: TypeAlias = Literal["segmentation", "detection", "counting", "question", "restoration"]
Termination: TypeAlias = Literal["answer", "max_turns", "token_budget", "invalid"]


# --- what an agent does in one turn -------------------------------------------------------------------------------


@dataclass(frozen=True)
class ToolCall:
    """A call of one tool, as the agent wrote it (not validated yet)."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    thought: str = ""


@dataclass(frozen=True)
class Answer:
    """The end of an episode: what the agent says about it."""

    text: str = ""
    thought: str = ""


@dataclass(frozen=True)
class Malformed:
    """A turn that is neither a tool call nor an answer, with a message that says how to mend it."""

    code: str
    message: str


Action: TypeAlias = ToolCall | Answer | Malformed


# --- what experts and tools find ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Detections:
    """Objects found in one image.

    Raises:
        InvalidData: if the fields disagree in number or shape.
    """

    boxes: FloatArray
    """(N, 4) float64, xyxy pixels, half-open."""
    masks: Masks | None = None
    """N masks over the image's frame, or None where only boxes are known."""
    scores: FloatArray = field(default_factory=lambda: np.zeros(0))
    """(N,) float64 in [0, 1]; ones if left out."""
    labels: tuple[str, ...] | None = None
    """N category names, or None where there is one category."""

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes, dtype=np.float64) if np.size(self.boxes) else np.zeros((0, 4))
        scores = np.asarray(self.scores, dtype=np.float64) if np.size(self.scores) else np.ones(len(boxes))
        if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.ndim != 1:
            raise InvalidData(f"Expected boxes (N, 4) and scores (N,), but got {boxes.shape} and {scores.shape}.")
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "scores", scores)
        if self.labels is not None:
            object.__setattr__(self, "labels", tuple(self.labels))
        counts = {"boxes": len(boxes), "scores": len(scores)}
        counts |= {"masks": len(self.masks)} if self.masks is not None else {}
        counts |= {"labels": len(self.labels)} if self.labels is not None else {}
        if len(set(counts.values())) > 1:
            raise InvalidData(f"Expected as many of each field of Detections, but got {counts}.")

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class Outcome:
    """What an episode ended with: all that a metric or a reward may look at besides the truth."""

    detections: Detections | None
    """The final result in the frame of ``img_0``; None if none was ever set."""
    answer: str | None
    """The text of the answer; None if the agent never answered."""
    termination: Termination | None
    """How it ended; None while it is running."""
    turns: int
    """Turns spent, faulty ones included."""
    image: Pixels | None = None
    """(H, W, 3) uint8: the image that a program of the agent's made last; None if none did."""
    tools: tuple[str, ...] = ()
    """Names of the tools whose calls were carried out, in order."""


# --- what an episode is scored against ----------------------------------------------------------------------------


@dataclass(frozen=True)
class MaskTruth:
    """One region to segment, over ``img_0``; several masks mean their union."""

    target: Masks | None
    """The target's masks; None, no mask, or no pixel outside of ``ignore`` means "nothing there"."""
    ignore: Masks | None = None
    """Pixels that count for neither side."""

    @property
    def is_null(self) -> bool:
        """Whether there is nothing to find."""
        if self.target is None:
            return True
        target = self.target if self.ignore is None else self.target.minus(self.ignore)
        return not np.any(target.areas)


@dataclass(frozen=True)
class BoxesTruth:
    """Objects to detect, over ``img_0``."""

    boxes: FloatArray
    """(N, 4) xyxy pixels, half-open."""
    labels: tuple[str, ...] | None = None
    ignore: FloatArray | None = None
    """(K, 4) regions in which a prediction counts for neither side."""

    @property
    def is_null(self) -> bool:
        """Whether there is nothing to find."""
        return len(self.boxes) == 0


@dataclass(frozen=True)
class PointsTruth:
    """Objects to count, one point each, over ``img_0``."""

    points: FloatArray
    """(N, 2) xy pixels."""

    @property
    def is_null(self) -> bool:
        """Whether there is nothing to count."""
        return len(self.points) == 0


@dataclass(frozen=True)
class AnswerTruth:
    """A question's accepted answers; with ``choices``, the options that were offered."""

    answers: tuple[str, ...]
    choices: tuple[str, ...] | None = None
    group: str | None = field(default=None, repr=False)
    """What it counts for where a benchmark is scored by parts: its sub-task, or its pair."""
    contents: tuple[ImageContent, ...] | None = field(default=None, repr=False, compare=False)
    """What each picture shows, where it was drawn: for experts that are given the truth, and for nothing else. Only
    ``Dataset.find``, which they ask, gives it; what ``get`` and ``draw`` give comes without."""

    @property
    def accepted(self) -> tuple[str, ...]:
        """``answers``; and where the right option has a letter, that with the option's text.

        Not with ``A``, which is taken for an article where more than that is said: of "(A) left", ``left`` is compared.

        Example:
            >>> AnswerTruth(("B",), ("left", "right")).accepted, AnswerTruth(("3", "three")).accepted
            (('B', 'B right'), ('3', 'three'))
        """
        first = self.answers[0] if self.answers else ""
        place = ascii_uppercase.find(first) if len(first) == 1 else -1
        if not self.choices or not 0 < place < len(self.choices):
            return self.answers
        return (*self.answers, f"{first} {self.choices[place]}")

    @property
    def is_null(self) -> bool:
        """An answer is always due."""
        return False


@dataclass(frozen=True, eq=False)
class ImageTruth:
    """What a damaged ``img_0`` was before, and a question's accepted answers."""

    clean: Pixels
    """(H, W, 3) uint8 RGB."""
    damage: tuple[str, ...]
    """What was done to it, by name, in order; empty if nothing was."""
    answers: tuple[str, ...] = ()
    """Accepted answers to the question about it; empty if there is none."""

    @property
    def is_null(self) -> bool:
        """An image is always due."""
        return False


Truth: TypeAlias = MaskTruth | BoxesTruth | PointsTruth | AnswerTruth | ImageTruth


@dataclass(frozen=True)
class Sample:
    """One item of a data set: what is shown, what is asked, and what is right."""

    sample_id: str
    """Unique within its data set and enough to find the sample again with ``Dataset.find``."""
    images: tuple[Pixels, ...]
    """One or more (H, W, 3) uint8 RGB pictures: ``img_0``, ``img_1``, …"""
    query: str
    truth: Truth
    task: TaskKind = "segmentation"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """JSON values about the sample (its difficulty, its category); nothing in it reaches the agent."""

    @property
    def image(self) -> Pixels:
        """The first picture, ``img_0``."""
        return self.images[0]


# --- what the agent may call --------------------------------------------------------------------------------------

MAX_PHRASE = 512
"""Characters in a phrase."""

ArgumentKind: TypeAlias = Literal[
    "images",
    "image",
    "phrase",
    "choice",
    "choices",
    "patch_sizes",
    "text",
    "integer",
    "point",
    "points",
    "box",
    "candidate",
    "candidates",
]
"""``points`` are signed: ``[x, y, 1]`` lies on what is meant, ``[x, y, 0]`` beside it. A ``candidate`` is the name of
one of the workspace's."""


@dataclass(frozen=True)
class Argument:
    """One argument of a tool; its kind decides JSON schema, validation and action space alike."""

    name: str
    kind: ArgumentKind
    description: str
    choices: tuple[str, ...] = ()
    """For ``choice`` (one of them) and ``choices`` (some of them)."""
    low: int = 1
    high: int = 4096
    """Inclusive bounds, for ``integer`` and ``patch_sizes``."""
    optional: bool = False
    """Whether it may be left out, or be null: the tool is given None. Optional arguments come last."""


@dataclass(frozen=True)
class ToolSpec:
    """A tool as the agent sees it: the one source of its schema, its action space and its page."""

    name: str
    description: str
    arguments: tuple[Argument, ...]
    needs: Literal["points", "boxes", "unenlarged", "candidates"] | None = None
    """What an image must have, or be, or what must be there, before the tool can be called; discrete mode heeds it."""
    asks: tuple[str, ...] = ()
    """The capabilities that it needs an expert for."""


# --- what is remembered of a turn ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """The record of one turn, plain data throughout."""

    index: int
    """From 1."""
    action: Action
    reply: str
    """The text the agent was given back."""
    error: Malformed | None = None
    """What was wrong with the call, if anything."""
    shown: tuple[str, ...] = ()
    """Names of the images the reply shows."""
    archived: tuple[str, ...] = ()
    """Names of the images this turn put away."""
    created: tuple[str, ...] = ()
    """Names of the images this turn made."""
    visual_tokens: int = 0
    """Visual tokens in view after this turn."""
    cut: bool = False
    """Whether the model's text was cut by its length limit."""
    text: str | None = None
    """The model's raw turn, where it came as text."""
    tools: tuple[str, ...] = ()
    """Names of the tools that were carried out, in order; several where one turn may hold several calls."""
