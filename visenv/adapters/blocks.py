"""Replies as trainers take them: text, and pictures as Pillow images, data URLs or MCP images.

As arrays of a fixed size: see ``visenv.adapters.padding``.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from PIL import Image

from visenv.errors import InvalidData, InvalidImage
from visenv.images import load_image, to_data_url
from visenv.protocol.messages import to_openai_content
from visenv.types import Pixels

MAX_URL = 64 * 2**20
"""Characters of a data URL that are read."""


def with_pillow(blocks: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Content blocks whose pictures are Pillow images, as processors of transformers take them.

    Example:
        >>> import numpy as np
        >>> with_pillow([{"type": "image", "name": "img_0", "image": np.zeros((2, 3, 3), np.uint8)}])[0]["image"].size
        (3, 2)
    """
    return [
        {"type": "image", "image": Image.fromarray(block["image"])}
        if block["type"] == "image"
        else {"type": "text", "text": block["text"]}
        for block in blocks
    ]


def with_data_urls(
    blocks: Iterable[dict[str, Any]], image_format: Literal["png", "jpeg"] = "png"
) -> list[dict[str, Any]]:
    """Content blocks as OpenAI-compatible servers take them: pictures as ``image_url`` with a data URL.

    Args:
        blocks: of one message.
        image_format: ``png`` keeps every pixel; ``jpeg`` is smaller.

    Raises:
        InvalidData: for a block that is neither text nor image, or an unknown format.

    Example:
        >>> import numpy as np
        >>> block = {"type": "image", "name": "img_0", "image": np.zeros((2, 3, 3), np.uint8)}
        >>> with_data_urls([block])[0]["image_url"]["url"][:22]
        'data:image/png;base64,'
    """
    return to_openai_content(blocks, image_format)


def with_mcp_images(blocks: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Content blocks of the Model Context Protocol, as they stand in its JSON: pictures as PNG in base64.

    Example:
        >>> import numpy as np
        >>> block = {"type": "image", "name": "img_0", "image": np.zeros((2, 3, 3), np.uint8)}
        >>> content = with_mcp_images([{"type": "text", "text": "Look:"}, block])
        >>> content[0], content[1]["mimeType"]
        ({'type': 'text', 'text': 'Look:'}, 'image/png')
    """
    return [
        _mcp_image(to_data_url(block["image"])) if block["type"] == "image" else {"type": "text", "text": block["text"]}
        for block in blocks
    ]


def _mcp_image(url: str) -> dict[str, Any]:
    kind, _, data = url.removeprefix("data:").partition(";base64,")
    return {"type": "image", "data": data, "mimeType": kind}


def pictures_in(content: Iterable[Mapping[str, Any]]) -> list[Pixels]:
    """The pictures of content parts with data URLs, in order: what ``with_data_urls`` has written.

    Args:
        content: parts of one message, of any type; those of another type than ``image_url`` have none.

    Returns:
        One (H, W, 3) uint8 RGB a picture.

    Raises:
        InvalidImage: if a part has no data URL, or what is in it is no picture; nothing is fetched from elsewhere.

    Example:
        >>> import numpy as np
        >>> block = {"type": "image", "name": "img_0", "image": np.full((2, 3, 3), 7, np.uint8)}
        >>> pictures_in(with_data_urls([block]))[0][0, 0].tolist()
        [7, 7, 7]
    """
    return [_from_data_url(part.get("image_url")) for part in content if part.get("type") == "image_url"]


def _from_data_url(source: object) -> Pixels:
    url = source.get("url") if isinstance(source, Mapping) else None
    if not isinstance(url, str) or not url.startswith("data:image/") or ";base64," not in url[:64]:
        raise InvalidImage(f"Expected a picture as 'data:image/…;base64,…', but got {str(url)[:60]!r}.")
    if len(url) > MAX_URL:
        raise InvalidImage(f"Expected a data URL of at most {MAX_URL} characters, but got {len(url)}.")
    try:
        data = base64.b64decode(url.partition(",")[2], validate=True)
    except ValueError as error:
        raise InvalidImage(f"Expected a picture in base64, but it is none: {error}.") from None
    return load_image(data)


def as_text(blocks: Iterable[Mapping[str, Any]]) -> str:
    """Content blocks as text alone, ``[image NAME]`` in the place of each picture.

    Example:
        >>> import numpy as np
        >>> image = {"type": "image", "name": "img_0", "image": np.zeros((2, 3, 3), np.uint8)}
        >>> as_text([{"type": "text", "text": "Look: "}, image])
        'Look: [image img_0]'
    """
    return "".join(f"[image {block['name']}]" if block["type"] == "image" else block["text"] for block in blocks)


def check_chat_template(processor: Any) -> None:
    """Make sure that a model's chat template shows the pictures of tool replies: some drop them without a word.

    Args:
        processor: with ``apply_chat_template``, as transformers' processors have it.

    Raises:
        InvalidData: if the template fails on such a reply, or leaves out the picture, the text or the call.
    """
    call = {"type": "function", "function": {"name": "Look", "arguments": {"image": "argument_7f3a"}}}
    picture = [{"type": "image"}, {"type": "text", "text": "reply_7f3a"}]

    def rendered(content: list[dict[str, str]]) -> str:
        messages = [
            {"role": "user", "content": [{"type": "text", "text": "task_7f3a"}]},
            {"role": "assistant", "content": [{"type": "text", "text": ""}], "tool_calls": [call]},
            {"role": "tool", "name": "Look", "content": content},
        ]
        return str(processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    try:
        with_picture, without = rendered(picture), rendered(picture[1:])
    except Exception as error:
        raise InvalidData(
            f"Expected a chat template that renders tool calls and replies with pictures, but it failed: {error}"
        ) from error
    if with_picture == without:
        raise InvalidData(
            "Expected a chat template that shows the pictures of tool replies, but this one drops them: the model "
            "would be trained blind. Use a template that renders image blocks in messages of the role 'tool'."
        )
    for part, what in (("reply_7f3a", "texts of tool replies"), ("argument_7f3a", "arguments of tool calls")):
        if part not in with_picture:
            raise InvalidData(f"Expected a chat template that shows the {what}, but this one drops them.")
