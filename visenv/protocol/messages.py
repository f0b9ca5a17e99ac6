"""Content blocks of chat messages, and the rule that an image and its place in the text belong together.

A message is ``{"role": str, "content": str | list of blocks}``; a block is ``{"type": "text", "text": str}`` or
``{"type": "image", "name": str, "image": pixels}``. An image that is visible is one image block; one that is archived
is its placeholder text; nothing else in a conversation may look like an image to a tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from visenv.errors import InvalidData
from visenv.images import to_data_url
from visenv.types import Pixels

Block: TypeAlias = dict[str, Any]
Message: TypeAlias = Mapping[str, Any]

VISUALIZATION_PLACEHOLDER = "[System: Visualization image has been archived to save memory]"
_IMAGE_TOKENS = re.compile(r"<(?=(?:/?img|image|video|IMG_CONTEXT|(?:start|end)_of_image|image_soft_token|\|\w+\|)>)")


def placeholder(name: str, visualization: bool = False) -> str:
    """What stands in the place of an archived image (VisHarness, arXiv 2605.29894, released code).

    Args:
        name: of the image.
        visualization: whether it is a picture of results or of a split, which cannot be named again.

    Example:
        >>> placeholder("img_0")
        '[System: Image img_0 has been archived to save memory]'
    """
    return VISUALIZATION_PLACEHOLDER if visualization else f"[System: Image {name} has been archived to save memory]"


def text_block(text: str) -> Block:
    """A block of text, in which nothing can be taken for an image or the end of a message.

    Example:
        >>> text_block("find the <image>")
        {'type': 'text', 'text': 'find the < image>'}
    """
    return {"type": "text", "text": escape_image_tokens(text)}


def image_block(name: str, pixels: Pixels) -> Block:
    """A block that shows an image.

    Args:
        name: of the image, as tools take it.
        pixels: (H, W, 3) uint8 RGB; not copied.

    Raises:
        InvalidData: if the name is empty or the pixels have another shape or type.
    """
    block = {"type": "image", "name": name, "image": pixels}
    _check_image(block)
    return block


def escape_image_tokens(text: str) -> str:
    """Break up what models take for images or for the end of a message, so that it stays text.

    These are the tokens of common families: ``<image>``, ``<IMG_CONTEXT>``, ``<start_of_image>`` and their like, and
    everything of the form ``<|image_pad|>``, ``<|im_end|>``.
    """
    return _IMAGE_TOKENS.sub("< ", text)


def image_names(messages: Iterable[Message]) -> list[str]:
    """The names of all visible images, in order."""
    return [block["name"] for block in _blocks(messages) if block.get("type") == "image"]


def count_images(messages: Iterable[Message]) -> int:
    """How many images are visible in a conversation."""
    return len(image_names(messages))


def check_messages(messages: Sequence[Message]) -> None:
    """Make sure that a conversation shows each of its images exactly once.

    Raises:
        InvalidData: if a block is of another type or has no text or pixels, if an image is visible twice, or if a text
            holds something that a model would take for an image or the end of a message.
    """
    seen: set[str] = set()
    for block in _blocks(messages):
        if block.get("type") == "image":
            _check_image(block)
            if block["name"] in seen:
                raise InvalidData(f"Expected each visible image once, but {block['name']!r} stands twice: archive one.")
            seen.add(block["name"])
        elif block.get("type") != "text" or not isinstance(block.get("text"), str):
            raise InvalidData(f"Expected blocks of text or images, but got one of type {block.get('type')!r}.")
        elif token := _IMAGE_TOKENS.search(block["text"]):
            start = token.start()
            raise InvalidData(
                f"Expected text without image tokens, but got {block['text'][start : start + 16]!r}: "
                "make the block with text_block."
            )


def to_openai_content(blocks: Iterable[Block], image_format: Literal["png", "jpeg"] = "png") -> list[Block]:
    """Blocks as an OpenAI-compatible server takes them: images as data URLs.

    Args:
        blocks: of one message.
        image_format: ``png`` keeps every pixel; ``jpeg`` (quality 95) is smaller.

    Returns:
        As many blocks, of type ``text`` and ``image_url``.

    Raises:
        InvalidData: for a block that is neither text nor image, or an unknown format.
    """
    if image_format not in ("png", "jpeg"):
        raise InvalidData(f"Expected the image format 'png' or 'jpeg', but got {image_format!r}.")
    content: list[Block] = []
    for block in blocks:
        if block.get("type") == "image":
            _check_image(block)
            url = to_data_url(block["image"], encoding=image_format, quality=95)
            content.append({"type": "image_url", "image_url": {"url": url}})
        elif block.get("type") == "text":
            content.append({"type": "text", "text": block["text"]})
        else:
            raise InvalidData(f"Expected blocks of text or images, but got one of type {block.get('type')!r}.")
    return content


def _blocks(messages: Iterable[Message]) -> Iterator[Block]:
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            yield {"type": "text", "text": content}
        elif content is not None:
            yield from content


def _check_image(block: Block) -> None:
    name, pixels = block.get("name"), block.get("image")
    if not isinstance(name, str) or not name:
        raise InvalidData(f"Expected an image block with a name, but got {name!r}.")
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        got = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise InvalidData(f"Expected the pixels of {name!r} as uint8 (H, W, 3), but got {got}.")
    if not pixels.size:
        raise InvalidData(f"Expected pixels in {name!r}, but it is empty: {pixels.shape}.")
