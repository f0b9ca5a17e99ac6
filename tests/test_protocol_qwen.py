"""The two Qwen dialects: every rule of the grammar, both ways."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visenv.errors import InvalidData, UnknownName
from visenv.protocol import get_dialect, parse_turn
from visenv.types import Answer, Malformed, ToolCall

CALL = '<tool_call>{"name": "PhraseToPoint", "arguments": {"images": ["img_0"], "phrase": "left dog"}}</tool_call>'
CALL_35 = (
    '<tool_call>\n<function=PhraseToPoint>\n<parameter=images>\n["img_0"]\n</parameter>\n'
    "<parameter=phrase>\n left dog \n</parameter>\n</function>\n</tool_call>"
)


def think(action: str) -> str:
    return f"<think>why</think>\n{action}"


def code(text: object, dialect: str = "qwen3_vl", finish_reason: str | None = None) -> str:
    parsed = parse_turn(text, dialect, finish_reason)
    assert isinstance(parsed, Malformed), parsed
    assert parsed.message
    return parsed.code


def test_a_call_is_read_with_its_thought():
    expected = ToolCall("PhraseToPoint", {"images": ["img_0"], "phrase": "left dog"}, "why")
    assert parse_turn(think(CALL)) == expected
    assert parse_turn(f"  \n{think(CALL)}\n ") == expected
    assert parse_turn(think(CALL_35), "qwen3_5") == expected


@pytest.mark.parametrize("dialect", ["qwen3_vl", "qwen3_5"])
def test_an_answer_is_read_as_it_stands(dialect):
    assert parse_turn(think("<answer> two\ndogs </answer>"), dialect) == Answer(" two\ndogs ", "why")
    assert parse_turn(think("<answer></answer>"), dialect) == Answer("", "why")


def test_names_are_stripped_and_arguments_may_be_empty():
    assert parse_turn(think('<tool_call>{"name": " Zoom ", "arguments": {}}</tool_call>')) == ToolCall(
        "Zoom", {}, "why"
    )


def test_tags_inside_the_thought_do_not_count():
    text = f"<think>first <tool_call>, then <answer>maybe</answer></think>{CALL}"
    assert isinstance(parse_turn(text), ToolCall)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("", "neither"),
        ("img_0 shows two dogs", "neither"),
        ("<tool_calls>{}</tool_calls>", "neither"),
        (CALL + "<answer>two</answer>", "both"),
        (CALL + "<ANSWER", "both"),
        (CALL + CALL, "two_calls"),
        ("<answer>a</answer><answer>b</answer>", "two_answers"),
        ("<answer>a</answer></answer>", "two_answers"),
        ("<answer>a<Answer></answer>", "two_answers"),
        ("first " + CALL, "outside_text"),
        ("<answer>a</answer> done", "outside_text"),
        ("<think>again</think><answer>a</answer>", "outside_text"),
        ("<answer>a", "unclosed_tag"),
        ("a</answer>", "unclosed_tag"),
        ("</answer>a<answer>", "unclosed_tag"),
        ("<answer", "unclosed_tag"),
        ('<tool_call>{"name": "a", "arguments": {}}', "unclosed_tag"),
        (CALL.replace("tool_call", "Tool_Call"), "tag_case"),
        ("<answer>a</Answer>", "tag_case"),
        ("<answer >a</answer>", "tag_case"),
    ],
)
def test_a_wrong_envelope_is_named(action, expected):
    assert code(think(action)) == expected
    assert code(think(action), "qwen3_5") == expected


@pytest.mark.parametrize(
    "text", ["", CALL, "<think>why", "why</think>" + CALL, "so: " + think(CALL), "<Think>a</Think>" + CALL]
)
def test_the_think_block_comes_first(text):
    assert code(text) == "missing_think"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", "bad_json"),
        ("{name: 'a'}", "bad_json"),
        ("[]", "bad_json"),
        ("null", "bad_json"),
        ('{"name": "a", "arguments": {}} {}', "bad_json"),
        ('{"name": "a", "arguments": {"x": NaN}}', "bad_json"),
        ('{"name": "a", "arguments": {"x": -Infinity}}', "bad_json"),
        ('{"name": "a", "arguments": {"x": 1e999}}', "bad_json"),
        ('{"name": "a", "arguments": {"x": ' + "9" * 5000 + "}}", "bad_json"),
        ('{"name": "a", "name": "b", "arguments": {}}', "bad_json"),
        ('{"name": "a", "arguments": {"x": "\\u0000"}}', "bad_json"),
        ('{"name": "a", "arguments": {"x": "\\ud800"}}', "bad_json"),
        ('{"name": "a", "arguments": {"x": ' + "[" * 17 + "]" * 17 + "}}", "bad_json"),
        ('{"arguments": {}}', "missing_name"),
        ('{"name": "", "arguments": {}}', "missing_name"),
        ('{"name": "  ", "arguments": {}}', "missing_name"),
        ('{"name": 3, "arguments": {}}', "missing_name"),
        ('{"name": "a"}', "bad_arguments"),
        ('{"name": "a", "arguments": null}', "bad_arguments"),
        ('{"name": "a", "arguments": ["img_0"]}', "bad_arguments"),
        ('{"name": "a", "arguments": "{}"}', "bad_arguments"),
    ],
)
def test_a_wrong_json_call_is_named(body, expected):
    assert code(think(f"<tool_call>{body}</tool_call>")) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", "missing_name"),
        ('{"name": "a", "arguments": {}}', "missing_name"),
        ("<function=><parameter=x>1</parameter></function>", "missing_name"),
        ("<function= ><parameter=x>1</parameter></function>", "missing_name"),
        ("<function=a></function>", "bad_arguments"),
        ("<function=a><parameter=>1</parameter></function>", "bad_arguments"),
        ("<function=a><parameter=x>1</parameter><parameter=x>2</parameter></function>", "bad_arguments"),
        ("<function=a><parameter=x>[1, </parameter></function>", "ok"),
        ("<function=a><parameter=x>[1, ]</parameter></function>", "bad_json"),
        ("<function=a><parameter=x>{'y': 1}</parameter></function>", "bad_json"),
        ("<function=a><parameter=x>1</function>", "unclosed_tag"),
        ("<function=a><parameter=x>1<parameter=y>2</parameter></function>", "unclosed_tag"),
        ("<function=a><parameter=x>1</parameter>", "unclosed_tag"),
        ("<function=a>so <parameter=x>1</parameter></function>", "outside_text"),
        ("<function=a><parameter=x>1</parameter>so</function>", "outside_text"),
        ("<function=a><parameter=x>1</parameter></function><function=b></function>", "two_calls"),
    ],
)
def test_a_wrong_function_call_is_named(body, expected):
    parsed = parse_turn(think(f"<tool_call>{body}</tool_call>"), "qwen3_5")
    assert ("ok" if isinstance(parsed, ToolCall) else parsed.code) == expected


def test_parameters_are_json_only_where_they_look_like_lists_or_objects():
    values = {"a": ' {"img_0": 512} ', "b": "[1, 2]", "c": "3", "d": "true", "e": '"x"', "f": "", "g": "[1] and [2}"}
    body = "".join(f"<parameter={key}>{value}</parameter>" for key, value in values.items())
    call = parse_turn(think(f"<tool_call><function=T>{body}</function></tool_call>"), "qwen3_5")
    assert call.arguments == {
        "a": {"img_0": 512},
        "b": [1, 2],
        "c": "3",
        "d": "true",
        "e": '"x"',
        "f": "",
        "g": "[1] and [2}",
    }


@pytest.mark.parametrize("dialect", ["qwen3_vl", "qwen3_5", "openai"])
def test_a_turn_cut_by_the_length_limit_is_malformed_even_if_complete(dialect):
    text = get_dialect(dialect).render(Answer("two"))
    assert isinstance(parse_turn(text, dialect, "stop"), Answer)
    assert code(text, dialect, "length") == "cut"


def test_the_dialect_must_exist():
    with pytest.raises(UnknownName, match="qwen3_vl, qwen3_5, openai"):
        parse_turn("", "qwen9")


HOSTILE = [
    b"\xff\xfe" + think(CALL).encode(),
    "\ud800" + think(CALL),
    think(CALL).replace("dog", "dog\0"),
    "<think>" * 140_000,
    "<think></think>" + "<tool_call>" * 90_000,
    "<think></think><tool_call>" + "[" * 1_000_000 + "</tool_call>",
    "<think></think><tool_call>" + '{"a":' * 200_000 + "</tool_call>",
    "<think></think><tool_call>" + "<function=" * 100_000 + "</tool_call>",
    "<think></think><tool_call><function=a>" + "<parameter=a" * 80_000 + "</function></tool_call>",
    "<think></think><tool_call><function=a>" + " " * 1_000_000 + "</function></tool_call>",
    "<think></think><answer" + " " * 1_000_000,
    "<think></think>" + "<answer \n" * 100_000,
    "x" * 50_000_000,
    None,
    42,
    ["<think></think>"],
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("turn", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("dialect", ["qwen3_vl", "qwen3_5"])
def test_hostile_turns_are_malformed_quickly(turn, dialect):
    message = parse_turn(turn, dialect)
    assert isinstance(message, Malformed)
    assert len(message.message) < 500


def test_bytes_are_read_as_utf8():
    assert parse_turn("<think>où</think><answer>là</answer>".encode()) == Answer("là", "où")


plain = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
untagged = plain.filter(lambda text: "<" not in text)
names = st.text(st.characters(categories=["L", "N"], include_characters="_"), min_size=1, max_size=12)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | plain
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3), max_leaves=6
)


@given(names, st.dictionaries(plain, values, max_size=4), untagged)
def test_what_is_rendered_reads_back_as_json(name, arguments, thought):
    call = ToolCall(name, arguments, thought)
    text = get_dialect("qwen3_vl").render(call, strict=True)
    assert parse_turn(text) == call
    body = text[text.index("<tool_call>") + len("<tool_call>") : text.index("</tool_call>")]
    assert json.loads(body) == {"name": name, "arguments": arguments}


stripped = untagged.map(str.strip).filter(lambda text: text[:1] + text[-1:] not in ("[]", "{}"))
parameters = st.lists(values, max_size=3) | st.dictionaries(plain, values, max_size=3) | stripped


@given(names, st.dictionaries(names, parameters, min_size=1, max_size=4), untagged)
def test_what_is_rendered_reads_back_as_a_function(name, arguments, thought):
    call = ToolCall(name, arguments, thought)
    assert parse_turn(get_dialect("qwen3_5").render(call, strict=True), "qwen3_5") == call


@given(untagged, untagged)
@pytest.mark.parametrize("dialect", ["qwen3_vl", "qwen3_5"])
def test_answers_read_back(dialect, answer, thought):
    assert parse_turn(get_dialect(dialect).render(Answer(answer, thought), strict=True), dialect) == Answer(
        answer, thought
    )


fragments = st.sampled_from(
    ["<think>", "</think>", "<tool_call>", "</tool_call>", "<answer>", "</answer>", "<function=a>", "</function>"]
    + ["<parameter=b>", "</parameter>", '{"name": "a", "arguments": {}}', "[", "]", "{", "}", '"', ":", " ", "x", "\n"]
)


@given(st.lists(fragments, max_size=14).map("".join), st.sampled_from(["qwen3_vl", "qwen3_5", "openai"]))
def test_any_text_is_an_action_that_renders_without_an_error(text, dialect):
    action = parse_turn(text, dialect)
    assert isinstance(action, (ToolCall, Answer, Malformed))
    assert isinstance(get_dialect(dialect).render(action), str)
    if isinstance(action, Answer):
        assert parse_turn(get_dialect(dialect).render(action, strict=True), dialect) == action


@given(st.binary(max_size=60) | st.text(max_size=60), st.sampled_from(["qwen3_vl", "qwen3_5", "openai"]))
def test_any_bytes_and_characters_are_an_action(turn, dialect):
    assert isinstance(parse_turn(turn, dialect), (ToolCall, Answer, Malformed))


@pytest.mark.parametrize(
    ("dialect", "action"),
    [
        ("qwen3_vl", Malformed("both", "message")),
        ("qwen3_vl", Answer("see </answer>")),
        ("qwen3_vl", Answer("a", thought="so </think> then")),
        ("qwen3_vl", ToolCall("", {})),
        ("qwen3_vl", ToolCall("a", {"x": float("nan")})),
        ("qwen3_vl", ToolCall("a", {"x": object()})),
        ("qwen3_vl", ToolCall("a", {"x": "\0"})),
        ("qwen3_5", ToolCall("a", {})),
        ("qwen3_5", ToolCall("a", {"x": " padded"})),
        ("qwen3_5", ToolCall("a", {"x": "[1]"})),
        ("qwen3_5", ToolCall("a", {"x": "</parameter>"})),
        ("openai", Answer("")),
        ("openai", ToolCall("a", {"x": float("inf")})),
    ],
)
def test_what_a_dialect_cannot_express_is_refused_only_when_strict(dialect, action):
    with pytest.raises(InvalidData):
        get_dialect(dialect).render(action, strict=True)
    assert isinstance(get_dialect(dialect).render(action), str)


def test_a_number_is_rendered_as_its_digits_where_values_are_text():
    assert parse_turn(get_dialect("qwen3_5").render(ToolCall("a", {"x": 3}), strict=True), "qwen3_5") == ToolCall(
        "a", {"x": "3"}
    )


def test_strings_may_hold_the_dialects_own_tags_as_json():
    call = ToolCall("a", {"phrase": "</tool_call><answer>x</answer>"})
    assert parse_turn(get_dialect("qwen3_vl").render(call, strict=True)) == call
    listed = ToolCall("a", {"phrases": ["</parameter></tool_call>"]})
    assert parse_turn(get_dialect("qwen3_5").render(listed, strict=True), "qwen3_5") == listed


@pytest.mark.parametrize("dialect", ["qwen3_vl", "qwen3_5"])
def test_a_reply_ends_exactly_with_its_tag(dialect):
    wrap = get_dialect(dialect).wrap_reply
    assert wrap("Two dogs.") == "<tool_response>\nTwo dogs.\n</tool_response>"
    assert wrap("Two dogs.\n\n") == "<tool_response>\nTwo dogs.\n</tool_response>"
    assert wrap("a </tool_response> b").count("</tool_response>") == 1


@pytest.mark.parametrize("dialect", ["qwen3_vl", "qwen3_5"])
def test_the_rules_show_a_form_that_reads_back(dialect):
    rules = get_dialect(dialect).help()
    example = rules[rules.index("<tool_call>") : rules.index("</tool_call>") + len("</tool_call>")]
    assert parse_turn(think(example), dialect) == ToolCall("TOOL", {"ARGUMENT": "value"}, "why")
