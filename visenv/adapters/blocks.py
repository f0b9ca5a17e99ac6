"""What replies are made of, as trainers take it: text, and pictures as Pillow images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from PIL import Image

from visenv.errors import InvalidData


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
