"""What an expert may answer: experts are somebody else's code, and what they give goes into every later turn."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from visenv.capabilities import (
    RESULTS,
    Candidates,
    Depth,
    Description,
    Embed,
    Embedding,
    Passages,
    Points,
    Ran,
    Request,
    Result,
    Search,
    SegmentPrompts,
    TextLines,
    Upscale,
    Upscaled,
)
from visenv.errors import InvalidData
from visenv.masks import Masks
from visenv.types import Detections, FloatArray


def result_bytes(result: Result) -> int:
    """About how many bytes a result takes in memory."""
    return 512 + sum(_bytes(getattr(result, field.name)) for field in fields(result))


def _bytes(value: object) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, Masks):
        return 128 * len(value) + sum(crop.nbytes for crop in value.crops)
    if isinstance(value, tuple):
        return sum(_bytes(part) for part in value)
    return len(value) if isinstance(value, str) else 0


_ROUNDING = 1e-6
"""By how much a score may be above 1."""


def check_result(request: Request, result: object) -> None:
    """Check that a result is one of its request: experts are somebody else's code.

    Raises:
        InvalidData: saying what is wrong with it.
    """
    expected = RESULTS[type(request)]
    if not isinstance(result, expected):
        raise InvalidData(f"expected {expected.__name__} for {request.capability}, but got {type(result).__name__}")
    height, width = request.view.pixels.shape[:2]
    if isinstance(result, Detections):
        if result.masks is None:
            raise InvalidData("expected detections with masks, but got boxes alone")
        _check_frame(result.masks.shape, (height, width))
        _check_scores(result.scores)
    elif isinstance(result, Points):
        if not np.isfinite(result.points).all():
            raise InvalidData("expected finite points, but got NaN or infinity")
        _check_scores(result.scores)
    elif isinstance(result, Candidates) and isinstance(request, SegmentPrompts):
        if not len(result.masks) == len(result.scores) == len(request.prompts):
            counts = f"{len(result.masks)} masks and {len(result.scores)} scores"
            raise InvalidData(f"expected candidates for {len(request.prompts)} prompts, but got {counts}")
        for masks, scores in zip(result.masks, result.scores, strict=True):
            _check_frame(masks.shape, (height, width))
            if len(masks) != len(scores) or not len(masks):
                raise InvalidData(f"expected a score a candidate, but got {len(masks)} masks and {len(scores)} scores")
            _check_scores(scores)
    elif isinstance(result, Upscaled) and isinstance(request, Upscale):
        shape = (request.factor * height, request.factor * width, 3)
        if result.pixels.shape != shape or result.pixels.dtype != np.uint8:
            got = f"{result.pixels.dtype} {result.pixels.shape}"
            raise InvalidData(f"expected an enlarged image of uint8 {shape}, but got {got}")
    elif isinstance(result, Depth):
        nearness = np.asarray(result.nearness)
        if nearness.shape != (height, width) or not ((nearness >= 0) & (nearness <= 1)).all():
            raise InvalidData(f"expected nearness from 0 to 1 over {(height, width)}, but got {_range(nearness)}")
    elif isinstance(result, Embedding) and isinstance(request, Embed):
        _check_vectors(result, len(request.texts))
    elif isinstance(result, TextLines):
        if not len(result.texts) == len(result.corners) == len(result.scores):
            counts = f"{len(result.texts)} texts, {len(result.corners)} places and {len(result.scores)} scores"
            raise InvalidData(f"expected as many of each for the lines of a text, but got {counts}")
        if result.corners.shape[1:] != (4, 2) or not np.isfinite(result.corners).all():
            raise InvalidData(f"expected four finite corners a line, but got {_range(result.corners)}")
        _check_scores(result.scores)
    elif isinstance(result, Passages) and isinstance(request, Search):
        _check_passages(result, request.limit)
    elif isinstance(result, Ran):
        pixels = result.pixels
        if pixels is not None and (pixels.dtype != np.uint8 or pixels.shape[2:] != (3,) or not pixels.size):
            raise InvalidData(f"expected an image of uint8 (H, W, 3), but got {pixels.dtype} {pixels.shape}")
    elif isinstance(result, Description) and not isinstance(result.text, str):
        raise InvalidData(f"expected a text, but got {type(result.text).__name__}")


def _check_passages(result: Passages, limit: int) -> None:
    if not len(result.titles) == len(result.texts) == len(result.scores) <= limit:
        counts = f"{len(result.titles)} titles, {len(result.texts)} texts and {len(result.scores)} scores"
        raise InvalidData(f"expected as many of each for at most {limit} passages, but got {counts}")
    for text in (*result.titles, *result.texts):
        if not isinstance(text, str):
            raise InvalidData(f"expected passages of text, but got one of type {type(text).__name__}")
    if not np.isfinite(result.scores).all() or (np.diff(result.scores) > 0).any():
        raise InvalidData("expected finite scores, the best first, but got others")


def _check_vectors(result: Embedding, texts: int) -> None:
    if result.image.ndim != 1 or len(result.texts) != texts or (texts and result.texts.shape[1:] != result.image.shape):
        raise InvalidData(
            f"expected a vector, and {texts} as long ones for the texts, but got {result.image.shape} and "
            f"{result.texts.shape}"
        )
    lengths = np.linalg.norm(np.vstack([result.image[None], *([result.texts] if texts else [])]), axis=1)
    if not np.allclose(lengths, 1, atol=1e-3):
        raise InvalidData(f"expected vectors of length 1, but got lengths {lengths.min():.3g} to {lengths.max():.3g}")


def _range(values: FloatArray) -> str:
    return f"{values.shape}" + (f" from {values.min():.3g} to {values.max():.3g}" if values.size else "")


def _check_frame(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    if tuple(shape) != expected:
        raise InvalidData(f"expected masks over the image's (height, width) {expected}, but got {tuple(shape)}")


def _check_scores(scores: FloatArray) -> None:
    values = np.asarray(scores, dtype=np.float64)
    if not ((values >= 0) & (values <= 1 + _ROUNDING)).all():
        raise InvalidData(f"expected scores from 0 to 1, but got {values.min()} to {values.max()}")
