"""Texts and pictures as arrays of a fixed size."""

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visenv.adapters.padding import Padding, pad_blocks, pad_pictures, pad_view, pictures_of, text_of
from visenv.errors import InvalidData

SMALL = Padding(pictures=2, side=8, text=12)


def picture(height, width, value=9):
    return np.full((height, width, 3), value, np.uint8)


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), max_size=2), st.text(max_size=3))
def test_what_fits_comes_back_as_it_was(sizes, text):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (height, width, 3), np.uint8) for height, width in sizes]
    blocks = [{"type": "text", "text": text}, *({"type": "image", "image": each} for each in pictures)]
    padded = pad_blocks(blocks, SMALL)
    assert all(np.array_equal(one, other) for one, other in zip(pictures_of(padded), pictures, strict=True))
    assert text_of(padded.text) == text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    assert padded.mask.sum() == sum(height * width for height, width in sizes)
    assert not padded.pictures[~padded.mask].any()
    assert (padded.pictures_left_out, padded.bytes_left_out) == (0, 0)
    assert Padding.of(SMALL).space().contains(padded.arrays())


def test_a_larger_picture_is_shrunk_and_says_how_large_it_was():
    padded = pad_pictures([picture(16, 32)], SMALL)
    assert [each.shape for each in pictures_of(padded)] == [(4, 8, 3)]
    assert padded.sizes.tolist() == [[0, 0], [32, 16]]
    assert (padded.pictures[1][padded.mask[1]] == 9).all()


def test_of_too_many_pictures_the_last_are_kept_and_counted():
    padded = pad_pictures([picture(2, 2, value) for value in (1, 2, 3)], SMALL)
    assert [int(each.max()) for each in pictures_of(padded)] == [2, 3]
    assert padded.pictures_left_out == 1


def test_a_long_text_is_not_cut_within_a_character():
    padded = pad_blocks([{"type": "text", "text": "abcdefghijk\N{LATIN SMALL LETTER E WITH ACUTE}"}], SMALL)
    assert text_of(padded.text) == "abcdefghijk"
    assert padded.bytes_left_out == 2


def test_names_stand_in_the_text_where_pictures_stood():
    blocks = [{"type": "image", "name": "a", "image": picture(1, 1)}, {"type": "text", "text": "!"}]
    assert text_of(pad_blocks(blocks, SMALL).text) == "[image a]!"


@pytest.mark.parametrize(
    "block",
    [
        {"type": "audio"},
        {"type": "image", "image": np.zeros((2, 2, 3), np.float32)},
        {"type": "image", "image": np.zeros((2, 2), np.uint8)},
        {"type": "image", "image": np.zeros((0, 2, 3), np.uint8)},
        {"type": "image", "image": "img_0"},
    ],
)
def test_what_is_no_block_is_refused(block):
    with pytest.raises(InvalidData, match="Expected a (content block|picture)"):
        pad_blocks([block], SMALL)


@pytest.mark.parametrize("given_", [{"pictures": 0}, {"side": 1.5}, {"text": True}, {"width": 3}, 7])
def test_what_is_no_padding_is_refused(given_):
    with pytest.raises(InvalidData, match="Expected"):
        Padding.of(given_)


def test_a_view_shows_the_query_the_reply_and_the_pictures_in_view():
    env = gym.make("VisHarness/RefSeg-v0", experts="oracle", split="val").unwrapped
    env.reset(options={"index": 0})
    padding = Padding(pictures=2, side=512, text=4096)
    first = pad_view(env, padding)
    assert text_of(first.text) == f"{env.episode.query}\n\n[image img_0]"
    assert np.array_equal(pictures_of(first)[0], env.episode.workspace.root.pixels)
    env.step({"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "car"}})
    second = text_of(pad_view(env, padding).text)
    assert second.startswith(f"{env.episode.query}\n\n{env.episode.transcript[-1].reply}")
    assert "[image img_0" in second
