"""What is paid for mended pictures: how near they are to the clean ones, and the answer."""

import numpy as np
import pytest
from bright_boxes import picture
from hypothesis import given, settings
from hypothesis import strategies as st

from visenv.datasets.damage import DAMAGES, damage
from visenv.datasets.damaged_scenes import DamagedScenes
from visenv.errors import InvalidData
from visenv.rewards import visual_arft
from visenv.rewards.functional import colour_error, edge_error, likeness, mending
from visenv.rewards.matcoding import MATCodingReward
from visenv.rewards.metrics import MendedPictures
from visenv.rewards.visual_arft import ArftCodingReward
from visenv.tools import coding
from visenv.types import AnswerTruth, ImageTruth, MaskTruth, Outcome, ToolCall, Turn
from visenv.workspace import Effect, NamedImage, Workspace

# --- how near a picture is --------------------------------------------------------------------------------------------


def test_colour_error_is_a_mean_difference():
    assert colour_error(np.full((2, 2, 3), 51, np.uint8), np.zeros((2, 2, 3), np.uint8)) == pytest.approx(0.2)
    half = np.zeros((2, 2, 3), np.uint8)
    half[0] = 255
    assert colour_error(half, np.zeros((2, 2, 3), np.uint8)) == pytest.approx(0.5)
    assert colour_error(np.zeros((9, 3, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)) == 0


def test_edge_error_is_what_lacks_to_full_correlation():
    clean = picture()
    assert edge_error(clean, clean) == 0
    assert edge_error(np.full_like(clean, 7), clean) == 1
    assert edge_error(np.full_like(clean, 7), np.full_like(clean, 9)) == 0
    assert edge_error((clean * 0.5 + 60).astype(np.uint8), clean) < 0.05
    assert edge_error(255 - clean, clean) == 1
    # By hand: of two steps of one height, one is missing; the gradients are (a, a) and (a, 0), their correlation 1/√2.
    two, one = np.zeros((16, 32, 3), np.uint8), np.zeros((16, 32, 3), np.uint8)
    two[:, 8:16] = 100
    one[:, 8:] = 100
    assert edge_error(one, two) == pytest.approx(np.sqrt(2 - np.sqrt(2)), abs=1e-6)


def test_mending_is_the_lesser_of_two_relative_reductions():
    clean = np.zeros((16, 16, 3), np.uint8)
    clean[:, 8:] = 200
    dark = clean // 4  # a colour error of 75/255, edges as they were
    assert mending(dark, dark, clean) == 0
    assert mending(clean, dark, clean) == 1
    brighter = (clean * 0.625).astype(np.uint8)  # a colour error of 37.5/255: 33.5 above the floor, after 71
    assert mending(brighter, dark, clean) == pytest.approx(1 - 33.5 / 71)
    # Nothing was wrong: an error of 6/255 is above the floor by half of it.
    assert mending(clean + np.uint8(6), clean, clean) == pytest.approx(0.5)
    assert mending(clean + np.uint8(4), clean, clean) == 1
    assert mending(clean, clean, clean) == 1


@pytest.mark.parametrize("problem", [(name,) for name in DAMAGES] + [("rotation90", "dark"), ("rotation180", "noise")])
def test_what_looks_like_nothing_earns_next_to_nothing(problem):
    """Pictures that are near to everything, and nothing in particular."""
    for index in range(4):
        clean = DamagedScenes("val", 1).get(index).truth.clean
        damaged = damage(clean, problem, np.random.default_rng(index), 1)
        turns = [np.rot90(damaged, k) for k in range(4)]
        side = min(damaged.shape[:2])
        average = np.mean([each[:side, :side] for each in turns], axis=0).astype(np.uint8)
        flat = np.full_like(clean, np.median(clean.reshape(-1, 3), axis=0).astype(np.uint8))
        for guess in (
            flat,
            average,
            np.zeros_like(clean),
            np.random.default_rng(0).integers(0, 256, clean.shape, np.uint8),
        ):
            assert mending(guess, damaged, clean) < 0.1


@given(st.integers(0, 10**6), st.sampled_from(DAMAGES))
@settings(max_examples=25, deadline=None)
def test_nearness_stays_in_its_bounds(seed, problem):
    rng = np.random.default_rng(seed)
    clean = picture(seed)
    damaged = damage(clean, (problem,), rng, int(rng.integers(4)))
    guess = rng.integers(0, 256, (int(rng.integers(1, 60)), int(rng.integers(1, 60)), 3), dtype=np.uint8)
    for value in (mending(guess, damaged, clean), likeness(guess, clean), edge_error(guess, clean)):
        assert 0 <= value <= 1
    assert mending(clean, damaged, clean) == 1
    assert likeness(clean, clean) == 1


def test_no_picture_is_refused():
    with pytest.raises(InvalidData, match="Expected pictures"):
        mending(np.zeros((3, 3), np.uint8), picture(), picture())


# --- what is paid -----------------------------------------------------------------------------------------------------


def outcome(answer="red", image=None, tools=(), turns=None, termination="answer"):
    turns = len(tools) + (termination == "answer") if turns is None else turns
    return Outcome(None, answer, termination, turns, image, tools)


def played(reward, damaged, truth, images):
    """What an episode pays whose programs make these images, in all."""
    workspace, total = Workspace((damaged,)), 0.0
    for index, pixels in enumerate(images, start=1):
        made = NamedImage.made(f"out_{index}", pixels, index)
        after = workspace.after(Effect(("made",), images=(made,)))
        turn = Turn(index, ToolCall("RunCode", {"code": "", "image": "img_0"}), "")
        total += sum(reward.progress(turn, workspace, after, truth).values())
        workspace = after
    return total + sum(reward.final(outcome("wrong", images[-1] if images else None), truth).values())


@given(st.lists(st.integers(0, 5), max_size=6), st.sampled_from([(), ("dark",), ("blur",), ("rotation90",)]))
@settings(max_examples=30, deadline=None)
def test_only_the_last_picture_counts_however_it_came_to_be(choices, problems):
    clean = picture(3)
    damaged = damage(clean, problems, np.random.default_rng(0), 2)
    images = [clean, damaged, np.zeros_like(clean), picture(4), np.rot90(damaged), damaged // 2 + 60]
    made = [np.ascontiguousarray(images[choice]) for choice in choices]
    reward, truth = MATCodingReward(), ImageTruth(clean, problems, ("red",))
    total = played(reward, damaged, truth, made)
    assert total == pytest.approx(played(reward, damaged, truth, made[-1:]))
    assert -1e-9 <= total <= 1 + 1e-9
    if made and choices[-1] == 0:
        assert total == pytest.approx(1)
    if not made or choices[-1] == 1:
        assert total == pytest.approx(0 if problems else 1)


def test_a_slight_damage_pays_nothing_for_being_left():
    clean = picture()
    slight = np.clip(clean.astype(int) + 6, 0, 255).astype(np.uint8)
    truth = ImageTruth(clean, ("overexposure",), ("red",))
    assert 0 < mending(slight, slight, clean) < 1
    assert played(MATCodingReward(), slight, truth, [slight]) == pytest.approx(0)
    assert played(MATCodingReward(), slight, truth, [clean]) == pytest.approx(1)
    # Below every floor there is nothing to tell.
    assert played(MATCodingReward(), clean + np.uint8(0), truth, []) == pytest.approx(0)
    assert played(MATCodingReward(), clean + np.uint8(0), truth, [clean]) == pytest.approx(1)


def test_the_answer_is_paid_if_it_is_exact_and_given():
    reward, truth = MATCodingReward(picture=2, answer=0.5), ImageTruth(picture(), (), ("red",))
    assert reward.final(outcome("The red."), truth) == {"kept": 2.0, "answer": 0.5}
    assert reward.final(outcome("red or blue"), truth)["answer"] == 0
    assert reward.final(outcome(None, termination="max_turns"), truth)["answer"] == 0
    unasked = ImageTruth(picture(), ("dark",))
    assert reward.final(outcome("whatever"), unasked) == {"kept": 0.0, "answer": 0.5}
    assert reward.bounds == (0, 2.5)
    assert repr(reward) == "MATCodingReward(picture=2.0, answer=0.5)"


@pytest.mark.parametrize("wrong", [-1, "x", float("nan"), True, None])
def test_coefficients_are_checked(wrong):
    with pytest.raises(InvalidData, match="Expected argument `answer`"):
        MATCodingReward(answer=wrong)


@pytest.mark.parametrize("reward", [MATCodingReward(), ArftCodingReward()])
def test_other_truths_are_refused(reward):
    with pytest.raises(InvalidData, match="ImageTruth"):
        reward.final(outcome(), MaskTruth(None))


def test_the_published_reward_pays_for_any_program_and_ours_for_what_it_did():
    clean = picture()
    damaged, truth = damage(clean, ("dark",), np.random.default_rng(0)), ImageTruth(clean, ("dark",), ("red",))
    published = ArftCodingReward()
    named = Turn(1, ToolCall("NameProblems", {"problems": ["dark"]}), "")
    workspace = Workspace((damaged,))
    assert published.progress(named, workspace, workspace, truth) == {"problems": 1.0}
    useless = outcome("red", None, ("NameProblems", "RunCode"))
    assert published.final(useless, truth) == {"code": 0.9, "answer": 1.0, "format": 1.0}
    assert MATCodingReward().final(useless, truth) == {"kept": 0.0, "answer": 1.0}
    faulty = outcome("blue", None, (), turns=3)
    assert published.final(faulty, truth) == {"code": 0.0, "answer": 0.0, "format": 0.0}
    half = Turn(1, ToolCall("NameProblems", {"problems": "rotation90"}), "")
    two = ImageTruth(clean, ("rotation90", "dark"))
    assert published.progress(half, workspace, workspace, two) == {"problems": 0.5}
    nothing = Turn(1, ToolCall("NameProblems", {"problems": ["none"]}), "")
    assert published.progress(nothing, workspace, workspace, ImageTruth(clean, ())) == {"problems": 1.0}


def test_problems_have_the_same_names_everywhere():
    assert coding.PROBLEMS == visual_arft.PROBLEMS == (*DAMAGES, "none")


def test_the_metric_is_a_mean_over_pictures_and_over_questions():
    clean, metric = picture(), MendedPictures()
    metric.update(outcome("red", clean), ImageTruth(clean, ("dark",), ("red",)))
    metric.update(outcome("a red car", None), ImageTruth(clean, ("dark",), ("red",)))
    metric.update(outcome("done", None), ImageTruth(clean, ()))
    figures = metric.compute()
    assert (figures["likeness"], figures["EM"], figures["token_F1"]) == (
        pytest.approx(2 / 3),
        0.5,
        pytest.approx(5 / 6),
    )
    assert metric.values.tolist() == [1, 0, 1]
    with pytest.raises(InvalidData):
        metric.update(outcome(), AnswerTruth(("red",)))
