import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visenv.errors import InvalidData, UnknownName
from visenv.memory import (
    TOKEN_RULES,
    KeepAll,
    LastK,
    Latest,
    Seen,
    TokenBudget,
    VisualMemory,
    memory_policy,
    token_rule,
)


@pytest.mark.parametrize(
    ("family", "size", "tokens"),
    [
        ("qwen2_5_vl", (256, 256), 81),  # 256 / 28 = 9.14, so 9 x 9
        ("qwen3_vl", (256, 256), 64),
        ("qwen2_5_vl", (1920, 1080), 1980),  # 69 x 39 is too many; 60 x 33 after scaling by 1 / 1.137
        ("qwen3_vl", (1920, 1080), 2040),  # 60 x 34
        ("qwen3_vl", (1, 1), 4),
        ("qwen3_vl", (16, 16), 4),
        ("qwen2_5_vl", (3, 57_673), 2048),
        ("qwen3_vl", (100_000, 1), 2048),
        ("qwen3_vl", (10_000, 10_000), 45 * 45),  # the square root of 2048 is 45.25
    ],
)
def test_tokens_of_a_picture(family, size, tokens):
    assert TOKEN_RULES[family].tokens(*size) == tokens


SIDES = st.integers(1, 9000) | st.integers(1, 4) | st.integers(1, 200_000)


@settings(deadline=None, max_examples=200)
@given(SIDES, SIDES, st.sampled_from(sorted(TOKEN_RULES)))
def test_tokens_stay_within_bounds_and_on_the_grid(width, height, family):
    rule = TOKEN_RULES[family]
    w, h = rule.resized(width, height)
    assert w % rule.factor == h % rule.factor == 0
    assert 1 <= rule.tokens(width, height) <= rule.max_tokens
    if max(width, height) <= 200 * min(width, height):
        assert rule.tokens(width, height) == _published(width, height, rule.factor)


def _published(width, height, factor):
    """The rule as ``smart_resize`` of qwen-vl-utils states it."""
    most, least = 2048 * factor**2, 4 * factor**2
    w, h = max(factor, round(width / factor) * factor), max(factor, round(height / factor) * factor)
    if w * h > most:
        beta = math.sqrt(width * height / most)
        w, h = (
            max(factor, math.floor(width / beta / factor) * factor),
            max(factor, math.floor(height / beta / factor) * factor),
        )
    elif w * h < least:
        beta = math.sqrt(least / (width * height))
        w, h = math.ceil(width * beta / factor) * factor, math.ceil(height * beta / factor) * factor
    return max(w, factor) // factor * (max(h, factor) // factor)


def seen(*tokens, start=0, name="p"):
    return [Seen(start + i, f"{name}{start + i}", count) for i, count in enumerate(tokens)]


def test_latest_keeps_the_new_ones():
    assert Latest().keep(seen(5, 5), new := seen(7, start=2)) == new
    assert Latest().keep(seen(5), []) == []


def test_last_k_keeps_the_newest():
    kept = LastK(3).keep(seen(1, 1), seen(1, 1, start=2))
    assert [item.key for item in kept] == [1, 2, 3]


def test_a_token_budget_drops_the_oldest_first_but_never_pinned_ones():
    everything = (seen(40, 40, 40), seen(40, start=3))
    assert [item.key for item in TokenBudget(100).keep(*everything)] == [2, 3]
    assert [item.key for item in TokenBudget(100, pinned=("p0",)).keep(*everything)] == [0, 3]
    assert [item.key for item in TokenBudget(10).keep([], seen(40, 40))] == [1]


def test_keep_all_keeps_all():
    assert len(KeepAll().keep(seen(1, 1), seen(1, start=2))) == 3


@pytest.mark.parametrize("value", ["last_k", "last_k:0", "last_k:x", "latest:3", "token_budget:", "everything", ""])
def test_a_bad_memory_name_says_what_is_expected(value):
    with pytest.raises(InvalidData, match="Expected"):
        memory_policy(value)


def test_policies_have_names():
    assert memory_policy("token_budget:64") == TokenBudget(64)
    assert memory_policy("keep_all") == KeepAll()
    assert memory_policy(policy := LastK(2)) is policy
    with pytest.raises(UnknownName, match="Known"):
        token_rule("qwen")


def test_the_account_of_what_seeing_costs():
    memory = VisualMemory(Latest(), TOKEN_RULES["qwen3_vl"])
    memory, archived = memory.show([("img_0", (256, 256), False)])
    assert (memory.tokens, memory.spent, archived) == (64, 64, ())
    memory, archived = memory.turned().show([("v", (128, 128), True)])
    assert [item.name for item in archived] == ["img_0"]
    assert (memory.tokens, memory.spent, memory.read, memory.unarchived) == (16, 80, 64, 64)
    memory = memory.turned()
    assert (memory.read, memory.unarchived) == (80, 144)


def test_a_picture_shown_again_is_in_view_once():
    memory, _ = VisualMemory(KeepAll()).show([("img_0", (64, 64), False), ("v", (64, 64), True)])
    memory, archived = memory.show([("img_0", (64, 64), False)])
    assert [item.name for item in memory.visible] == ["v", "img_0"]
    assert [item.key for item in archived] == [0]
