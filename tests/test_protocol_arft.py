"""The dialect of Visual-ARFT: every rule of its grammar, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visenv.errors import InvalidData
from visenv.protocol import get_dialect, parse_turn
from visenv.types import Answer, Argument, Malformed, ToolCall, ToolSpec

ARFT = get_dialect("arft")
PROGRAM = "from PIL import Image\nImage.open('input.png').rotate(90).save('output.png')"
CODE = f"<code>\n```python\n{PROGRAM}\n```\n</code>"


def think(action):
    return f"<think>why</think>\n{action}"


def parse(action):
    return ARFT.parse(think(action))


def code(turn):
    parsed = ARFT.parse(turn)
    assert isinstance(parsed, Malformed), parsed
    assert parsed.message
    assert len(parsed.message) < 500
    return parsed.code


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("<search> red kite\nflag </search>", ToolCall("Search", {"query": "red kite\nflag"}, "why")),
        (
            "<problem>['rotation90', 'dark']</problem>",
            ToolCall("NameProblems", {"problems": ["rotation90", "dark"]}, "why"),
        ),
        ('<problem>["blur",]</problem>', ToolCall("NameProblems", {"problems": ["blur"]}, "why")),
        ("<problem> [ ] </problem>", ToolCall("NameProblems", {"problems": []}, "why")),
        (CODE, ToolCall("RunCode", {"code": PROGRAM, "image": "img_0"}, "why")),
        ("<code>```\nx = 1\n```</code>", ToolCall("RunCode", {"code": "x = 1", "image": "img_0"}, "why")),
        ("<code>```python3\nx = 1\n```</code>", ToolCall("RunCode", {"code": "x = 1", "image": "img_0"}, "why")),
        ("<code>```Python \nx=1\n\n``` </code>", ToolCall("RunCode", {"code": "x=1\n", "image": "img_0"}, "why")),
        ("<answer> Ansel\nBrodwick </answer>", Answer(" Ansel\nBrodwick ", "why")),
        ("<answer></answer>", Answer("", "why")),
    ],
)
def test_each_of_the_four_things_is_read(action, expected):
    assert parse(action) == expected
    assert ARFT.parse(think(action).encode()) == expected


def test_tags_inside_the_thought_do_not_count():
    assert isinstance(ARFT.parse("<think><search>no</search> <answer></think><search>yes</search>"), ToolCall)


def test_a_comparison_in_a_program_is_no_tag():
    program = "if x <answer: print(answer<code)"
    assert parse(f"<code>\n```python\n{program}\n```\n</code>").arguments["code"] == program


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("", "neither"),
        ("Velmora", "neither"),
        ("<tool_call>{}</tool_call>", "neither"),
        ("<searches>a</searches>", "neither"),
        ("<search>a</search><answer>b</answer>", "both"),
        ("<search>a</search></problem>", "both"),
        (CODE.replace("</code>", "</CODE><Answer >"), "both"),
        ("<search>a</search><search>b</search>", "two_calls"),
        (CODE + CODE, "two_calls"),
        ("<answer>a</answer><answer>b</answer>", "two_answers"),
        ("<Search>a</Search>", "tag_case"),
        ("<search >a</search>", "tag_case"),
        ("<answer>a</ANSWER>", "tag_case"),
        ("<search>a", "unclosed_tag"),
        ("a</search>", "unclosed_tag"),
        ("</answer>a<answer>", "unclosed_tag"),
        ("<search", "unclosed_tag"),
        ("so <search>a</search>", "outside_text"),
        ("<answer>a</answer> done", "outside_text"),
        ("<think>again</think><answer>a</answer>", "outside_text"),
        ("<search> \n </search>", "bad_arguments"),
        ("<problem></problem>", "bad_arguments"),
        ("<problem>dark</problem>", "bad_arguments"),
        ("<problem>[</problem>", "bad_arguments"),
        ("<problem>[dark]</problem>", "bad_arguments"),
        ("<problem>['dark]</problem>", "bad_arguments"),
        ("<problem>['dark' 'blur']</problem>", "bad_arguments"),
        ("<problem>['dark',,'blur']</problem>", "bad_arguments"),
        ("<problem>['dark', ['blur']]</problem>", "bad_arguments"),
        ("<problem>['a\\n']</problem>", "bad_arguments"),
        ("<problem>[__import__('os').system('id')]</problem>", "bad_arguments"),
        ("<problem>['dark', 3]</problem>", "bad_arguments"),
        ("<problem>[" + "'dark'," * 17 + "]</problem>", "bad_arguments"),
        ("<code></code>", "bad_arguments"),
        ("<code>x = 1</code>", "bad_arguments"),
        ("<code>so:\n```python\nx = 1\n```</code>", "bad_arguments"),
        ("<code>```javascript\nx = 1\n```</code>", "bad_arguments"),
        ("<code>```python\n```</code>", "bad_arguments"),
        ("<code>```python\n  \n```</code>", "bad_arguments"),
        ("<code>```python\nx = 1</code>", "unclosed_tag"),
        ("<code>```python\nx = 1```</code>", "unclosed_tag"),
        ("<code>```python\nx = 1\n```\nThat is it.</code>", "outside_text"),
        ("<code>```python\nx = 1\n```\n```python\ny = 1\n```</code>", "two_calls"),
    ],
)
def test_a_wrong_turn_is_named(action, expected):
    assert code(think(action)) == expected


@pytest.mark.parametrize("turn", ["", "<search>a</search>", "<think>why", "so: " + think("<search>a</search>")])
def test_the_think_block_comes_first(turn):
    assert code(turn) == "missing_think"


def test_a_turn_cut_by_the_length_limit_is_malformed_even_if_complete():
    assert ARFT.parse(think(CODE), "length").code == "cut"
    assert ARFT.parse(think(CODE), "stop").name == "RunCode"


HOSTILE = [
    b"\xff\xfe" + think(CODE).encode(),
    think(CODE).replace("PIL", "PIL\0"),
    "<think></think>" + "<search>" * 100_000,
    "<think></think>" + "<code " * 150_000,
    "<think></think><answer" + " " * 1_000_000,
    "<think></think><problem>" + "[" * 1_000_000 + "</problem>",
    "<think></think><problem>[" + "'" * 1_000_001 + "]</problem>",
    "<think></think><problem>['" + " " * 1_000_000 + "]</problem>",
    "<think></think><problem>['a'" + " " * 1_000_000 + "x]</problem>",
    "<think></think><code>```python\n" + "\n``" * 300_000 + "</code>",
    "<think></think><code>```python\n" + "\n```" * 250_000 + "</code>",
    "<think></think><code>```" + " " * 1_000_000 + "</code>",
    "x" * 50_000_000,
    None,
    42,
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("turn", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_turns_are_malformed_quickly(turn):
    code(turn)


plain = st.text(st.characters(codec="utf-8", exclude_characters="\0<"), max_size=40)
lines = plain.map(str.strip).filter(bool)
programs = st.text("ab \n'\"`#=([:", min_size=1, max_size=60).filter(
    lambda text: text.strip() and "\n```" not in f"\n{text}"
)
names = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0<'\\\r\n"), max_size=12), max_size=6)
calls = (
    lines.map(lambda query: ToolCall("Search", {"query": query}))
    | names.map(lambda problems: ToolCall("NameProblems", {"problems": problems}))
    | programs.map(lambda program: ToolCall("RunCode", {"code": program, "image": "img_0"}))
    | plain.map(Answer)
)


@given(calls, plain)
def test_what_is_rendered_reads_back(action, thought):
    action = type(action)(**{**vars(action), "thought": thought})
    assert ARFT.parse(ARFT.render(action, strict=True)) == action


pieces = st.sampled_from(
    ["<think>", "</think>", "<search>", "</search>", "<problem>", "</problem>", "<code>", "</code>", "<answer>"]
    + ["</answer>", "```python\n", "\n```", "['", "']", "', '", "[", "]", "a", " ", "\n", "<"]
)


@given(st.lists(pieces, max_size=14).map("".join) | st.text(max_size=60) | st.binary(max_size=60))
def test_anything_is_an_action_that_renders_without_an_error(turn):
    action = ARFT.parse(turn)
    assert isinstance(action, (ToolCall, Answer, Malformed))
    assert isinstance(ARFT.render(action), str)
    if not isinstance(action, Malformed):
        assert ARFT.parse(ARFT.render(action, strict=True)) == action


@pytest.mark.parametrize(
    "action",
    [
        Malformed("both", "message"),
        ToolCall("PhraseToPoint", {"images": ["img_0"], "phrase": "left dog"}),
        ToolCall("Answer", {"text": "a"}),
        ToolCall("Search", {}),
        ToolCall("Search", {"query": 3}),
        ToolCall("Search", {"query": " padded"}),
        ToolCall("Search", {"query": "a", "limit": 3}),
        ToolCall("Search", {"query": "</search>"}),
        ToolCall("Search", {"query": "<answer>"}),
        ToolCall("NameProblems", {"problems": "dark"}),
        ToolCall("NameProblems", {"problems": ['it\'s "so"']}),
        ToolCall("NameProblems", {"problems": ["dark\\"]}),
        ToolCall("NameProblems", {"problems": ["dark"] * 17}),
        ToolCall("RunCode", {"code": "x = 1", "image": "img_1"}),
        ToolCall("RunCode", {"code": "x = 1"}),
        ToolCall("RunCode", {"code": "x = '''\n```\n'''", "image": "img_0"}),
        ToolCall("RunCode", {"code": "print('</code>')", "image": "img_0"}),
        Answer("see </answer>"),
        Answer("a", thought="so </think> then"),
    ],
)
def test_what_the_dialect_cannot_express_is_refused_only_when_strict(action):
    with pytest.raises(InvalidData):
        ARFT.render(action, strict=True)
    assert isinstance(ARFT.render(action), str)


def test_a_reply_is_wrapped_as_information_and_ends_with_its_tag():
    assert ARFT.wrap_reply("Two towns.\n") == "<information>\nTwo towns.\n</information>"
    assert ARFT.wrap_reply("a </information> b").count("</information>") == 1
    assert [block["text"] for block in ARFT.wrap_blocks([{"type": "text", "text": "Two towns."}])] == [
        "<information>\nTwo towns.\n</information>"
    ]


def test_the_prompt_shows_forms_that_read_back_and_only_tools_that_can_be_called():
    specs = [ToolSpec(name, f"About {name}.", (Argument("a", "text", "A."),)) for name in ("Search", "RunCode", "Zoom")]
    prompt = ARFT.system_prompt(specs)
    assert "About Search." in prompt
    assert "About RunCode." in prompt
    assert "Zoom" not in prompt
    assert "<problem>" not in prompt
    for tag, kind in (("search", ToolCall), ("code", ToolCall), ("answer", Answer)):
        example = prompt[prompt.index(f"<{tag}>") : prompt.index(f"</{tag}>") + len(tag) + 3]
        assert isinstance(parse(example), kind)
    every = ARFT.describe_tools([ToolSpec("NameProblems", "About problems.", (Argument("a", "text", "A."),))])
    assert parse(every[every.index("<problem>") :]) == ToolCall(
        "NameProblems", {"problems": ["rotation90", "dark"]}, "why"
    )
    assert ARFT.describe_tools(specs[2:]) == ""


def test_it_is_a_dialect_like_the_others():
    assert parse_turn(think("<answer>a</answer>"), "arft") == Answer("a", "why")
    assert set(ARFT.stop) == {"</search>", "</problem>", "</code>", "</answer>"}
