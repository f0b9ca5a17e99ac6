"""Questions about several images: none gives the answer away, looking again shows nothing new, answers are scored."""

import inspect
from collections import Counter, defaultdict

import gymnasium as gym
import numpy as np
import pytest
from stubs import BrightExpert

from visenv.adapters.elements import structured_arguments
from visenv.datasets.options import LETTERS, answers_with, asked_with, shuffled
from visenv.datasets.several import FORMS, SeveralDataset
from visenv.errors import DatasetError, InvalidData
from visenv.protocol import get_dialect
from visenv.protocol.flat import flat_schema, from_flat, to_flat
from visenv.protocol.schema import json_schema
from visenv.protocol.signatures import as_method
from visenv.rewards.imagent import IMAgentReward
from visenv.tools.attention import ATTENTION, Reflect
from visenv.types import Answer, AnswerTruth, MaskTruth, Outcome, ToolCall

ENV_ID = "VisHarness/MultiImage-v0"


@pytest.mark.parametrize("difficulty", range(4))
def test_samples_are_what_their_identifiers_say(difficulty):
    one, other = SeveralDataset("val", difficulty), SeveralDataset("test", difficulty)
    for number in range(5):
        sample, twin = one.get(number), one.find(one.get(number).sample_id)
        assert sample.metadata["form"] == list(FORMS)[number]
        assert 2 <= len(sample.images) <= 8
        assert all((a == b).all() for a, b in zip(sample.images, twin.images, strict=True))
        assert (sample.query, sample.truth) == (twin.query, twin.truth)
        assert not np.array_equal(sample.images[0], other.get(number).images[0])
        with pytest.raises(DatasetError, match="Expected an identifier"):
            other.find(sample.sample_id)


def test_what_there_is_not_is_refused():
    with pytest.raises(DatasetError, match="split"):
        SeveralDataset("testA", 0)
    with pytest.raises(DatasetError, match="difficulty"):
        SeveralDataset("val", 4)
    with pytest.raises(IndexError, match="to 499"):
        SeveralDataset("val", 0).get(500)
    with pytest.raises(DatasetError, match="under 500"):
        SeveralDataset("val", 0).find("scenes/multiimage/d0/val/500")
    assert SeveralDataset("train", 0).size is None


def test_the_options_are_asked_and_the_key_is_right():
    for number in range(40):
        sample = SeveralDataset("val", 1).get(number)
        truth = sample.truth
        if truth.choices is None:
            assert truth.answers[0].isdigit()
            continue
        letter, text = truth.answers
        assert f"({letter}) {text}\n" in sample.query
        assert truth.choices[LETTERS.index(letter)] == text
        assert len(set(truth.choices)) == len(truth.choices) >= 2


def test_no_letter_is_right_more_often_than_chance():
    """Over 60 samples of each form, the letter that is right most often is so in no more than two thirds of them."""
    letters = defaultdict(Counter)
    for number in range(300):
        sample = SeveralDataset("train", 1).get(number)
        letters[sample.metadata["form"]][sample.truth.answers[0]] += 1
    for form, counts in letters.items():
        assert max(counts.values()) <= 40, (form, counts)
        assert len(counts) >= 3


def test_the_count_in_one_image_says_little_of_the_total():
    """The best guess at the total from the count in the first image, learned on one half and measured on the other."""
    pairs = []
    for number in range(2, 1002, 5):
        facts = SeveralDataset("train", 3).get(number).metadata
        pairs.append((facts["counts"][0], sum(facts["counts"])))
    best = {}
    for seen in {first for first, _ in pairs}:
        best[seen] = Counter(total for first, total in pairs[:100] if first == seen).most_common(1)[:1]
    right = sum(bool(best.get(first)) and best[first][0][0] == total for first, total in pairs[100:])
    assert right / 100 < 0.2


def test_what_changed_is_where_it_was():
    sample = SeveralDataset("val", 0).get(0)
    before, after = (image.astype(int) for image in sample.images)
    changed = np.abs(before - after).sum(axis=2) > 0
    assert 0 < changed.mean() < 0.15, "One thing, and nothing else."


def test_options_are_shuffled_by_seed_and_sample():
    options = ["left", "right", "above", "below"]
    orders = {shuffled(options, f"sample/{i}", 0) for i in range(30)}
    assert len(orders) > 8
    assert all(sorted(order) == sorted(options) for order in orders)
    assert shuffled(options, "sample/1", 0) == shuffled(options, "sample/1", 0)
    assert any(shuffled(options, f"sample/{i}", 0) != shuffled(options, f"sample/{i}", 1) for i in range(5))
    assert asked_with("Where?", ["left"]).splitlines() == [
        "Where?",
        "(A) left",
        "Answer with the letter of one option.",
    ]
    with pytest.raises(InvalidData, match="one of at most 26 options"):
        answers_with("up", options)


def make(**keywords):
    env = gym.make(ENV_ID, split="val", difficulty=1, **keywords).unwrapped
    env.reset(options={"index": 1})
    return env


def call(env, name, **arguments):
    return env.step(ToolCall(name, arguments))[4]


def test_looking_again_shows_nothing_new():
    env = make(experts=BrightExpert())
    images = [image.name for image in env.episode.workspace.images.values()]
    assert len(env.episode.visible()) == len(images) == 3
    info = call(env, "Reflect", image="img_2", box=[0, 0, 256, 256])
    assert [picture.name for picture in env.episode.visible()] == ["img_2"]
    assert info["reply"].startswith("img_2 (256x256):\n[image img_2]")
    before = info["reply"]
    for arguments in ({}, {"box": None}):
        assert call(env, "Reflect", image="img_2", **arguments)["reply"].splitlines()[:2] == before.splitlines()[:2]
    info = call(env, "Reflect", image="img_0", box=[64, 64, 128, 192])
    assert "[250, 250, 500, 750] marked" in info["reply"]
    (picture,) = env.episode.visible()
    assert picture.is_visualisation
    assert picture.size == (256, 256)
    info = call(env, "Verify", image="img_1", claim="There are two squares.", phrase="square")
    assert "Claim: There are two squares.\nAn expert finds: img_1: " in info["reply"]
    assert list(env.episode.workspace.images) == images
    assert call(env, "Reflect", image="img_0", box=[300, 0, 310, 9])["error"]["code"] == "too_small"


@pytest.mark.parametrize(
    ("dialect", "turn"),
    [
        ("qwen3_vl", '<think></think><tool_call>{"name": "Reflect", "arguments": {"image": "img_1"}}</tool_call>'),
        (
            "qwen3_5",
            "<think></think><tool_call><function=Reflect><parameter=image>img_1</parameter></function></tool_call>",
        ),
        ("vipact", 'Thought: x\nAction Input:\n```python\nreflect(image="img_1")\n```'),
    ],
)
def test_a_model_may_leave_the_region_out(dialect, turn):
    env = make(action_mode="text", dialect=dialect, toolset=ATTENTION, experts={})
    *_, info = env.step(turn)
    assert info["error"] is None
    assert [picture.name for picture in env.episode.visible()] == ["img_1"]


def test_schemas_and_signatures_say_that_the_region_is_optional():
    assert json_schema(Reflect.spec)["required"] == flat_schema(Reflect.spec)["required"] == ["image"]
    assert "box_x1" in flat_schema(Reflect.spec)["properties"]
    method = as_method(Reflect.spec, lambda self, name, arguments: arguments, "It.")
    assert str(inspect.signature(method)) == "(self, image: str, box: list[float] = None) -> list"
    whole = {"image": "img_1"}
    assert to_flat(Reflect.spec, whole) == from_flat(Reflect.spec, whole) == whole
    assert from_flat(Reflect.spec, {**whole, "box_x1": 5})["box"] == [5, None, None, None], "Begun is not left out."
    assert "Reflect(image, box=None)" in get_dialect("vipact").describe_tools([Reflect.spec])


def test_arrays_of_numbers_mean_all_of_an_image_where_no_region_is_named():
    env = make(toolset=ATTENTION, experts={})
    element = structured_arguments(Reflect.spec, {"image": "img_1"}, env.episode)
    assert element["box"].tolist() == [0, 0, 1, 1]
    env.step((0, element))
    (picture,) = env.episode.visible()
    assert (picture.name, picture.is_visualisation) == ("img_1", False)


def test_the_two_tools_work_without_any_expert():
    env = make(toolset="attention", experts={})
    assert [type(tool) for tool in env.config.tools.values()] == list(ATTENTION)
    info = call(env, "Verify", image="img_1", claim="There is a red car.")
    assert info["reply"].startswith("Claim: There is a red car.\n[image img_1]")


def test_the_answer_is_paid_and_the_gain_once():
    truth = AnswerTruth(("B", "img_1"), ("img_0", "img_1"))
    reward = IMAgentReward(gain=0.5, rate_without_tool=0.2)

    def paid(answer, *tools):
        return sum(reward.final(Outcome(None, answer, "answer", 3, tools=tools), truth).values())

    assert paid("B") == paid("(b).") == paid("img_1") == 1
    assert paid("B", "Reflect") == paid("B", "Reflect", "Verify", "Reflect") == pytest.approx(1.4)
    assert paid("A", "Reflect") == paid(None) == paid("", "Verify") == 0
    assert paid("B", "PhraseToPoint") == 1
    assert reward.bounds == (0, pytest.approx(1.4))
    assert IMAgentReward().bounds == (0, 1), "Nothing is paid for looking until the rate without is known."
    with pytest.raises(InvalidData, match="truth of answers"):
        reward.final(Outcome(None, "B", "answer", 1), MaskTruth(None))
    with pytest.raises(InvalidData, match="right"):
        IMAgentReward(right=-1)


def test_it_is_gamed_by_a_call_that_nothing_depends_on():
    env = make(experts=BrightExpert(), reward=IMAgentReward(rate_without_tool=0))
    right = env.episode.truth.answers[0]
    call(env, "Reflect", image="img_0", box=[0, 0, 256, 256])
    assert env.step(Answer(right))[1] == 1.5


def test_discrete_actions_answer_with_letters_and_numbers():
    env = make(action_mode="discrete", experts=BrightExpert())
    answer = len(env.specs)
    letter = env.episode.truth.answers[0]
    assert env.answers == tuple(LETTERS[: len(env.episode.truth.choices)])
    _, reward, *_ = env.step(np.array([answer, 0, LETTERS.index(letter), 0, 0, 0]))
    assert reward == 1
    env.reset(options={"index": 2})
    _, reward, *_ = env.step(np.array([answer, 0, int(env.episode.truth.answers[0]), 0, 0, 0]))
    assert reward == 1
