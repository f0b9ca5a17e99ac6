"""What a row of a training set is made of, before it takes the form of one: messages, pictures by digest, a target."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from visenv.adapters.verl.data import ground_truth
from visenv.errors import InvalidData
from visenv.export.replaying import Snapshot
from visenv.protocol.messages import check_messages
from visenv.types import Pixels, Truth

Keep: TypeAlias = "Callable[[Pixels], str]"
"""Stores a picture, and returns its digest."""
PICTURE = {"type": "image"}
"""The place of a picture in a message; the pictures themselves are listed beside the messages, in order."""


@dataclass(frozen=True)
class Example:
    """One row: a conversation, and what is to be written next."""

    messages: tuple[dict[str, Any], ...]
    """``{"role", "content"}``, the content a list of text blocks and of ``{"type": "image"}``."""
    images: tuple[str, ...]
    """Digests of the pictures, in the order of their places."""
    target: str | None = None
    """What the model is to write; None in a row that is a prompt alone."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Further columns: where the row comes from."""
    ground_truth: str = ""
    """JSON, as ``visenv.rewards.visharness.compute_score`` takes it; of prompts."""

    @property
    def digest(self) -> str:
        """Of all that a model would see and learn."""
        written = json.dumps([self.messages, self.images, self.target], sort_keys=True)
        return hashlib.sha256(written.encode()).hexdigest()


def turn_example(snapshot: Snapshot, keep: Keep, facts: Mapping[str, Any]) -> Example:
    """The row of one turn: exactly what it saw, and what it wrote.

    Args:
        snapshot: of the turn.
        keep: stores its pictures.
        facts: further columns.
    """
    messages, images = _stored(snapshot.messages, keep)
    return Example(messages, images, snapshot.target, facts)


def prompt_example(
    messages: Sequence[Mapping[str, Any]], truth: Truth, keep: Keep, facts: Mapping[str, Any]
) -> Example:
    """The row of a sample: what an episode about it begins with, and what is right.

    Args:
        messages: of the episode before its first turn.
        truth: of the sample.
        keep: stores its pictures.
        facts: further columns.
    """
    stored, images = _stored(messages, keep)
    return Example(stored, images, None, facts, json.dumps(ground_truth(truth)))


def check_places(messages: Sequence[Mapping[str, Any]], images: Sequence[str]) -> None:
    """Make sure that there is a place for every picture, and a picture for every place.

    Raises:
        InvalidData: if not.
    """
    places = sum(block["type"] == "image" for message in messages for block in message["content"])
    if places != len(images):
        raise InvalidData(f"Expected as many places as pictures in a row, but got {places} and {len(images)}.")


def _stored(messages: Sequence[Mapping[str, Any]], keep: Keep) -> tuple[tuple[dict[str, Any], ...], tuple[str, ...]]:
    check_messages(messages)
    out, images = [], []
    for message in messages:
        content = []
        for block in message["content"]:
            if block["type"] == "image":
                images.append(keep(block["image"]))
                content.append(dict(PICTURE))
            elif content and content[-1]["type"] == "text":
                content[-1] = {"type": "text", "text": content[-1]["text"] + block["text"]}
            else:
                content.append({"type": "text", "text": block["text"]})
        out.append({"role": message["role"], "content": content})
    check_places(out, images)
    return tuple(out), tuple(images)
