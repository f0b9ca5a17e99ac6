"""VisHarness/Blink-v0 and MMVP-v0: answers follow from the pictures, and nothing else gives them away."""

from collections import Counter
from functools import cache

import cv2
import gymnasium as gym
import numpy as np
import pytest

from visenv.capabilities import Describe, Embed, EstimateDepth, FindVisualPrompts, View
from visenv.datasets.listed import SampleList
from visenv.datasets.perceptual import PairsDataset, PerceptualDataset
from visenv.datasets.perceptual.forms import FORMS
from visenv.datasets.perceptual.marks import INK, KINDS, Mark, draw_marks
from visenv.datasets.perceptual.views import Standing, look_at_plain
from visenv.datasets.several.forms import NoRoom, look_of
from visenv.envs.questions import GAP, WIDEST, side_by_side
from visenv.errors import DatasetError, InvalidData
from visenv.experts.sight import Sight
from visenv.experts.sight.marks import find_marks
from visenv.images import Provenance, RootPixels
from visenv.policies import make_policy
from visenv.rewards.answer import AnswerReward
from visenv.rewards.functional import exact_match
from visenv.types import AnswerTruth, BoxesTruth, Outcome

IDS = ("VisHarness/Blink-v0", "VisHarness/MMVP-v0")
KIND = {"VisHarness/Blink-v0": PerceptualDataset, "VisHarness/MMVP-v0": PairsDataset}


@cache
def drawn(env_id, difficulty=1, count=24):
    data = KIND[env_id]("val", difficulty)
    return SampleList("scenes", [data.get(index) for index in range(count)], split="val")


def make(env_id=IDS[0], difficulty=1, **keywords):
    return gym.make(env_id, **{"split": "val", "dataset": drawn(env_id, difficulty), **keywords}).unwrapped


def play(env, name, index):
    policy, ended, total = make_policy(name), False, 0.0
    env.reset(options={"index": index})
    env.action_space.seed(index)
    policy.reset(env, np.random.SeedSequence(index))
    while not ended:
        _, reward, terminated, truncated, info = env.step(policy.act(env.episode))
        total, ended = total + reward, terminated or truncated
    return total, info


def call(env, name, **arguments):
    return env.step({"name": name, "arguments": arguments})


# --- what is drawn ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KIND.values())
def test_a_sample_depends_on_its_identifier_alone(kind):
    data = kind("val", 2)
    for index in (0, 5, 9):
        sample = data.get(index)
        again = kind("val", 2).find(sample.sample_id)
        assert again.query == sample.query
        assert all(map(np.array_equal, again.images, sample.images))
    assert not np.array_equal(kind("test", 2).get(5).image, data.get(5).image)
    with pytest.raises(IndexError):
        data.get(500)
    with pytest.raises(IndexError):
        data.get(-1)
    with pytest.raises(DatasetError, match="under 500"):
        data.find(f"{data.get(0).sample_id}00000")
    with pytest.raises(DatasetError, match="difficulty"):
        kind("val", 4)
    with pytest.raises(DatasetError, match="split"):
        kind("train2", 1)
    assert kind("train", 0).size is None


@pytest.mark.parametrize("task", FORMS)
def test_no_place_of_an_option_is_right_more_often(task):
    """Nor a number the least or greatest one; so that guessing comes to what guessing should."""
    rng = np.random.default_rng(1)
    places, ranks, options = Counter(), Counter(), 0
    while sum(places.values()) < 48:
        try:
            question = FORMS[task](rng, 0)
        except NoRoom:
            continue
        options = len(question.options)
        places[question.options.index(question.answer)] += 1
        ranks[sorted(question.options).index(question.answer)] += 1
    for counted in (places, ranks):
        assert len(counted) == options
        # Four standard deviations around an equal share.
        spread = 4 * (48 * (1 / options) * (1 - 1 / options)) ** 0.5
        assert all(abs(number - 48 / options) <= spread for number in counted.values())


def test_a_pair_differs_in_few_pixels_and_in_its_answer():
    data = drawn(IDS[1])
    for first, second in zip(data.samples[::2], data.samples[1::2], strict=True):
        assert first.query == second.query
        assert first.truth.answers != second.truth.answers
        assert first.truth.group == second.truth.group
        assert first.truth.choices == second.truth.choices
        changed = (np.abs(first.image.astype(int) - second.image.astype(int)).max(axis=2) > 60).mean()
        assert 0 < changed < 0.25
    firsts = Counter(sample.truth.answers[0] for sample in data.samples[::2])
    assert len(firsts) == 2, "Which of a pair comes first says nothing."


def test_what_is_nearer_hides_what_is_farther_and_moves_more():
    look = look_of(0)
    things = [Standing("mug", "red", 0.0, 1.5), Standing("car", "blue", 0.0, 3.0)]
    still = look_at_plain(things, 0.0, look, (120, 120, 120), np.random.default_rng(0))
    moved = look_at_plain(things, 0.2, look, (120, 120, 120), np.random.default_rng(0))
    near, far = ([view.middle(index) for view in (still, moved)] for index in (0, 1))
    assert near[0][1] > far[0][1], "What is nearer stands lower."
    assert near[1][0] - near[0][0] == pytest.approx(-0.2 * 256 / 1.5, abs=3)
    assert far[1][0] - far[0][0] == pytest.approx(-0.2 * 256 / 3.0, abs=3)


# --- playing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", IDS)
def test_policies_that_ask_experts_answer_and_others_guess(env_id):
    env = make(env_id)
    rates = {name: np.mean([play(env, name, i)[0] for i in range(24)]) for name in ("oracle", "scripted", "single")}
    assert rates["oracle"] == 1
    assert rates["scripted"] >= 0.8
    assert rates["single"] <= 0.65


@pytest.mark.parametrize("env_id", IDS)
def test_the_truth_reaches_nothing_that_an_agent_sees(env_id):
    """Two environments whose truths differ show and say the same."""
    honest = drawn(env_id)
    lying = []
    for sample in honest.samples:
        other = next(option for option in sample.truth.choices if option not in sample.truth.answers)
        lying.append(type(sample)(**{**vars(sample), "truth": AnswerTruth((other,), sample.truth.choices)}))
    one, two = make(env_id), make(env_id, dataset=SampleList("scenes", lying, split="val"))
    for index in (0, 3, 9):
        seen = [env.reset(options={"index": index}) for env in (one, two)]
        for name, value in seen[0][0].items():
            np.testing.assert_array_equal(value, seen[1][0][name])
        for action in (
            {"name": "VisualPromptDetector", "arguments": {"image": "img_0"}},
            {"name": "DepthEstimation", "arguments": {"image": "img_0"}},
            {"name": "ImageCaptioning", "arguments": {"image": "img_0", "focus": "everything"}},
        ):
            replies = [env.step(action)[4]["reply"] for env in (one, two)]
            assert replies[0] == replies[1]
        assert one.answers_of(honest.samples[index]) == two.answers_of(lying[index])


def test_what_tools_say():
    env = make()
    env.reset(options={"index": 1})
    *_, info = call(env, "VisualPromptDetector", image="img_0")
    assert "circle A" in info["reply"]
    assert "circle B" in info["reply"]
    *_, info = call(env, "DepthEstimation", image="img_0")
    assert "Nearness in the middle of what was found: circle A 0." in info["reply"]
    assert env.episode.workspace.images["img_0_depth"].size == env.episode.workspace.root.size
    *_, info = call(env, "VisualPromptDescribe", image="img_0")
    assert "A red circle labelled A is on the" in info["reply"]
    *_, info = call(env, "EmbeddingSimilarity", images=["img_0"])
    assert info["error"]["code"] == "not_several"
    *_, info = call(env, "ImageComparison", images=["img_0", "img_0"], focus="all")
    assert info["error"]["code"] == "not_several"
    env.reset(options={"index": 4})
    *_, info = call(env, "EmbeddingSimilarity", images=["img_0", "img_1", "img_2"])
    assert "Similarity to img_0: img_1 0." in info["reply"]
    *_, info = call(env, "ImageComparison", images=["img_0", "img_1"], focus="all")
    assert "In common:" in info["reply"]
    *_, info = call(env, "ImageCaptioning", image="img_0", focus="things")
    assert "things:" in info["reply"]
    *_, info = call(env, "VisualPromptDetector", image="img_0")
    assert "nothing is marked" in info["reply"]


def test_the_reward_pays_a_right_answer_alone():
    reward, truth = AnswerReward(), AnswerTruth(("B", "the third image"))
    for given, paid in (("(B)", 1.0), ("the third image", 1.0), ("C", 0.0), ("B or C", 0.0), (None, 0.0)):
        assert reward.final(Outcome(None, given, "answer", 1), truth) == {"right": paid}
    assert reward.final(Outcome(None, "B", "invalid", 1), truth) == {"right": 0.0}
    offered = AnswerTruth(("B", "the third image"), ("the second image", "the third image"))
    for given, paid in (
        ("(B) the third image", 1.0),
        ("B: The third image.", 1.0),
        ("(B) the second image", 0.0),
        ("(A) the second image", 0.0),
        ("(B) the third image or (A) the second image", 0.0),
    ):
        assert reward.final(Outcome(None, given, "answer", 1), offered) == {"right": paid}
    # Of options that read the same, only the letter is right; and A may be an article.
    alike = AnswerTruth(("A",), ("the cat", "a cat"))
    assert [reward.final(Outcome(None, text, "answer", 1), alike)["right"] for text in ("A", "A cat")] == [1.0, 0.0]
    with pytest.raises(InvalidData, match="AnswerTruth"):
        reward.final(Outcome(None, "B", "answer", 1), BoxesTruth(np.zeros((0, 4))))


# --- switches ---------------------------------------------------------------------------------------------------------


def test_specialists_and_experts_can_be_switched_off():
    def names(env):
        return [spec.name for spec in env.specs]

    whole = names(make())
    assert {"ImageCaptioning", "DepthEstimation"} <= set(whole)
    without = names(make(specialists=False))
    assert set(whole) - set(without) == {"ImageCaptioning", "VisualPromptDescribe", "ImageComparison"}
    assert names(make(expert_tools=False, specialists=False)) == ["ZoomRegion", "RecallImage"]
    with pytest.raises(InvalidData, match="not both"):
        make(toolset="vipact", specialists=False)
    with pytest.raises(InvalidData, match="shuffle"):
        make(shuffle=-1)


def test_an_agent_without_images_asks_about_them_by_name():
    env = make(show_inputs=False)
    env.reset(options={"index": 4})
    assert env.episode.visible() == []
    assert "img_2" in str(env.episode.messages())
    *_, info = call(env, "EmbeddingSimilarity", images=["img_0", "img_1", "img_2"])
    assert info["error"] is None


def test_several_images_can_be_joined_into_one():
    env = make(joined=True)
    env.reset(options={"index": 4})
    (one,) = env.episode.workspace.images.values()
    first, second, third = drawn(IDS[0]).samples[4].images
    assert one.size == (first.shape[1] + second.shape[1] + third.shape[1] + 16, first.shape[0])
    np.testing.assert_array_equal(one.pixels[:, -third.shape[1] :], third)
    assert play(env, "oracle", 4)[0] == 1


def test_strips_are_not_joined_into_a_picture_that_fills_the_memory():
    flat, narrow = np.zeros((1, 1920, 3), np.uint8), np.full((1080, 1, 3), 7, np.uint8)
    height, width, _ = side_by_side([flat, narrow]).shape
    assert 1 <= height < 1080
    assert 1920 <= width <= WIDEST + 2 * GAP
    four = [np.full((1080, 1920, 3), shade, np.uint8) for shade in range(4)]
    whole = side_by_side(four)
    assert whole.shape == (1080, 4 * 1920 + 3 * GAP, 3), "Pictures of the largest size are joined as they are."
    np.testing.assert_array_equal(whole[:, -1920:], four[3])


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("seed", [0, 7])
def test_options_are_shuffled_by_seed_and_the_key_stays_right(env_id, seed):
    env, again, moved = make(env_id, shuffle=seed), make(env_id, shuffle=seed), 0
    for index, sample in enumerate(drawn(env_id).samples):
        seen = env.seen(sample)
        assert sorted(seen.truth.choices) == sorted(sample.truth.choices)
        right = sample.truth.choices["ABCD".index(sample.truth.answers[0])]
        assert seen.truth.choices["ABCD".index(seen.truth.answers[0])] == right
        assert f"({seen.truth.answers[0]}) {right}" in seen.query.splitlines()
        assert seen.query == again.seen(sample).query
        assert seen.truth.group == sample.truth.group
        assert exact_match(seen.truth.answers[0], seen.truth.answers) == 1
        moved += seen.truth.choices != sample.truth.choices
        if env_id == IDS[1] and index % 2:
            assert seen.truth.choices == env.seen(drawn(env_id).samples[index - 1]).truth.choices
    assert moved >= 6
    assert play(env, "oracle", 0)[0] == 1


# --- experts ----------------------------------------------------------------------------------------------------------


def view(pixels):
    return View(pixels, Provenance(RootPixels(pixels)))


def test_visual_prompts_are_found_with_their_letters():
    data, rng = PerceptualDataset("val", 2), np.random.default_rng(0)
    found, read, number = 0, 0, 0
    for index in range(0, 240, 8):
        pixels = data.get(index).image
        kind, letter, ink = KINDS[number % 3], "ABCD"[int(rng.integers(4))], list(INK)[int(rng.integers(3))]
        x, y = rng.integers(40, 200, 2).tolist()
        place = (x, y, x + 50, y + 40) if kind == "box" else (x, y)
        marks = find_marks(draw_marks(pixels, [Mark(kind, letter, place, ink)]))
        middle = (x + 25, y + 20) if kind == "box" else (x, y)
        near = [mark for mark in marks if mark.kind == kind and np.hypot(*np.subtract(mark.point, middle)) < 4]
        number, found, read = number + 1, found + bool(near), read + any(mark.letter == letter for mark in near)
    assert found >= 0.93 * number
    assert read >= 0.9 * number


def test_networks_read_numbers_which_templates_take_for_letters():
    plain, networks = Sight(), Sight("rapidocr")
    assert plain.fingerprint != networks.fingerprint
    canvas = np.full((200, 640, 3), 90, np.uint8)
    for place, letter in enumerate("2345679"):
        x = 40 + 60 * place
        cv2.circle(canvas, (x, 60), 9, (255, 0, 0), 2)
        cv2.putText(canvas, letter, (x + 13, 66), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 0, 0), 2)

    def letters(expert):
        (found,) = expert.run([FindVisualPrompts(view(canvas))])
        return [label.removeprefix("circle").strip() for label in found.labels]

    assert letters(networks) == list("2345679")
    assert not set(letters(plain)) & set("2345679")


def test_nobody_else_reads_letters():
    with pytest.raises(InvalidData, match="'templates' or 'rapidocr'"):
        Sight("tesseract")


def test_pictures_without_marks_have_none():
    data = PerceptualDataset("val", 3)
    assert sum(len(find_marks(data.get(index).image)) for index in range(0, 96, 8)) == 0


def test_the_experts_answer_any_picture():
    rng = np.random.default_rng(0)
    expert = Sight()
    for shape in ((1, 1, 3), (3, 200, 3), (64, 48, 3)):
        seen = view(rng.integers(0, 256, shape, dtype=np.uint8))
        other = view(np.full(shape, 255, np.uint8))
        requests = [
            EstimateDepth(seen),
            Embed(seen),
            FindVisualPrompts(seen),
            *(
                Describe(seen, task, "the red mug", (other,) if task == "compare" else ())
                for task in ("caption", "compare", "visual_prompt")
            ),
        ]
        depth, vector, marks, *said = expert.run(requests)
        assert depth.nearness.shape == shape[:2]
        assert 0 <= depth.nearness.min() <= depth.nearness.max() <= 1
        assert np.linalg.norm(vector.image) == pytest.approx(1)
        assert len(marks.masks) == len(marks.boxes) == len(marks.labels)
        assert all(each.text for each in said)
    with pytest.raises(InvalidData, match="images alone"):
        expert.run([Embed(seen, ("a mug",))])
