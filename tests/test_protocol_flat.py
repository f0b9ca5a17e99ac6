"""Tools in flat form: nothing nested, nothing lost."""

import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visenv.errors import InvalidData
from visenv.protocol.flat import flat_schema, flat_tools, from_flat, to_flat
from visenv.protocol.schema import ANSWER_TOOL
from visenv.tools.toolsets import make_toolset
from visenv.types import Argument, ToolSpec

SPECS = [tool.spec for tool in make_toolset("full").values()] + [ANSWER_TOOL]
EVERY = ToolSpec(
    "Every",
    "Takes everything.",
    (
        Argument("names", "images", "Some images."),
        Argument("one", "image", "An image."),
        Argument("words", "phrase", "Some words."),
        Argument("note", "text", "A note."),
        Argument("mode", "choice", "How.", choices=("near", "far")),
        Argument("sizes", "patch_sizes", "Sizes.", low=16, high=512),
        Argument("count", "integer", "How many.", low=1, high=9),
        Argument("at", "point", "Where."),
        Argument("area", "box", "Around what."),
        Argument("ways", "choices", "Which ways.", choices=("up", "down")),
        Argument("on", "points", "What is meant, and what is not."),
        Argument("best", "candidate", "The best one."),
        Argument("good", "candidates", "Good ones."),
    ),
)
NAMES = st.from_regex(r"img_\d(_r\d_c\d)?(_4x)?", fullmatch=True)
NUMBERS = st.one_of(st.integers(-5000, 5000), st.floats(-5000, 5000).map(lambda number: round(number, 4)))
ARGUMENTS = st.fixed_dictionaries(
    {
        "names": st.lists(NAMES, min_size=1, max_size=5),
        "one": NAMES,
        "words": st.text(max_size=40),
        "note": st.text(max_size=40),
        "mode": st.sampled_from(("near", "far")),
        "sizes": st.dictionaries(NAMES, st.integers(16, 512), min_size=1, max_size=3),
        "count": st.integers(1, 9),
        "at": st.lists(NUMBERS, min_size=2, max_size=2),
        "area": st.lists(NUMBERS, min_size=4, max_size=4),
        "ways": st.lists(st.sampled_from(("up", "down")), min_size=1, max_size=2),
        "on": st.lists(st.tuples(NUMBERS, NUMBERS, st.integers(0, 1)).map(list), min_size=1, max_size=4),
        "best": NAMES,
        "good": st.lists(NAMES, min_size=1, max_size=3),
    }
)


@pytest.mark.parametrize("spec", [*SPECS, EVERY], ids=lambda spec: spec.name)
def test_nothing_is_nested(spec):
    schema = flat_schema(spec)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["required"] == list(schema["properties"])
    for described in schema["properties"].values():
        assert described["type"] in ("string", "integer", "number")
        assert set(described) <= {"type", "description", "enum"}


@given(ARGUMENTS)
def test_a_flat_call_reads_back(arguments):
    flat = to_flat(EVERY, arguments)
    jsonschema.validate(flat, flat_schema(EVERY))
    assert from_flat(EVERY, json.loads(json.dumps(flat))) == arguments
    assert from_flat(EVERY, arguments) == arguments, "The nested form is taken as well."


def test_what_models_write_beside_the_rules_is_read():
    assert from_flat(EVERY, {"names": '["img_0", "img_1"]'}) == {"names": ["img_0", "img_1"]}
    assert from_flat(EVERY, {"sizes": '{"img_0": 320}', "count": "3"}) == {"sizes": {"img_0": 320}, "count": 3}
    assert from_flat(EVERY, {"on": "[[1, 2, 1], [3, 4, 0]]"}) == {"on": [[1, 2, 1], [3, 4, 0]]}
    assert from_flat(EVERY, {"at_x": "1.5", "at_y": "-2"}) == {"at": [1.5, -2]}


def test_what_cannot_be_read_is_left_for_the_tool_to_say():
    assert from_flat(EVERY, {"sizes": "img_0", "count": "many"}) == {"sizes": "img_0", "count": "many"}
    assert from_flat(EVERY, {"on": "1 left 0"}) == {"on": [[1, "left", 0]]}
    assert from_flat(EVERY, {"at_x": 1, "nonsense": [2]}) == {"nonsense": [2]}
    assert from_flat(EVERY, {"at_x": "left", "at_y": True}) == {"at": ["left", True]}
    assert from_flat(EVERY, {"names": 7, "sizes": {"img_0": 64}}) == {"names": 7, "sizes": {"img_0": 64}}


@given(st.dictionaries(st.sampled_from([*flat_schema(EVERY)["properties"], "at", "x"]), st.text(max_size=30)))
def test_any_text_is_read_without_an_error(arguments):
    assert isinstance(from_flat(EVERY, arguments), dict)


def test_the_bounds_are_said_in_words():
    properties = flat_schema(EVERY)["properties"]
    assert properties["count"]["description"] == "How many. From 1 to 9."
    assert properties["sizes"]["description"] == "Sizes. As NAME=SIZE, separated by commas; sizes from 16 to 512."


def test_names_that_clash_are_refused():
    spec = ToolSpec("Clash", "x", (Argument("at", "point", "Where."), Argument("at_x", "integer", "x")))
    with pytest.raises(InvalidData, match="at_x, at_y, at_x"):
        flat_tools([spec])
