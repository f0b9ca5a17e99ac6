"""Requests and results as messages, and back.

Each kind has its own way there and back, written out: nothing that a message names is looked up, imported or called.
Pixels are named by their digest, so that an image that the other side holds already stays where it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from visenv.capabilities import (
    Candidates,
    Depth,
    Describe,
    Description,
    Embed,
    Embedding,
    EstimateDepth,
    ExpertFailure,
    FindVisualPrompts,
    GroundPhrase,
    Passages,
    PointPhrase,
    Points,
    Prompt,
    Ran,
    ReadText,
    Request,
    Result,
    RunCode,
    Search,
    SegmentPrompts,
    TextLines,
    Upscale,
    Upscaled,
    View,
)
from visenv.errors import ExpertError, InvalidData
from visenv.images import Provenance, RootPixels
from visenv.masks import Masks
from visenv.serve.wire import Fields, Reader, WireError, Writer
from visenv.types import Detections, Pixels

NO_PIXELS = np.zeros((0, 0, 3), np.uint8)
_MOST_PROMPTS = 65536
_MOST_VIEWS = 4096


def digest_of(pixels: Pixels) -> str:
    """A digest of shape and pixels, as ``RootPixels`` takes it."""
    return RootPixels(pixels).digest


def views_of(request: Request) -> tuple[View, ...]:
    """All images that a request is about."""
    return (request.view, *request.others) if isinstance(request, Describe) else (request.view,)


# --- requests -----------------------------------------------------------------------------------------------------


def pack_requests(
    requests: Sequence[Request], digests: Mapping[str, str], send: Mapping[str, Pixels], **facts: Any
) -> bytes:
    """A message of requests.

    Args:
        requests: of any kinds.
        digests: of the pixels of all their views, by provenance key.
        send: the pixels that travel along, by digest.
        **facts: further values of the header.
    """
    writer = Writer()
    places: dict[tuple[Any, ...], int] = {}
    views: list[dict[str, Any]] = []

    def place(view: View) -> int:
        key = (view.provenance.key, view.name, view.root, np.asarray(view.to_root, float).tobytes())
        if key not in places:
            places[key] = len(views)
            views.append(_view_record(view, digests[view.provenance.key], writer))
        return places[key]

    asked = [_request_record(request, place, writer) for request in requests]
    images = {digest: writer.array(pixels) for digest, pixels in send.items()}
    return writer.message({**facts, "requests": asked, "views": views, "images": images})


def _view_record(view: View, digest: str, writer: Writer) -> dict[str, Any]:
    return {
        "image": digest,
        "size": list(view.pixels.shape[:2]),
        "digest": view.provenance.root.digest,
        "steps": list(view.provenance.steps),
        "name": view.name,
        "root": view.root,
        "to_root": writer.array(np.asarray(view.to_root, np.float64)),
    }


def _request_record(request: Request, place: Callable[[View], int], writer: Writer) -> dict[str, Any]:
    record: dict[str, Any] = {"kind": request.capability, "view": place(request.view)}
    if isinstance(request, (GroundPhrase, PointPhrase)):
        return record | {"phrase": request.phrase}
    if isinstance(request, SegmentPrompts):
        return record | {"prompts": [_prompt_record(prompt, writer) for prompt in request.prompts]}
    if isinstance(request, Upscale):
        return record | {"factor": int(request.factor)}
    if isinstance(request, Embed):
        return record | {"texts": list(request.texts)}
    if isinstance(request, Describe):
        others = [place(other) for other in request.others]
        return record | {"task": request.task, "focus": request.focus, "others": others}
    if isinstance(request, (EstimateDepth, ReadText, FindVisualPrompts)):
        return record
    if isinstance(request, Search):
        return record | {"query": request.query, "limit": int(request.limit)}
    if isinstance(request, RunCode):
        return record | {"code": request.code, "source": request.source, "target": request.target}
    raise InvalidData(f"Expected a request of visenv.capabilities, but got {type(request).__name__}.")


def _prompt_record(prompt: Prompt, writer: Writer) -> dict[str, Any]:
    record: dict[str, Any] = {"points": writer.array(prompt.points)}
    if prompt.labels is not None:
        record["labels"] = writer.array(prompt.labels)
    if prompt.box is not None:
        record["box"] = writer.array(prompt.box)
    if prompt.mask is not None:
        record["mask"] = _masks_record(prompt.mask, writer)
    return record


def images_named(reader: Reader) -> dict[str, Pixels | None]:
    """All images that a message of requests names, by digest; with their pixels where they came along.

    Raises:
        WireError: if the message is no such, or pixels are not those that the digest is of.
    """
    with _broken():
        found: dict[str, Pixels | None] = {
            view.text("image"): None for view in reader.fields.inners("views", _MOST_VIEWS)
        }
        sent = reader.fields.inner("images")
        for digest in sent.values:
            pixels = sent.array(digest)
            _check_pixels(pixels, reader)
            if digest not in found or digest_of(pixels) != digest:
                raise WireError(f"Expected the pixels of the image {digest!r:.40}, but got others.")
            found[digest] = pixels
        return found


def unpack_requests(reader: Reader, pixels: Mapping[str, Pixels | None], *, seal: bool = False) -> list[Request]:
    """The requests of a message.

    Args:
        reader: the message.
        pixels: by digest, of all images that it names.
        seal: whether to make the provenance of each view one that its sender cannot have made up. Experts and pools
            remember what they found by it: what one client says of its pixels must not answer another's.

    Raises:
        WireError: if the message is no such.
    """
    with _broken():
        views = [_view(view, pixels, seal) for view in reader.fields.inners("views", _MOST_VIEWS)]
        return [_request(record, views) for record in reader.fields.inners("requests", reader.limits.requests)]


def _view(record: Fields, pixels: Mapping[str, Pixels | None], seal: bool) -> View:
    digest = record.text("image")
    if (seen := pixels.get(digest)) is None:
        raise WireError(f"Expected the pixels of the image {digest!r:.40}, but they are not there.")
    if list(seen.shape[:2]) != record.values.get("size"):
        raise WireError(f"Expected the size of an image, {seen.shape[:2]}, but got another.")
    to_root = record.array("to_root")
    if to_root.shape != (3, 3) or not np.isfinite(to_root).all():
        raise WireError(f"Expected a finite (3, 3) transform to the root, but got the shape {to_root.shape}.")
    provenance = Provenance(_root_of(record.text("digest")), record.texts("steps"))
    if seal:
        parts = "\n".join((digest, provenance.key, to_root.tobytes().hex()))
        known = hashlib.sha256(parts.encode("utf-8", "backslashreplace")).hexdigest()[:32]
        provenance = Provenance(_root_of(known), provenance.steps)
    return View(seen, provenance, record.text("name"), record.text("root"), to_root)


def _root_of(digest: str) -> RootPixels:
    """A root of which only the digest is known."""
    root = RootPixels(NO_PIXELS)
    vars(root)["digest"] = digest  # what would be computed from the pixels that stayed behind
    return root


def _request(record: Fields, views: Sequence[View]) -> Request:
    kind = record.text("kind")
    view = _chosen(record.number("view"), views)
    if kind == "GroundPhrase":
        return GroundPhrase(view, record.text("phrase"))
    if kind == "PointPhrase":
        return PointPhrase(view, record.text("phrase"))
    if kind == "SegmentPrompts":
        prompts = record.inners("prompts", _MOST_PROMPTS)
        return SegmentPrompts(view, tuple(_prompt(prompt, view.pixels.shape[:2]) for prompt in prompts))
    if kind == "Upscale":
        factor = record.number("factor", least=1)
        if factor**2 * view.pixels.shape[0] * view.pixels.shape[1] > record.reader.limits.image_pixels:
            raise WireError(f"Expected a factor that gives a picture within limits, but got {factor}.")
        return Upscale(view, factor)
    if kind == "EstimateDepth":
        return EstimateDepth(view)
    if kind == "Embed":
        return Embed(view, record.texts("texts"))
    if kind == "Describe":
        others = record.list_of("others", lambda number: _chosen(number, views), _MOST_VIEWS)
        return Describe(view, record.text("task"), record.text("focus"), tuple(others))
    if kind == "ReadText":
        return ReadText(view)
    if kind == "FindVisualPrompts":
        return FindVisualPrompts(view)
    if kind == "Search":
        return Search(record.text("query"), record.number("limit", least=1), view)
    if kind == "RunCode":
        return RunCode(view, record.text("code"), record.text("source"), record.text("target"))
    raise WireError(f"Expected a known kind of request, but got {kind!r:.80}.")


def _chosen(number: Any, views: Sequence[View]) -> View:
    if type(number) is not int or not 0 <= number < len(views):
        raise WireError(f"Expected the number of one of {len(views)} images, but got {number!r:.80}.")
    return views[number]


def _prompt(record: Fields, frame: tuple[int, ...]) -> Prompt:
    points, labels = record.array("points"), record.optional("labels", record.array)
    box = record.optional("box", record.array)
    mask = record.optional("mask", lambda name: _masks(record.inner(name)))
    if mask is not None:
        x0, y0, x1, y1 = mask.boxes.sum(axis=0)
        record.reader.charge(int((x1 - x0) * (y1 - y0)))
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise WireError(f"Expected finite points (K, 2), but got the shape {points.shape}.")
    if labels is not None and labels.shape != points.shape[:1]:
        raise WireError(f"Expected a label for each of {len(points)} points, but got the shape {labels.shape}.")
    if box is not None and (box.shape != (4,) or not np.isfinite(box).all()):
        raise WireError(f"Expected a finite box (4,), but got the shape {box.shape}.")
    if mask is not None and (len(mask) != 1 or mask.shape != tuple(frame)):
        raise WireError(f"Expected one mask over {tuple(frame)}, but got {len(mask)} over {mask.shape}.")
    return Prompt(points, labels, box, mask)


# --- results ------------------------------------------------------------------------------------------------------


def pack_results(results: Sequence[Result | ExpertFailure | ExpertError], **facts: Any) -> bytes:
    """A message of results.

    Args:
        results: or what stands in their places.
        **facts: further values of the header.
    """
    writer = Writer()
    return writer.message({**facts, "results": [_result_record(result, writer) for result in results]})


def unpack_results(reader: Reader) -> list[Result | ExpertFailure | ExpertError]:
    """The results of a message.

    Raises:
        WireError: if the message is no such.
    """
    with _broken():
        return [_result(record) for record in reader.fields.inners("results", reader.limits.requests)]


def _result_record(result: Result | ExpertFailure | ExpertError, writer: Writer) -> dict[str, Any]:
    record: dict[str, Any] = {"kind": type(result).__name__}
    if isinstance(result, Detections):
        masks = None if result.masks is None else _masks_record(result.masks, writer)
        boxes, scores = writer.array(result.boxes), writer.array(result.scores)
        labels = None if result.labels is None else list(result.labels)
        return record | {"boxes": boxes, "masks": masks, "scores": scores, "labels": labels}
    if isinstance(result, Points):
        return record | {"points": writer.array(result.points), "scores": writer.array(result.scores)}
    if isinstance(result, Candidates):
        masks_of = [_masks_record(masks, writer) for masks in result.masks]
        return record | {"masks": masks_of, "scores": [writer.array(scores) for scores in result.scores]}
    if isinstance(result, Upscaled):
        return record | {"pixels": writer.array(result.pixels), "fingerprint": result.fingerprint}
    if isinstance(result, Depth):
        return record | {"nearness": writer.array(result.nearness)}
    if isinstance(result, Embedding):
        return record | {"image": writer.array(result.image), "texts": writer.array(result.texts)}
    if isinstance(result, Description):
        return record | {"text": result.text}
    if isinstance(result, TextLines):
        corners, scores = writer.array(result.corners), writer.array(result.scores)
        return record | {"texts": list(result.texts), "corners": corners, "scores": scores}
    if isinstance(result, Passages):
        scores = writer.array(result.scores)
        return record | {"titles": list(result.titles), "texts": list(result.texts), "scores": scores}
    if isinstance(result, Ran):
        pixels = None if result.pixels is None else writer.array(result.pixels)
        return record | {"pixels": pixels, "text": result.text, "error": result.error}
    if isinstance(result, ExpertError):
        memory = isinstance(result.__cause__, MemoryError)
        return record | {"expert": result.expert, "message": result.message, "memory": memory}
    if isinstance(result, ExpertFailure):
        return record | {"expert": result.expert, "message": result.message}
    raise InvalidData(f"Expected a result of visenv.capabilities, but got {type(result).__name__}.")


def _result(record: Fields) -> Result | ExpertFailure | ExpertError:
    kind = record.text("kind")
    if kind == "Detections":
        masks = record.optional("masks", lambda name: _masks(record.inner(name)))
        return Detections(record.array("boxes"), masks, record.array("scores"), record.optional("labels", record.texts))
    if kind == "Points":
        return Points(record.array("points"), record.array("scores"))
    if kind == "Candidates":
        masks_of = tuple(_masks(masks) for masks in record.inners("masks", _MOST_PROMPTS))
        return Candidates(masks_of, tuple(record.arrays("scores", _MOST_PROMPTS)))
    if kind == "Upscaled":
        pixels = record.array("pixels")
        _check_pixels(pixels, record.reader)
        return Upscaled(pixels, record.text("fingerprint"))
    if kind == "Depth":
        return Depth(record.array("nearness"))
    if kind == "Embedding":
        return Embedding(record.array("image"), record.array("texts"))
    if kind == "Description":
        return Description(record.text("text"))
    if kind == "TextLines":
        return TextLines(record.texts("texts"), record.array("corners"), record.array("scores"))
    if kind == "Passages":
        return Passages(record.texts("titles"), record.texts("texts"), record.array("scores"))
    if kind == "Ran":
        made = record.optional("pixels", record.array)
        if made is not None:
            _check_pixels(made, record.reader)
        return Ran(made, record.text("text"), record.text("error"))
    if kind == "ExpertFailure":
        return ExpertFailure(record.text("expert"), record.text("message"))
    if kind == "ExpertError":
        error = ExpertError(record.text("expert"), record.text("message"))
        if record.flag("memory"):
            error.__cause__ = MemoryError()
        return error
    raise WireError(f"Expected a known kind of result, but got {kind!r:.80}.")


# --- parts --------------------------------------------------------------------------------------------------------


def _masks_record(masks: Masks, writer: Writer) -> dict[str, Any]:
    """Masks as COCO RLEs, the compressed counts of all in one buffer."""
    counts = [rle["counts"].encode("ascii") for rle in masks.to_coco_rles()]
    return {
        "size": list(masks.shape),
        "lengths": writer.array(np.array([len(text) for text in counts], np.int64)),
        "counts": writer.buffer(b"".join(counts)),
    }


def _masks(record: Fields) -> Masks:
    size = record.list_of("size", lambda side: side, 2)
    data = record.reader.buffer(record.values.get("counts"))
    lengths = record.array("lengths")
    most = record.reader.limits.mask_text
    if (
        lengths.ndim != 1
        or lengths.dtype != np.int64
        or (lengths.size and not 0 < lengths.min() <= lengths.max() <= most)
    ):
        raise WireError(f"Expected the lengths of masks, of at most {most} bytes, but got {lengths.shape}.")
    if lengths.sum() != len(data):
        raise WireError(f"Expected the lengths of masks to add up to {len(data)} bytes, but got {lengths.sum()}.")
    record.reader.charge(8 * len(data) + 512 * len(lengths))
    ends = np.cumsum(lengths)
    parts = [bytes(data[end - length : end]) for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]
    return Masks.from_coco_rles([{"size": size, "counts": part} for part in parts], (size[0], size[1]))


def _check_pixels(pixels: np.ndarray[Any, Any], reader: Reader) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise WireError(f"Expected an image as uint8 (H, W, 3), but got {pixels.dtype} {pixels.shape}.")
    if pixels.shape[0] * pixels.shape[1] > reader.limits.image_pixels:
        raise WireError(f"Expected an image of at most {reader.limits.image_pixels} pixels, but got {pixels.shape}.")


@contextmanager
def _broken() -> Iterator[None]:
    """What the parts of a message refuse is the message's fault."""
    try:
        yield
    except WireError:
        raise
    except (InvalidData, IndexError) as error:
        raise WireError(f"Expected a message of visenv, but its parts do not fit: {error}") from None
