import json
import pickle

import numpy as np
import pytest
from stubs import BrightExpert, BrokenExpert, CountingReward, SquareDataset

from visenv.capabilities import ExpertFailure, GroundPhrase
from visenv.driving import drive
from visenv.episode import Episode, EpisodeConfig
from visenv.errors import EpisodeOver, InvalidData
from visenv.experts_making import make_experts
from visenv.experts_pool import ExpertPool
from visenv.masks import Masks
from visenv.memory import KeepAll
from visenv.protocol.messages import check_messages, count_images
from visenv.records import turn_record
from visenv.tools.base import ToolError
from visenv.tools.toolsets import make_toolset
from visenv.types import Answer, Argument, Detections, Malformed, ToolCall, ToolSpec
from visenv.workspace import Effect

GROUND = ToolCall("PhraseToBoxMask", {"images": ["img_0"], "phrase": "square"})
MERGE = ToolCall("MergeBoxMask", {"images": ["img_0"]})
SPLIT = ToolCall("SplitImageIntoPatches", {"patch_configs": {"img_0": 48}})


def begin(expert=None, sample=0, **rules):
    config = EpisodeConfig(**({"tools": make_toolset("full"), "reward": CountingReward()} | rules))
    episode = Episode(config, SquareDataset().get(sample))
    pool = ExpertPool(make_experts(expert or BrightExpert(), None))
    return episode, lambda action, **more: drive(episode.step(action, **more), pool)


def test_ground_merge_answer():
    episode, step = begin()
    assert step(GROUND).reward == -0.25
    assert step(MERGE).turn.reply.startswith("Merged: the final result is 1 object in img_0.")
    last = step(Answer("one square"))
    assert (last.reward, last.terminated, last.truncated) == (0.75, True, False)
    assert last.reward_terms == {"cost": -0.25, "found": 1.0}
    assert episode.outcome.termination == "answer"
    assert episode.outcome.answer == "one square"
    np.testing.assert_array_equal(episode.outcome.detections.boxes, [[10, 10, 30, 30]])


def test_an_abandoned_step_leaves_the_turn_as_it_was():
    episode, step = begin()
    before = episode.get_state()
    waiting = episode.step(GROUND)
    requests = next(waiting)
    assert [type(request) for request in requests] == [GroundPhrase]
    waiting.close()
    assert episode.get_state() is before
    assert step(GROUND).turn.index == 1


def test_a_step_that_was_overtaken_is_not_taken():
    episode, step = begin()
    waiting = episode.step(GROUND)
    requests = next(waiting)
    step(SPLIT)
    with pytest.raises(EpisodeOver, match="moved on"):
        waiting.send([BrightExpert().answer(request) for request in requests])
    assert episode.turns == 1


def test_a_state_can_be_gone_back_to_and_pickled():
    episode, step = begin()
    step(GROUND)
    state = pickle.loads(pickle.dumps(episode.get_state()))
    first = [step(MERGE), step(Answer("a"))]
    episode.set_state(state)
    assert episode.turns == 1
    again = [step(MERGE), step(Answer("a"))]
    assert first == again
    assert pickle.loads(pickle.dumps(episode)).outcome.turns == 3


def test_an_episode_that_is_over_takes_no_step():
    episode, step = begin()
    step(Answer(""))
    with pytest.raises(EpisodeOver, match="ended"):
        step(GROUND)
    assert episode.turns == 1


def test_the_turn_limit_ends_it_and_is_scored():
    episode, step = begin(max_turns=2)
    assert "Turns left: 1." in step(GROUND).turn.reply
    last = step(MERGE)
    assert (last.terminated, last.reward) == (True, 0.75)
    assert episode.outcome.termination == "max_turns"
    assert episode.outcome.answer is None


def test_the_token_budget_ends_it():
    episode, step = begin(token_budget=10)
    assert episode.memory.spent == 6  # 96x64: 3 x 2 tokens
    assert step(GROUND).terminated
    assert episode.outcome.termination == "token_budget"


@pytest.mark.parametrize("rule", [{"max_turns": 0}, {"max_turns": 2.5}, {"token_budget": -1}, {"max_turns": True}])
def test_bad_rules_are_refused(rule):
    with pytest.raises(InvalidData, match="whole number"):
        begin(**rule)


def test_a_broken_expert_is_not_the_policys_fault():
    episode, step = begin(BrokenExpert())
    result = step(ToolCall("PhraseToBoxMask", {"images": ["img_0"], "phrase": "fail"}))
    assert (result.reward, result.reward_terms, result.terminated, result.truncated) == (0.0, {}, False, True)
    assert "no more memory" in episode.problem
    assert episode.outcome.termination == "invalid"


def test_a_driver_may_send_failures_of_its_own():
    episode, _ = begin()
    waiting = episode.step(GROUND)
    next(waiting)
    with pytest.raises(StopIteration) as stop:
        waiting.send([ExpertFailure("remote", "timed out")])
    assert stop.value.value.truncated


BAD = [
    ("not json at all", "missing_think"),
    (b"\xff\xfe", None),
    ({"name": "Nope"}, "unknown_tool"),
    ({"arguments": {}}, "missing_name"),
    ({"name": "MergeBoxMask", "arguments": [1]}, "bad_arguments"),
    (42, "bad_action"),
    (None, "bad_action"),
    (ToolCall("PhraseToBoxMask", {"images": ["img_0"]}), "missing_argument"),
    (ToolCall("PhraseToBoxMask", {"images": ["img_0"], "phrase": "  "}), "wrong_argument"),
    (ToolCall("PhraseToBoxMask", {"images": ["img_0"], "phrase": "x" * 2**20}), "too_large"),
    (ToolCall("PhraseToBoxMask", {"images": ["img_0"], "phrase": "x" * 600}), "wrong_argument"),
    (ToolCall("PhraseToBoxMask", {"images": "img_0", "phrase": "a"}), "wrong_argument"),
    (ToolCall("PhraseToBoxMask", {"images": [], "phrase": "a"}), "wrong_argument"),
    (ToolCall("PhraseToBoxMask", {"images": ["../../etc/passwd"], "phrase": "a"}), "missing_image"),
    (ToolCall("PhraseToBoxMask", {"images": [["img_0"]], "phrase": "a"}), "missing_image"),
    (ToolCall("PhraseToBoxMask", {"images": ["img_0"] * 100, "phrase": "a"}), "wrong_argument"),
    (ToolCall("PhraseToBoxMask", {"images": ["img_0"], "phrase": "a", "box": 1}), "unknown_argument"),
    (ToolCall("PhraseToBoxMask", {"images": ["img_0"], "phrase": float("nan")}), "bad_arguments"),
    (ToolCall("PhraseToBoxMask", {"images": [float("inf")], "phrase": "a"}), "bad_arguments"),
    (ToolCall("X" * 10**6, {}), "too_large"),
    (ToolCall("PointToBoxMask", {"images": ["img_0"], "mode": "area"}), "no_points"),
    (ToolCall("PointToBoxMask", {"images": ["img_0"], "mode": "largest"}), "wrong_argument"),
    (MERGE, "no_boxes"),
    (ToolCall("SplitImageIntoPatches", {"patch_configs": {"img_0": 1}}), "too_many_patches"),
    (ToolCall("SplitImageIntoPatches", {"patch_configs": {"img_0": 0}}), "wrong_argument"),
    (ToolCall("SplitImageIntoPatches", {"patch_configs": {"img_0": 10**400}}), "wrong_argument"),
    (ToolCall("SplitImageIntoPatches", {"patch_configs": {"img_0": True}}), "wrong_argument"),
    (ToolCall("SplitImageIntoPatches", {"patch_configs": {"img_0": 32.0}}), "wrong_argument"),
    (ToolCall("SplitImageIntoPatches", {"patch_configs": {}}), "wrong_argument"),
    (ToolCall("RecallImage", {"image": "img_9"}), "missing_image"),
    (ToolCall("SuperResolution", {"images": ["img_0"], "x": object()}), "bad_arguments"),
    (Answer("x" * 20_000), "long_answer"),
    (Answer(None), "long_answer"),
    (Malformed("own", "made elsewhere"), "own"),
]


@pytest.mark.parametrize(("action", "code"), BAD)
def test_a_bad_action_is_a_transition(action, code):
    episode, step = begin()
    visible = episode.memory.visible
    result = step(action)
    assert not result.terminated
    assert not result.truncated
    assert result.turn.error is not None
    assert code is None or result.turn.error.code == code
    assert result.turn.error.message in result.turn.reply
    assert episode.memory.visible == visible
    assert len(result.turn.reply) < 1000
    assert list(episode.workspace.images) == ["img_0"]
    check_messages(episode.messages())


@pytest.mark.parametrize(
    "action",
    [
        ToolCall("SuperResolution", {"images": ["img_0"]}, thought="half a pair: \ud800"),
        ToolCall("X", {"a": float("nan")}, thought=None),
        ToolCall("\ud800", {"\ud800": "\ud800"}),
        Answer("\ud800", thought="\ud800"),
        Malformed("own", "\ud800" * 10**6),
        Malformed(1, None),
    ],
)
def test_whatever_comes_is_recorded_as_text_and_json_that_anyone_can_read(action):
    episode, step = begin()
    turn = step(action).turn
    assert len(json.dumps(turn_record(turn, {}), ensure_ascii=False, allow_nan=False).encode()) < 25_000
    for message in episode.messages():
        assert all(len(block["text"].encode()) < 25_000 for block in message["content"] if block["type"] == "text")


def test_merging_takes_every_image_with_results_however_many_there_are():
    class Everywhere(BrightExpert):
        def answer(self, request):
            height, width = request.view.pixels.shape[:2]
            masks = Masks.from_boxes(np.array([[0.0, 0, width, height]]), (height, width))
            return Detections(masks.boxes, masks, np.ones(1))

    episode, step = begin(Everywhere(), max_turns=20)
    step(ToolCall("SplitImageIntoPatches", {"patch_configs": {"img_0": 13}}))
    step(
        ToolCall(
            "PhraseToBoxMask", {"images": [name for name in episode.workspace.images if "_r" in name], "phrase": "a"}
        )
    )
    step(ToolCall("SplitImageIntoPatches", {"patch_configs": {"img_0_r1_c1": 3}}))
    inner = [name for name in episode.workspace.images if name.count("_r") == 2]
    step(ToolCall("PhraseToBoxMask", {"images": inner, "phrase": "a"}))
    names = list(episode.workspace.detections)
    assert len(names) > 64
    assert step(ToolCall("MergeBoxMask", {"images": names})).turn.error is None
    assert step(ToolCall("MergeBoxMask", {"images": ["img_0"] * 200})).turn.error.code == "wrong_argument"


def test_nesting_without_end_is_a_transition():
    nested = deep = []
    for _ in range(100_000):
        deep.append([])
        deep = deep[0]
    _, step = begin()
    assert step(ToolCall("MergeBoxMask", {"images": nested})).turn.error.code == "bad_arguments"


def test_an_enlarged_image_is_not_enlarged_again():
    _, step = begin()
    step(ToolCall("SuperResolution", {"images": ["img_0"]}))
    assert step(ToolCall("SuperResolution", {"images": ["img_0_4x"]})).turn.error.code == "upscaled_twice"


def test_enlarging_is_bounded():
    episode, step = begin()
    episode.workspace.images["img_0"] = episode.workspace.root  # as it is
    big = SquareDataset(2500, 1500).get(0)
    large = Episode(episode.config, big)
    pool = ExpertPool(make_experts(BrightExpert(), None))
    result = drive(large.step(ToolCall("SuperResolution", {"images": ["img_0"]})), pool)
    assert result.turn.error.code == "too_large"


def test_patches_have_the_published_names_and_windows():
    episode, step = begin()
    result = step(SPLIT)
    assert result.turn.created == ("img_0_r1_c1", "img_0_r1_c2", "img_0_r2_c1", "img_0_r2_c2")
    assert result.turn.shown == ("img_0_split_overview", *result.turn.created)
    assert episode.workspace.images["img_0_r1_c1"].window.tolist() == [0, 0, 57, 57]
    assert episode.workspace.images["img_0_r2_c2"].window.tolist() == [39, 45, 96, 64]


def test_points_become_boxes_and_the_mode_chooses_among_the_masks():
    episode, step = begin()
    step(ToolCall("PhraseToPoint", {"images": ["img_0"], "phrase": "square"}))
    np.testing.assert_allclose(episode.workspace.points["img_0"].points, [[20, 20]])
    step(ToolCall("PointToBoxMask", {"images": ["img_0"], "mode": "confidence"}))
    assert episode.workspace.detections["img_0"].boxes.tolist() == [[0, 0, 24, 24]]
    step(ToolCall("PointToBoxMask", {"images": ["img_0"], "mode": "area"}))
    assert episode.workspace.detections["img_0"].boxes.tolist() == [[0, 0, 48, 48]]


def test_results_on_patches_merge_in_the_frame_of_the_input():
    episode, step = begin()
    step(SPLIT)
    step(ToolCall("SuperResolution", {"images": ["img_0_r1_c1"]}))
    step(ToolCall("PhraseToBoxMask", {"images": ["img_0_r1_c1_4x"], "phrase": "square"}))
    assert episode.workspace.detections["img_0_r1_c1_4x"].boxes.tolist() == [[40, 40, 120, 120]]
    step(ToolCall("MergeBoxMask", {"images": ["img_0_r1_c1_4x"]}))
    assert episode.workspace.final.boxes.tolist() == [[10, 10, 30, 30]]
    assert episode.workspace.final.masks.areas.tolist() == [400]


def test_archiving_leaves_one_placeholder_an_image():
    episode, step = begin()
    step(SPLIT)
    messages = episode.messages()
    check_messages(messages)
    assert count_images(messages) == 5
    texts = [block["text"] for message in messages for block in message["content"] if block["type"] == "text"]
    assert "[System: Image img_0 has been archived to save memory]" in texts
    step(GROUND)
    texts = [block["text"] for message in episode.messages() for block in message["content"] if block["type"] == "text"]
    assert texts.count("[System: Visualization image has been archived to save memory]") == 1
    assert "[System: Image img_0_r1_c1 has been archived to save memory]" in texts
    assert count_images(episode.messages()) == 1


def test_a_stored_image_is_not_shown_but_archives_the_rest():
    episode, step = begin()
    step(ToolCall("SuperResolution", {"images": ["img_0"]}))
    assert episode.visible() == []
    assert episode.memory.tokens == 0


def test_recalling_shows_an_image_at_its_price():
    episode, step = begin()
    step(GROUND)
    spent = episode.memory.spent
    result = step(ToolCall("RecallImage", {"image": "img_0"}))
    assert result.turn.archived == ("img_0_PhraseToBoxMask_visual",)
    assert [picture.name for picture in episode.visible()] == ["img_0"]
    assert episode.memory.spent == spent + 6


def test_keep_all_archives_nothing():
    episode, step = begin(memory=KeepAll())
    step(GROUND)
    step(SPLIT)
    assert count_images(episode.messages()) == 7
    assert episode.memory.unarchived == episode.memory.read


def test_text_turns_are_parsed_and_kept_as_they_were():
    episode, step = begin()
    call = '{"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "square"}}'
    text = f"<think>look</think>\n<tool_call>{call}</tool_call>"
    assert step(text).turn.error is None
    assert step(text, finish_reason="length").turn.cut
    assistant = [message for message in episode.messages() if message["role"] == "assistant"]
    assert assistant[0]["content"] == [{"type": "text", "text": text}]
    replies = [message for message in episode.messages() if message["role"] == "user"][1:]
    assert all(reply["content"][-1]["text"].endswith("</tool_response>") for reply in replies)


def test_an_assistant_message_is_read_in_the_dialect_of_servers():
    call = {"name": "Zoom", "arguments": '{"image": "img_0", "box": [24, 16, 48, 32]}'}
    message = {"role": "assistant", "content": "closer", "tool_calls": [{"id": "a", "function": call}]}
    episode, step = begin(tools=make_toolset([Zoom]), dialect="openai")
    turn = step(message).turn
    assert (turn.error, turn.action.thought) == (None, "closer")
    assert episode.workspace.images["img_0_zoom"].window.tolist() == [24, 16, 48, 32]
    assert step(message, finish_reason="length").turn.cut
    assert step({"role": "assistant", "content": "done"}).turn.action == Answer("done")
    _, other = begin()
    assert other(message).turn.error.code == "not_text"


def test_actions_in_code_are_written_in_the_dialect():
    for dialect in ("qwen3_vl", "qwen3_5", "openai"):
        episode, step = begin(dialect=dialect)
        step(GROUND)
        said = episode.messages()[2]["content"][0]["text"]
        assert "PhraseToBoxMask" in said
        assert json.dumps(said)


class Zoom:
    """A tool with a box, to see in which frame it arrives."""

    spec = ToolSpec("Zoom", "Looks closer.", (Argument("image", "image", "which"), Argument("box", "box", "where")))

    def run(self, arguments, context):
        x0, y0, x1, y1 = arguments["box"]
        image = context.workspace.images[arguments["image"]]
        if x1 > image.size[0]:
            raise ToolError("outside", "The box leaves the image.")
        patch = image.patch(f"{image.name}_zoom", (int(x0), int(y0), int(x1), int(y1)), context.turn)
        return Effect((f"{patch.window.tolist()}",), images=(patch,))


def test_coordinates_in_text_are_of_the_dialects_frame_and_in_code_of_pixels():
    episode, step = begin(tools=make_toolset([Zoom]))
    call = '{"name": "Zoom", "arguments": {"image": "img_0", "box": [250, 250, 500, 500]}}'
    step(f"<think></think><tool_call>{call}</tool_call>")
    assert episode.workspace.images["img_0_zoom"].window.tolist() == [24, 16, 48, 32]
    step({"name": "Zoom", "arguments": {"image": "img_0", "box": [1, 2, 11, 12]}})
    assert episode.workspace.images["img_0_zoom"].window.tolist() == [1, 2, 11, 12]
    assert step({"name": "Zoom", "arguments": {"image": "img_0", "box": [1, 2, 110, 12]}}).turn.error.code == "outside"
    for bad in ([1, 2, float("inf"), 4], [float("nan")] * 4, [5, 5, 1, 1], [1, 2, 3], "1 2 3 4", [1e300] * 4):
        error = step({"name": "Zoom", "arguments": {"image": "img_0", "box": bad}}).turn.error
        assert error.code in ("wrong_argument", "bad_arguments")


def test_nothing_of_the_truth_reaches_the_conversation():
    episode, step = begin()
    step(SPLIT)
    seen = pickle.dumps([episode.messages(), episode.workspace.view("img_0", episode.sample_id)])
    assert b"MaskTruth" not in seen


def test_a_dialect_without_types_may_write_numbers_as_text():
    class Count:
        spec = ToolSpec("Count", "Counts.", (Argument("n", "integer", "how far", low=1, high=9),))

        def run(self, arguments, context):
            return Effect((f"{arguments['n'] + 1}",))

    _, step = begin(tools=make_toolset([Count]), dialect="qwen3_5")
    text = "<think></think><tool_call><function=Count><parameter=n>7</parameter></function></tool_call>"
    assert step(text).turn.reply.startswith("8")
    assert step({"name": "Count", "arguments": {"n": "99"}}).turn.error.code == "wrong_argument"
    assert step({"name": "Count", "arguments": {"n": "²"}}).turn.error.code == "wrong_argument"
