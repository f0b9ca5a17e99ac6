"""MCP: the official client lists and calls the tools of an episode, and pictures come back."""

import asyncio
import base64
import json
import sys

import numpy as np
import pytest
from mcp import Client, StdioServerParameters
from stubs import BrightExpert, BrokenExpert, SquareDataset

from visenv.adapters.making import make_env
from visenv.adapters.mcp import EpisodeServer
from visenv.errors import InvalidData
from visenv.images import load_image

ENV_ID = "VisHarness/RefSeg-v0"


def make(**keywords):
    return EpisodeServer(ENV_ID, **{"dataset": SquareDataset(), "experts": BrightExpert(), "seed": 0, **keywords})


def played(server, calls):
    """The results of some calls, by the official client."""

    async def play():
        async with Client(server) as client:
            listed = await client.list_tools()
            return listed.tools, [await client.call_tool(name, arguments) for name, arguments in calls]

    return asyncio.run(asyncio.wait_for(play(), 60))


def text(result):
    return "".join(part.text for part in result.content if part.type == "text")


FIND = ("PhraseToBoxMask", {"images": ["img_0"], "phrase": "square"})
MERGE = ("MergeBoxMask", {"images": ["img_0"]})
ANSWER = ("Answer", {"text": "There."})


def test_the_client_plays_an_episode(tmp_path):
    served = make(record=tmp_path / "episodes.jsonl")
    tools, results = played(served.server, [("Begin", {}), FIND, MERGE, ANSWER, FIND])
    assert [tool.name for tool in tools] == ["Begin", *(spec.name for spec in served.env.specs), "Answer"]
    assert tools[1].input_schema["required"] == ["images", "phrase"]
    begun, found, merged, answered, late = results
    assert "bright square" in text(begun)
    picture = next(part for part in begun.content if part.type == "image")
    assert picture.mime_type == "image/png"
    np.testing.assert_array_equal(load_image(base64.b64decode(picture.data)), served.env.episode.workspace.root.pixels)
    assert any(part.type == "image" for part in found.content)
    assert "1 object" in text(merged)
    assert "ended: answer" in text(answered)
    assert not any(result.is_error for result in results[:4])
    assert late.is_error
    assert "call Begin" in text(late)
    (line,) = [json.loads(line) for line in (tmp_path / "episodes.jsonl").read_text().splitlines()]
    assert (line["reward"], line["termination"], line["turn"]) == (5.0, "answer", 3)


def test_faults_are_said_and_are_turns():
    served = make()
    wrong = [FIND, ("Begin", {}), ("Nonsense", {}), ("PhraseToBoxMask", {"images": 3}), ("PhraseToBoxMask", {})]
    _, results = played(served.server, wrong)
    assert [result.is_error for result in results] == [True, False, True, True, True]
    assert "no tool" in text(results[2])
    assert served.env.episode.turns == 3


def test_an_expert_that_fails_ends_the_episode_as_invalid(tmp_path):
    served = make(experts=BrokenExpert(), record=tmp_path / "episodes.jsonl")
    _, results = played(served.server, [("Begin", {}), ("PhraseToBoxMask", {"images": ["img_0"], "phrase": "fail"})])
    assert "not available" in text(results[1])
    (line,) = [json.loads(line) for line in (tmp_path / "episodes.jsonl").read_text().splitlines()]
    assert line["invalid"]


def test_a_program_serves_on_standard_input_and_output(tmp_path):
    program = ["-m", "visenv.adapters.mcp", ENV_ID, "--experts", "oracle", "--record", str(tmp_path / "record")]
    phrase = ("PhraseToBoxMask", {"images": ["img_0"], "phrase": "thing"})
    _, results = played(
        StdioServerParameters(command=sys.executable, args=program), [("Begin", {}), phrase, MERGE, ANSWER]
    )
    assert "ended: answer" in text(results[-1])
    assert json.loads((tmp_path / "record").read_text())["metrics"]["gIoU"] == 1.0


def test_another_environment_is_refused():
    with pytest.raises(InvalidData, match="Expected an environment of visenv"):
        make_env("CartPole-v1", {})
