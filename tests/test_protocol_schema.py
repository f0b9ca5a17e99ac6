"""Tool specifications as JSON Schema: valid schemas that accept what the tools take and nothing else."""

import jsonschema
import pytest

from visenv.protocol import json_schema, openai_tools
from visenv.protocol.schema import ANSWER_TOOL
from visenv.types import Argument, ToolSpec

SPEC = ToolSpec(
    "Everything",
    "Takes one of each.",
    (
        Argument("images", "images", "Names."),
        Argument("image", "image", "A name."),
        Argument("phrase", "phrase", "What to find."),
        Argument("note", "text", "Anything."),
        Argument("mode", "choice", "Which.", choices=("confidence", "area")),
        Argument("patch_configs", "patch_sizes", "Sides.", low=2, high=2048),
        Argument("times", "integer", "How often.", low=1, high=3),
        Argument("point", "point", "Where."),
        Argument("box", "box", "Where."),
    ),
)
GOOD = {
    "images": ["img_0", "img_1"],
    "image": "img_0",
    "phrase": "left dog",
    "note": "",
    "mode": "area",
    "patch_configs": {"img_0": 512},
    "times": 3,
    "point": [1, 2.5],
    "box": [0, 0, 5, 5],
}


def accepts(arguments):
    return jsonschema.Draft202012Validator(json_schema(SPEC)).is_valid(arguments)


def test_the_schema_is_valid_and_takes_a_good_call():
    jsonschema.Draft202012Validator.check_schema(json_schema(SPEC))
    assert accepts(GOOD)


@pytest.mark.parametrize(
    "change",
    [
        {"images": []},
        {"images": "img_0"},
        {"images": ["img_0", "img_0"]},
        {"image": ""},
        {"image": 0},
        {"phrase": ""},
        {"phrase": "x" * 5000},
        {"note": None},
        {"mode": "best"},
        {"patch_configs": {}},
        {"patch_configs": {"img_0": 1}},
        {"patch_configs": {"img_0": "512"}},
        {"times": 4},
        {"times": 1.5},
        {"point": [1]},
        {"point": ["a", "b"]},
        {"box": [1, 2, 3]},
        {"other": 1},
    ],
)
def test_the_schema_refuses_a_bad_argument(change):
    assert not accepts({**GOOD, **change})


@pytest.mark.parametrize("missing", list(GOOD))
def test_every_argument_is_required(missing):
    assert not accepts({key: value for key, value in GOOD.items() if key != missing})


def test_the_tool_list_has_the_form_of_a_request():
    first, second = openai_tools([SPEC, ANSWER_TOOL])
    assert first == {
        "type": "function",
        "function": {"name": "Everything", "description": "Takes one of each.", "parameters": json_schema(SPEC)},
    }
    assert second["function"]["name"] == "Answer"
    assert first["function"]["parameters"]["properties"]["mode"] == {
        "type": "string",
        "enum": ["confidence", "area"],
        "description": "Which.",
    }
