"""Content blocks for trainers: no pixel is lost on the way, and what comes back is read with care."""

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from visenv.adapters.blocks import pictures_in, with_data_urls, with_mcp_images, with_pillow
from visenv.adapters.calls import written_call
from visenv.adapters.making import Shared
from visenv.errors import InvalidImage
from visenv.images import load_image

PIXELS = arrays.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3)))


def image(pixels, name="img_0"):
    return {"type": "image", "name": name, "image": pixels}


@given(st.lists(PIXELS, max_size=3))
def test_every_form_keeps_every_pixel_and_the_order(pictures):
    blocks = [{"type": "text", "text": "Look:"}, *map(image, pictures)]
    forms = {
        "pillow": [np.asarray(block["image"]) for block in with_pillow(blocks)[1:]],
        "urls": pictures_in(with_data_urls(blocks)),
        "mcp": [load_image(base64.b64decode(block["data"])) for block in with_mcp_images(blocks)[1:]],
    }
    for found in forms.values():
        assert len(found) == len(pictures)
        for one, other in zip(found, pictures, strict=True):
            np.testing.assert_array_equal(one, other)
    assert [form[0]["text"] for form in (with_pillow(blocks), with_data_urls(blocks), with_mcp_images(blocks))] == [
        "Look:"
    ] * 3


@pytest.mark.parametrize(
    "url",
    [
        None,
        7,
        "",
        "http://localhost/x.png",
        "file:///etc/passwd",
        "data:text/html;base64,AAAA",
        "data:image/png,AAAA",
        "data:image/png;base64,é",
        "data:image/png;base64,AAAA",
        "data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode(),
    ],
)
def test_what_is_no_picture_in_a_data_url_is_refused(url):
    with pytest.raises(InvalidImage):
        pictures_in([{"type": "image_url", "image_url": {"url": url}}])
    with pytest.raises(InvalidImage):
        pictures_in([{"type": "image_url", "image_url": url}])


def test_environments_that_share_have_an_episode_and_a_stream_of_samples_each():
    shared = Shared("VisHarness/RefSeg-v0", {"split": "val", "experts": "oracle", "obs": "features"})
    one, other = shared.make(), shared.make()
    one.reset(seed=1)
    other.reset(seed=2)
    one.step({"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}})
    assert (one.episode.turns, other.episode.turns) == (1, 0)
    assert one.episode.sample_id != other.episode.sample_id
    assert [spec.name for spec in shared.specs][-1] == "Answer"


@pytest.mark.parametrize("arguments", [{"images": ["img_0"]}, {}, [], None, {"images": {1}}, {"x": float("nan")}])
@pytest.mark.parametrize("name", ["MergeBoxMask", "Nothing", "Answer", "", None, 3])
def test_any_call_becomes_a_turn(name, arguments):
    env = Shared("VisHarness/RefSeg-v0", {"split": "val", "action_mode": "text", "obs": "features"}).make()
    env.reset(seed=0)
    env.step(written_call(env.episode, name, arguments))
    assert env.episode.turns == 1
