"""Content blocks, and that an image and its place belong together."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from visenv.errors import InvalidData
from visenv.protocol import (
    check_messages,
    count_images,
    get_dialect,
    image_block,
    placeholder,
    system_prompt,
    text_block,
    to_openai_content,
)
from visenv.types import Argument, ToolSpec

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def user(*blocks):
    return {"role": "user", "content": list(blocks)}


def test_placeholders_are_the_published_ones():
    assert placeholder("img_0_r1_c2") == "[System: Image img_0_r1_c2 has been archived to save memory]"
    assert placeholder("x", visualization=True) == "[System: Visualization image has been archived to save memory]"


def test_visible_images_are_counted():
    messages = [
        {"role": "system", "content": "Find things."},
        user(text_block("img_0:"), image_block("img_0", PIXELS)),
        {"role": "assistant", "content": None},
        user(image_block("img_1", PIXELS), text_block(placeholder("img_2"))),
    ]
    check_messages(messages)
    assert count_images(messages) == 2


@pytest.mark.parametrize(
    "token",
    [
        *("<image>", "<img>", "</img>", "<video>", "<IMG_CONTEXT>", "<start_of_image>", "<image_soft_token>"),
        *("<|image_pad|>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>", "<|image_1|>"),
        *("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    ],
)
def test_text_cannot_pass_for_an_image(token):
    block = text_block(f"a {token} b {token}")
    assert token not in block["text"]
    check_messages([user(block)])
    with pytest.raises(InvalidData, match="text_block"):
        check_messages([user({"type": "text", "text": f"a {token}"})])
    with pytest.raises(InvalidData, match="text_block"):
        check_messages([{"role": "assistant", "content": f"a {token}"}])


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "name": "img_0"},
        {"type": "image", "image": PIXELS},
        {"type": "image", "name": "img_0", "image": PIXELS[..., 0]},
        {"type": "image", "name": "img_0", "image": PIXELS / 255},
        {"type": "image", "name": "img_0", "image": PIXELS[:0]},
        {"type": "text"},
        {"type": "video", "text": "x"},
    ],
)
def test_a_broken_block_is_refused(block):
    with pytest.raises(InvalidData):
        check_messages([user(block)])
    if block["type"] == "image" and "name" in block and "image" in block:
        with pytest.raises(InvalidData):
            image_block(block["name"], block["image"])


def test_an_image_is_visible_once():
    with pytest.raises(InvalidData, match="'img_0' stands twice"):
        check_messages([user(image_block("img_0", PIXELS)), user(image_block("img_0", PIXELS))])


def test_openai_content_keeps_every_pixel():
    content = to_openai_content([text_block("look:"), image_block("img_0", PIXELS)])
    assert content[0] == {"type": "text", "text": "look:"}
    head, _, data = content[1]["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), PIXELS)
    jpeg = to_openai_content([image_block("img_0", PIXELS)], "jpeg")[0]["image_url"]["url"]
    assert Image.open(io.BytesIO(base64.b64decode(jpeg.partition(",")[2]))).format == "JPEG"


def test_openai_content_refuses_what_it_does_not_know():
    with pytest.raises(InvalidData, match="'bmp'"):
        to_openai_content([], "bmp")
    with pytest.raises(InvalidData, match="audio"):
        to_openai_content([{"type": "audio"}])


@pytest.mark.parametrize(
    "blocks",
    [
        [],
        [text_block("Two dogs.\n")],
        [image_block("a", PIXELS)],
        [text_block("a:"), image_block("a", PIXELS), text_block("\n"), image_block("b", PIXELS)],
        [text_block("an </tool_response> inside")],
    ],
)
def test_wrapped_blocks_open_once_and_end_with_the_tag(blocks):
    wrapped = get_dialect("qwen3_vl").wrap_blocks(blocks)
    text = "".join(block.get("text", "\0") for block in wrapped)
    assert text.startswith("<tool_response>\n")
    assert text.endswith("\n</tool_response>")
    assert text.count("</tool_response>") == 1
    assert count_images([user(*wrapped)]) == count_images([user(*blocks)])
    check_messages([user(*wrapped)])
    assert get_dialect("openai").wrap_blocks(blocks) == blocks


def test_the_prompt_tells_tools_rules_and_limits():
    spec = ToolSpec("Zoom", "Look closer.", (Argument("image", "image", "Which one."),))
    for name in ("qwen3_vl", "qwen3_5"):
        prompt = system_prompt([spec], get_dialect(name), 10)
        assert '"name": "Zoom"' in prompt
        assert get_dialect(name).help() in prompt
        assert "10 turns" in prompt
    assert "Zoom" not in system_prompt([spec], get_dialect("openai"), 10)
