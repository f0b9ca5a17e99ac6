"""The named images of one episode, their lineage, and the results attached to each.

The workspace is what the environment remembers; what the agent sees of it is decided in ``visenv.memory``. It never
changes: a tool returns an ``Effect``, and the workspace after it is another one.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np

from visenv.capabilities import Points, View
from visenv.errors import InvalidData
from visenv.geometry import scaling, translation
from visenv.images import Provenance, RootPixels, draw_detections, draw_points, draw_windows, letterbox
from visenv.spaces import MOST, SIDE, TILE
from visenv.types import Detections, FloatArray, Pixels

Maker: TypeAlias = Literal["input", "patch", "upscaled", "derived", "made"]
"""A patch is a part of its parent, an upscaled image the same enlarged, a derived one the same frame drawn otherwise
(such as its depth). One that a program made is related to nothing: it is a root, as inputs are."""


@dataclass(frozen=True, eq=False)
class NamedImage:
    """One image of an episode."""

    name: str
    pixels: Pixels
    """(H, W, 3) uint8 RGB, read-only: experts and trainers get them uncopied. Of a patch, a view of its parent's."""
    provenance: Provenance
    maker: Maker = "input"
    parent: NamedImage | None = None
    to_parent: FloatArray = field(default_factory=lambda: np.eye(3))
    """(3, 3) maps pixels of this image to pixels of its parent."""
    group: int = 0
    """The turn that made it: images of one group were made together."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixels", _read_only(self.pixels))

    def __getstate__(self) -> dict[str, object]:
        # An input's pixels are the sample's, a patch's are part of its parent's: they are kept there, once.
        kept = self.maker == "patch" or self.parent is None
        return self.__dict__ | ({"pixels": self.size} if kept else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        pixels = state["pixels"]
        if self.parent is None:
            pixels = self.provenance.root.pixels
        elif self.maker == "patch" and self.parent is not None:
            (width, height), (x0, y0) = pixels, self.to_parent[:2, 2].astype(int).tolist()
            pixels = self.parent.pixels[y0 : y0 + height, x0 : x0 + width]
        object.__setattr__(self, "pixels", _read_only(pixels))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def root(self) -> NamedImage:
        """The input image it was made from."""
        # Not kept: an input that holds itself is not freed when it is let go.
        return self.parent.root if self.parent else self

    @cached_property
    def to_root(self) -> FloatArray:
        """(3, 3) maps pixels of this image to pixels of its root."""
        return self.parent.to_root @ self.to_parent if self.parent else np.eye(3)

    @cached_property
    def depth(self) -> int:
        """How many steps lie between this image and its root."""
        return self.parent.depth + 1 if self.parent else 0

    @cached_property
    def split(self) -> bool:
        """Whether it is a patch or was made from one."""
        return self.maker == "patch" or (self.parent is not None and self.parent.split)

    @cached_property
    def ancestors(self) -> tuple[NamedImage, ...]:
        """What it was made from, its parent first."""
        return (self.parent, *self.parent.ancestors) if self.parent else ()

    @cached_property
    def window(self) -> FloatArray:
        """(4,) the part of the root it shows: xyxy pixels of the root."""
        return np.array(self._corners())

    def _corners(self) -> tuple[float, float, float, float]:
        """Where its upper left and lower right corner lie in the root: x0, y0, x1, y1."""
        (a, b, x), (c, d, y), _ = self.to_root.tolist()
        width, height = self.size
        return x, y, a * width + b * height + x, c * width + d * height + y

    @cached_property
    def place(self) -> tuple[float, ...]:
        """How it lies in its root: log2 of how much finer its pixels are, then its window in parts of the root.

        As observations hold it, cut off at 0 and ``MOST``.
        """
        width, height = self.root.size
        x0, y0, x1, y1 = self._corners()
        finer = -float(np.log2(self.to_root[0, 0]))
        values = (finer, x0 / width, y0 / height, x1 / width, y1 / height)
        return tuple(min(max(value, 0.0), MOST) for value in values)

    @cached_property
    def to_parts(self) -> FloatArray:
        """(2, 4): by what a box on it is multiplied, and what is added, to have it in parts of the root."""
        (a, _, x), (_, b, y), _ = self.to_root.tolist()
        width, height = self.root.size
        scale, shift = (a / width, b / height), (x / width, y / height)
        return np.array([scale * 2, shift * 2])

    @cached_property
    def tile(self) -> Pixels:
        """(TILE, TILE, 3) uint8: the image letterboxed, for contact sheets."""
        enlarged = self.maker == "upscaled" and self.parent is not None
        return self.parent.tile if enlarged and self.parent else _small(self.pixels, TILE)

    def patch(self, name: str, box: tuple[int, int, int, int], group: int) -> NamedImage:
        """A part of this image; its pixels are a view.

        Args:
            name: of the new image.
            box: x0, y0, x1, y1 in whole pixels of this image, half-open.
            group: the turn that makes it.

        Raises:
            InvalidData: if the box is empty or leaves the image.
        """
        x0, y0, x1, y1 = box
        width, height = self.size
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise InvalidData(f"Expected a part of {self.name} ({width}x{height}), but got the box {box}.")
        step = f"crop:{x0},{y0},{x1},{y1}"
        pixels = self.pixels[y0:y1, x0:x1]
        return NamedImage(name, pixels, self.provenance.then(step), "patch", self, translation(x0, y0), group)

    def upscaled(self, name: str, pixels: Pixels, factor: int, fingerprint: str, group: int) -> NamedImage:
        """An enlarged version of this image.

        Args:
            name: of the new image.
            pixels: (factor * H, factor * W, 3) uint8.
            factor: how many times larger.
            fingerprint: of the upscaler.
            group: the turn that makes it.
        """
        provenance = self.provenance.then(f"x{factor}:{fingerprint}")
        return NamedImage(name, pixels, provenance, "upscaled", self, scaling(1 / factor), group)

    def derived(self, name: str, pixels: Pixels, step: str, group: int) -> NamedImage:
        """The same frame drawn otherwise.

        Args:
            name: of the new image.
            pixels: (H, W, 3) uint8, of this image's size.
            step: what was done, for the provenance: equal for equal pixels.
            group: the turn that makes it.

        Raises:
            InvalidData: if it has another size.
        """
        if pixels.shape != self.pixels.shape:
            raise InvalidData(f"Expected pixels of {self.pixels.shape} as {self.name} has, but got {pixels.shape}.")
        return NamedImage(name, pixels, self.provenance.then(step), "derived", self, np.eye(3), group)

    @classmethod
    def made(cls, name: str, pixels: Pixels, group: int) -> NamedImage:
        """An image that is related to no other, such as one that a program made.

        Args:
            name: of the new image.
            pixels: (H, W, 3) uint8.
            group: the turn that makes it.

        Raises:
            InvalidData: if the pixels are none.
        """
        _check_pixels(name, pixels)
        return cls(name, pixels, Provenance(RootPixels(pixels)), "made", group=group)


@dataclass(frozen=True, eq=False)
class Candidate:
    """One mask that may be what is asked for; tools name it, and its pixels stay here."""

    name: str
    """``c1``, ``c2``, …"""
    image: str
    """The input image in whose frame it stands."""
    detections: Detections
    """One object, with its mask over that image."""
    prompt: Any = None
    """What it was segmented from, for tools that refine it."""
    made_from: str | None = None
    """The candidate that it refines."""


@dataclass(frozen=True, eq=False)
class Overlay:
    """What is drawn over an image to make a visualisation; at most one field is set."""

    detections: Detections | None = None
    points: FloatArray | None = None
    windows: tuple[tuple[str, tuple[int, int, int, int]], ...] = ()
    """(label, (x0, y0, x1, y1)) of each patch."""


@dataclass(frozen=True, eq=False)
class Picture:
    """Something the agent is shown: an image, or a visualisation of results on it, drawn when first looked at."""

    name: str
    image: NamedImage
    overlay: Overlay | None = None

    @property
    def is_visualisation(self) -> bool:
        """Whether results are drawn on it; a visualisation cannot be named in a call."""
        return self.overlay is not None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self._canvas.size

    @property
    def _canvas(self) -> NamedImage:
        """Results on an upscaled image are drawn on its parent."""
        image = self.image
        return image.parent if self.overlay and image.maker == "upscaled" and image.parent else image

    @property
    def pixels(self) -> Pixels:
        """(H, W, 3) uint8 RGB; what is drawn is kept for as long as somebody holds it, and drawn again after that."""
        if self.overlay is None:
            return self.image.pixels
        drawn = self.__dict__.get(_DRAWN)
        pixels: Pixels | None = None if drawn is None else drawn()
        if pixels is None:
            pixels = self._draw(self.overlay)
            self.__dict__[_DRAWN] = weakref.ref(pixels)
        return pixels

    def _draw(self, overlay: Overlay) -> Pixels:
        canvas = self._canvas
        scale = np.eye(3) if canvas is self.image else self.image.to_parent
        if overlay.points is not None:
            return draw_points(canvas.pixels, overlay.points * scale[0, 0])
        if overlay.detections is not None:
            return draw_detections(canvas.pixels, _on_canvas(overlay.detections, scale, canvas.size))
        boxes = np.array([box for _, box in overlay.windows], dtype=np.float64).reshape(-1, 4)
        return draw_windows(canvas.pixels, boxes * scale[0, 0], [label for label, _ in overlay.windows])

    @cached_property
    def thumbnail(self) -> Pixels:
        """(SIDE, SIDE, 3) uint8: the picture letterboxed, for observations."""
        return _small(self.pixels, SIDE)

    def forget(self) -> None:
        """Free the thumbnail; it is made again if it is looked at again."""
        self.__dict__.pop("thumbnail", None)

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key not in (_DRAWN, "thumbnail")}


_DRAWN = "drawn"
"""Where a picture keeps a weak reference to its pixels: a full frame for each would be most of an episode's memory."""


def _on_canvas(detections: Detections, scale: FloatArray, size: tuple[int, int]) -> Detections:
    if scale[0, 0] == 1:
        return detections
    masks = None if detections.masks is None else detections.masks.warp(scale, (size[1], size[0]))
    return Detections(detections.boxes * scale[0, 0], masks, detections.scores, detections.labels)


@dataclass(frozen=True)
class Effect:
    """What a tool did, to be applied when its turn is complete."""

    reply: tuple[str | Picture, ...]
    """The text and pictures of the observation, in order."""
    images: tuple[NamedImage, ...] = ()
    points: tuple[tuple[str, Points], ...] = ()
    """Image name and the points found on it."""
    detections: tuple[tuple[str, Detections], ...] = ()
    """Image name and what was found on it."""
    final: Detections | None = None
    """The final result, if this tool sets it."""
    candidates: tuple[Candidate, ...] = ()
    """New ones, or others of the same names."""
    answer: str | None = None
    """If this tool ends the episode: what the agent has thereby answered."""
    tools: tuple[str, ...] = ()
    """Names of the tools that it stands for, where it carried out calls of others."""


class Workspace:
    """Named images, and for each the latest points and detections; and the final result, once there is one."""

    def __init__(self, pictures: Iterable[Pixels]) -> None:
        self.images: dict[str, NamedImage] = {}
        self.points: dict[str, Points] = {}
        self.detections: dict[str, Detections] = {}
        self.final: Detections | None = None
        self.candidates: dict[str, Candidate] = {}
        for index, pixels in enumerate(pictures):
            name = f"img_{index}"
            _check_pixels(name, pixels)
            self.images[name] = NamedImage(name, pixels, Provenance(RootPixels(pixels)))
        if not self.images:
            raise InvalidData("Expected at least one image, but got none.")

    @property
    def root(self) -> NamedImage:
        """The first input image, in whose frame the final result stands."""
        return self.images["img_0"]

    @property
    def made(self) -> NamedImage | None:
        """The image that a program made last; None if none did."""
        return next((image for image in reversed(self.images.values()) if image.maker == "made"), None)

    def view(self, name: str, sample_id: str) -> View:
        """An image as an expert gets it."""
        image = self.images[name]
        return View(image.pixels, image.provenance, name, image.root.name, image.to_root, sample_id)

    def after(self, effect: Effect) -> Workspace:
        """The workspace with what a tool did: a new one, which shares pixels and results with this one.

        A later result of a kind on an image replaces the earlier one, also where nothing was found.
        """
        twin = object.__new__(Workspace)
        twin.images, twin.points, twin.detections = dict(self.images), dict(self.points), dict(self.detections)
        twin.final = self.final if effect.final is None else effect.final
        twin.candidates = self.candidates
        if effect.candidates:
            twin.candidates = self.candidates | {candidate.name: candidate for candidate in effect.candidates}
        for name in self._outdated(effect.images):
            for kept in (twin.images, twin.points, twin.detections):
                kept.pop(name, None)
        for image in effect.images:
            # One that is made anew is the newest again.
            twin.images.pop(image.name, None)
            twin.images[image.name] = image
            twin.points.pop(image.name, None)
            twin.detections.pop(image.name, None)
        for name, points in effect.points:
            twin.points.pop(name, None)
            if len(points.points):
                twin.points[name] = points
        for name, detections in effect.detections:
            twin.detections.pop(name, None)
            if len(detections):
                twin.detections[name] = detections
        return twin

    def _outdated(self, images: Iterable[NamedImage]) -> list[str]:
        """What was made from images that are made anew: it shows another part than its name says."""
        replaced = [self.images[image.name] for image in images if image.name in self.images]
        return [
            name
            for name, image in self.images.items()
            if replaced and any(ancestor in replaced for ancestor in image.ancestors)
        ]

    def slots(self, count: int) -> list[NamedImage]:
        """The images that fixed-size observations and actions can address: the inputs, then the newest of the others.

        Args:
            count: how many slots there are.
        """
        images = list(self.images.values())
        if len(images) <= count:
            return images
        inputs = [image for image in images if image.maker == "input"][:count]
        others = [image for image in images if image.maker != "input"]
        return inputs + others[len(others) - (count - len(inputs)) :]


def _check_pixels(name: str, pixels: object) -> None:
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[2:] != (3,) or not pixels.size:
        got = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise InvalidData(f"Expected the pixels of {name} as uint8 (H, W, 3), H and W at least 1, but got {got}.")


def _read_only(pixels: Pixels) -> Pixels:
    view = pixels.view()
    view.flags.writeable = False
    return view


def _small(pixels: Pixels, side: int) -> Pixels:
    """Letterboxed to a square; of a large picture, only as many pixels are read as the result can show."""
    stride = max(1, max(pixels.shape[:2]) // (4 * side))
    return letterbox(pixels[::stride, ::stride], side)[0]


_FARTHEST = 1e6
"""Pixels from the origin beyond which a coordinate counts as infinite."""


def usable_points(points: Points, size: tuple[int, int]) -> Points:
    """Drop points that lie outside of an image.

    Args:
        points: in pixels of the image.
        size: its (width, height).
    """
    keep = ((points.points >= 0) & (points.points <= size)).all(axis=1)
    return points if keep.all() else Points(points.points[keep], points.scores[keep])


def usable(detections: Detections) -> Detections:
    """Drop what must not be stored: boxes without an area, not finite or absurdly far out, and empty masks."""
    boxes, masks = detections.boxes, detections.masks
    near, right = np.abs(boxes) <= _FARTHEST, boxes[:, 2:] > boxes[:, :2]
    if near.all() and right.all() and (masks is None or masks.areas.all()):
        return detections
    keep = near.all(axis=1) & right.all(axis=1)
    if masks is not None:
        keep &= masks.areas > 0
    index = np.flatnonzero(keep)
    labels = None if detections.labels is None else tuple(detections.labels[i] for i in index)
    return Detections(boxes[index], None if masks is None else masks[index], detections.scores[index], labels)
