"""The dialect of VipAct: blocks of Python that are read and never run, one call or several."""

import gymnasium as gym
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from visenv.errors import InvalidData
from visenv.protocol import get_dialect
from visenv.protocol.vipact import MAX_BLOCK, MAX_CALLS, SEVERAL, listed_calls
from visenv.rewards.imagent import IMAgentReward
from visenv.types import Answer, Malformed, ToolCall

VIPACT = get_dialect("vipact")


def block(code):
    return f"Thought: why\nAction Input:\n```python\n{code}\n```"


def code_of(turn):
    parsed = VIPACT.parse(turn)
    assert isinstance(parsed, Malformed), parsed
    assert 0 < len(parsed.message) < 600
    return parsed.code


@pytest.mark.parametrize(
    ("code", "name", "arguments"),
    [
        ('image_captioning(image="img_0", focus="it")', "ImageCaptioning", {"image": "img_0", "focus": "it"}),
        (
            "ZoomRegion(image='img_0', box=(1, -2.5, 30, 40),)",
            "ZoomRegion",
            {"image": "img_0", "box": [1, -2.5, 30, 40]},
        ),
        ("x = Recall(image='img_0')  # again", "Recall", {"image": "img_0"}),
        (
            "Split(patch_configs={'img_0': 320}, on=True, no=None)",
            "Split",
            {"patch_configs": {"img_0": 320}, "on": True, "no": None},
        ),
        ("Say(\n  text='a\\n```\\nb'\n)", "Say", {"text": "a\n```\nb"}),
        ("compare()", "Compare", {}),
    ],
)
def test_one_call_is_that_call(code, name, arguments):
    assert VIPACT.parse(block(code)) == ToolCall(name, arguments, "why")


def test_several_calls_are_one_turn():
    parsed = VIPACT.parse(block('a = one_tool(image="img_0")\nTwo(images=["img_0", "img_1"])'))
    assert parsed.name == SEVERAL
    assert listed_calls(parsed.arguments["calls"]) == [
        {"name": "OneTool", "arguments": {"image": "img_0"}},
        {"name": "Two", "arguments": {"images": ["img_0", "img_1"]}},
    ]
    assert VIPACT.parse(VIPACT.render(parsed, strict=True)) == parsed


def test_answers_and_requirements():
    assert VIPACT.parse("Task Requirement: count.\nThought: two\nFinal Answer: (B)\n") == Answer(
        "(B)", "Task Requirement: count.\nThought: two"
    )
    assert VIPACT.parse("Thought:\nFinal Answer:") == Answer("", "")


@pytest.mark.parametrize(
    ("turn", "code"),
    [
        ("", "neither"),
        ("Thought: hm", "neither"),
        ("Final Answer: B", "missing_think"),
        ("Final Answer: B\nThought: late", "missing_think"),
        ("Thought: x\nFinal Answer: B\nAction Input:\n```python\nA()\n```", "both"),
        ("Thought: x\nFinal Answer: B\nFinal Answer: C", "two_answers"),
        (block("A()") + "\n" + block("B()"), "two_calls"),
        (block("A()") + "\nObservation: yes", "outside_text"),
        (block("A()") + "\nand more", "outside_text"),
        ("Thought: x\nAction Input: A()", "bad_arguments"),
        ("Thought: x\nAction Input:\n```python\nA()", "unclosed_tag"),
        (block(""), "bad_arguments"),
        (block("A(1)"), "bad_arguments"),
        (block("A(**{'a': 1})"), "bad_arguments"),
        (block("A(*[1])"), "bad_arguments"),
        (block("A(a=1, a=2)"), "bad_arguments"),
        (block("A(a=b)"), "bad_arguments"),
        (block("A(a=1 + 1)"), "bad_arguments"),
        (block("A(a=f'{1}')"), "bad_arguments"),
        (block("A(a=B())"), "bad_arguments"),
        (block("A(a=b'x')"), "bad_arguments"),
        (block("A(a=1j)"), "bad_arguments"),
        (block("A(a=1e999)"), "bad_arguments"),
        (block("A(a={1: 2})"), "bad_arguments"),
        (block("A(a='\\ud800')"), "bad_arguments"),
        (block("A(a=[[[[[[[1]]]]]]])"), "bad_arguments"),
        (block("A(a=" + "[" * 900 + "]" * 900 + ")"), "bad_arguments"),
        (block("A(a=" + "-" * 3900 + "1)"), "bad_arguments"),
        (block("A(a=" + "9" * 4000 + ")"), "bad_arguments"),
        (block("os.remove(path='x')"), "bad_arguments"),
        (block("__import__(name='os').system(command='x')"), "bad_arguments"),
        (block("import os"), "bad_arguments"),
        (block("for i in range(3): A()"), "bad_arguments"),
        (block("x.y = A()"), "bad_arguments"),
        (block("lambda: A()"), "bad_arguments"),
        (block("A() if True else B()"), "bad_arguments"),
        (block("A(\x00)"), "bad_arguments"),
        (block("\n".join(["A()"] * (MAX_CALLS + 1))), "bad_arguments"),
        (block("A(a='" + "x" * MAX_BLOCK + "')"), "too_long"),
        ("x" * 2**21, "too_long"),
        (b"\xff", "not_text"),
    ],
)
def test_what_is_wrong_is_said(turn, code):
    assert code_of(turn) == code or (code == "bad_arguments" and code_of(turn) == "not_text")


def test_nothing_in_a_block_is_run(tmp_path):
    target = tmp_path / "made"
    for code in (f"open(file={str(target)!r}, mode='w')", f"exec(code='open({str(target)!r}, 1)')"):
        VIPACT.parse(block(code))
    assert not target.exists()


@given(st.text(max_size=200) | st.binary(max_size=60))
def test_any_text_is_read_without_raising(text):
    VIPACT.parse(text)


@given(st.text(alphabet="A(a=1,)[]{}'\"\n`:-+*.b\\#", max_size=80))
@example("A(a=" + "(" * 190)
def test_any_block_is_read_without_raising(code):
    assert isinstance(VIPACT.parse(block(code)), (ToolCall, Malformed))


WORDS = st.text(alphabet="abc XYZ'\"\\\n`äö", max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["image", "images", "focus", "box", "a1"])


@given(st.dictionaries(NAMES, VALUES, max_size=3), st.sampled_from(["ZoomRegion", "Compare2", "A"]))
def test_a_call_reads_back_as_it_was_written(arguments, name):
    call = ToolCall(name, arguments, "why not?")
    try:
        text = VIPACT.render(call, strict=True)
    except InvalidData:
        return
    assert VIPACT.parse(text) == call


def test_what_cannot_be_written_is_refused():
    for call in (
        ToolCall("Zoom Region"),
        ToolCall("A", {"class": 1}),
        ToolCall("A", {}, "Final Answer: x\nFinal Answer:"),
    ):
        with pytest.raises(InvalidData):
            VIPACT.render(call, strict=True)


# --- in an environment ------------------------------------------------------------------------------------------------


def begun(**keywords):
    env = gym.make("VisHarness/Blink-v0", split="val", difficulty=0, action_mode="text", dialect="vipact", **keywords)
    env.reset(options={"index": 1})
    return env.unwrapped


def test_calls_of_one_block_work_on_what_the_ones_before_made():
    env = begun()
    width, height = env.episode.workspace.root.size
    shown = env.episode.config.tokens.resized(width, height)
    half = [0, 0, shown[0] / 2, shown[1] / 2]
    code = (
        f'ZoomRegion(image="img_0", box={half})\nvisual_prompt_detector(image="img_0")\n'
        'depth_estimation(image="img_0")\nembedding_similarity(images=["img_0", "img_0_z1"])'
    )
    *_, info = env.step(block(code))
    assert info["error"] is None
    reply = info["reply"]
    assert [reply.index(f"[{number}] ") for number in (1, 2, 3, 4)] == sorted(
        reply.index(f"[{n}] ") for n in (1, 2, 3, 4)
    )
    assert "circle A 0." in reply
    assert "img_0_z1 " in reply.split("[4]")[1]
    zoomed = env.episode.workspace.images["img_0_z1"]
    assert zoomed.size == (width // 2, height // 2), "Coordinates are those of the image as the model saw it."
    assert {"img_0_z1", "img_0_depth"} <= set(env.episode.workspace.images)
    assert env.episode.turns == 1
    system = str(env.episode.messages()[0])
    assert "ImageCaptioning(image, focus)" in system
    assert SEVERAL not in system
    assert "Observation:" in str(env.episode.messages()[-1])


def test_a_call_that_fails_says_so_and_the_others_go_on():
    env = begun()
    *_, info = env.step(block('nothing(a=1)\nRecallImage(image="img_9")\nvisual_prompt_detector(image="img_0")'))
    assert info["error"] is None
    assert "[1] Nothing: Error (unknown_tool)" in info["reply"]
    assert "[2] RecallImage: Error (missing_image)" in info["reply"]
    assert "circle A" in info["reply"].split("[3]")[1]
    *_, info = env.step(block('nothing(a=1)\nRecallImage(image="img_9")'))
    assert info["error"]["code"] == "unknown_tool"
    *_, info = env.step({"name": SEVERAL, "arguments": {"calls": "no list"}})
    assert info["error"]["code"] == "wrong_argument"
    inner = [{"name": SEVERAL, "arguments": {"calls": "[]"}}]
    *_, info = env.step({"name": SEVERAL, "arguments": {"calls": __import__("json").dumps(inner)}})
    assert info["error"]["code"] == "unknown_tool", "Blocks do not nest."
    _, reward, ended, _, info = env.step("Thought: A.\nFinal Answer: " + env.episode.truth.answers[0])
    assert ended
    assert reward == 1


def test_where_one_call_a_turn_is_carried_out_the_prompt_says_so_and_several_are_a_fault_that_says_so():
    env = gym.make("VisHarness/MultiImage-v0", split="val", difficulty=0, action_mode="text", dialect="vipact")
    env.reset(options={"index": 0})
    assert "functions, one in a block:" in str(env.unwrapped.episode.messages()[0])
    assert f"functions, at most {MAX_CALLS} in a block" in str(begun().episode.messages()[0])
    look = 'phrase_to_box_mask(images=["img_0"], phrase="object")'
    *_, info = env.step(block(f"{look}\n{look}"))
    assert info["error"]["code"] == "two_calls"
    assert SEVERAL not in info["reply"], "No tool is named that the model was not told of."
    *_, info = env.step(block(look))
    assert info["error"] is None


def test_rewards_see_the_tools_that_a_block_called_if_they_were_carried_out():
    for code, tools, paid in (
        ('recall_image(image="img_0")\nvisual_prompt_detector(image="img_0")', 2, 1.5),
        ('recall_image(image="img_9")\nvisual_prompt_detector(image="img_0")', 1, 1.0),
        ('recall_image(image="img_9")\nrecall_image(image="img_8")', 0, 1.0),
    ):
        env = begun(reward=IMAgentReward(rate_without_tool=0.0))
        env.step(block(code))
        assert env.episode.outcome.tools == ("RecallImage", "VisualPromptDetector")[2 - tools :]
        assert env.step(f"Thought: A.\nFinal Answer: {env.episode.truth.answers[0]}")[1] == paid
