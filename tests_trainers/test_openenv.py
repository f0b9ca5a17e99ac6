"""OpenEnv: its own server, really started, and its own client; whoever plays, it is the local environment's episode."""

import asyncio
import doctest
import json
import re
import runpy
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn
from openenv.cli._validation import validate_running_environment
from openenv.core import GenericEnvClient
from openenv.validation.parsers.openenv_yaml import OpenEnvYamlParser
from stubs import BrightExpert, BrokenExpert, SquareDataset
from websockets.asyncio.client import connect

import visenv.adapters.openenv as adapter
from visenv.adapters.making import Shared
from visenv.adapters.openenv import VisionAction, VisionClient, VisionEnvironment, make_app, manifest
from visenv.errors import EpisodeOver, InvalidData

ENV_ID = "VisHarness/RefSeg-v0"
ROOT = Path(__file__).resolve().parent.parent
EXAMPLE, PAGE = ROOT / "examples" / "openenv", ROOT / "docs" / "trainers" / "openenv.md"
CLIENTS = 16


@contextmanager
def serving(env_id=ENV_ID, **keywords):
    """The address of a server on a free port of this machine."""
    app = make_app(env_id, **{"split": "val", "experts": "oracle", **keywords})
    with listening(app) as address:
        yield address


@contextmanager
def listening(app):
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until(lambda: server.started)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def until(true, seconds=20.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "It took too long."
        time.sleep(0.02)


def local(**keywords):
    return Shared(
        ENV_ID,
        {
            "split": "val",
            "experts": "oracle",
            "obs": "features",
            "memory": "keep_all",
            "action_mode": "text",
            **keywords,
        },
    ).make()


def call(name, **arguments):
    return VisionAction(name=name, arguments=arguments)


FIND = call("PhraseToBoxMask", images=["img_0"], phrase="thing")
MERGE = call("MergeBoxMask", images=["img_0"])
ANSWER = call("Answer", text="There.")


def actions_of(number):
    """A plan of its own for each client: some good, some bad, of different lengths."""
    plan = [
        call("Nonsense"),
        call("SplitImageIntoPatches", patch_configs={"img_0": 200}),
        FIND,
        call("PhraseToBoxMask", images=["img_9"], phrase="thing"),
        MERGE,
    ]
    return [action for place, action in enumerate(plan) if number >> place & 1 or action in (FIND, MERGE)] + [ANSWER]


def played_locally(seed, actions, **keywords):
    """What each turn of an episode comes to, by the environment itself."""
    env = local(**keywords)
    _, info = env.reset(seed=seed)
    steps = [(None, False, False, env.episode.reply(), info)]
    for action in actions:
        turn = {"name": action.name, "arguments": action.arguments}
        _, reward, terminated, truncated, info = env.step(turn)
        steps.append((reward, terminated, truncated, env.episode.reply(), info))
    return steps


async def played(address, seed, actions):
    """The same by a client."""
    async with VisionClient(base_url=address) as client:
        results = [await client.reset(seed=seed)]
        for action in actions:
            results.append(await client.step(action))
        return results, await client.state()


def check_equal(results, steps):
    assert len(results) == len(steps)
    for result, (reward, terminated, truncated, blocks, info) in zip(results, steps, strict=True):
        seen = result.observation
        assert result.reward == seen.reward == reward
        assert (seen.terminated, seen.truncated, seen.done) == (terminated, truncated, terminated or truncated)
        assert result.done == seen.done
        assert seen.text == "".join(block["text"] for block in blocks if block["type"] == "text")
        pictures = [block["image"] for block in blocks if block["type"] == "image"]
        for one, other in zip(seen.pictures(), pictures, strict=True):
            np.testing.assert_array_equal(one, other)
        assert seen.info == json.loads(json.dumps(info))


def test_many_clients_play_at_once_what_the_local_environment_plays():
    plans = [actions_of(number) for number in range(CLIENTS)]

    async def play_all(address):
        return await asyncio.gather(*(played(address, seed, plan) for seed, plan in enumerate(plans)))

    with serving(sessions=CLIENTS) as address:
        all_played = asyncio.run(play_all(address))
    for seed, (plan, (results, state)) in enumerate(zip(plans, all_played, strict=True)):
        check_equal(results, played_locally(seed, plan))
        assert (state.step_count, state.env_id) == (len(plan), ENV_ID)
        assert state.sample_id == results[0].observation.info["sample_id"]
        assert [tool["function"]["name"] for tool in state.tools][-2:] == ["MergeBoxMask", "Answer"]
    assert {results[-1].reward for results, _ in all_played} == {5.0}
    assert len({results[0].observation.info["sample_id"] for results, _ in all_played}) > CLIENTS / 2


def test_what_clients_ask_at_once_is_one_batch_of_one_pool():
    expert = BrightExpert()
    factory = VisionEnvironment.factory(ENV_ID, dataset=SquareDataset(), experts=expert)

    async def play():
        sessions = [factory() for _ in range(3)]
        for index, session in enumerate(sessions):
            await session.reset_async(index=index)
        seen = await asyncio.gather(*(session.step_async(FIND) for session in sessions))
        for session in sessions:
            session.close()
        return seen

    assert all("1 box with a mask" in each.text for each in asyncio.run(play()))
    assert expert.batches == [3]


BAD = [
    {},
    {"name": None, "arguments": None},
    {"name": 3},
    {"name": "MergeBoxMask", "arguments": [1]},
    {"name": "MergeBoxMask", "arguments": {"images": "img_0"}},
    {"name": "PhraseToBoxMask", "arguments": {"images": ["img_7"], "phrase": "x"}},
    {"name": "x" * 10_000},
    {"nme": "MergeBoxMask"},
    {"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}, "text": "both"},
    {"text": 7},
    {"text": "no tool is called here"},
    {"text": "<think>a</think><answer>none</answer>", "finish_reason": "length"},
]


def test_bad_actions_are_turns():
    async def play(address):
        async with VisionClient(base_url=address) as client:
            await client.reset(index=0)
            return [await client.step(action) for action in BAD]

    with serving(max_turns=len(BAD) + 1) as address:
        results = asyncio.run(play(address))
    assert [result.observation.info["turn"] for result in results] == list(range(1, len(BAD) + 1))
    assert all(result.observation.info["error"] for result in results)
    assert all("Error" in result.observation.text for result in results)
    assert not any(result.done for result in results)


def test_a_raw_turn_is_read_in_the_dialect():
    found = (
        '<think>Look.</think>\n<tool_call>\n{"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}}\n</tool_call>'
    )

    async def play(address):
        async with VisionClient(base_url=address) as client:
            await client.reset(index=0)
            return [
                await client.step(VisionAction(text=text)) for text in (found, "<think>a</think><answer>b</answer>")
            ]

    with serving() as address:
        first, last = asyncio.run(play(address))
    assert first.observation.info["tool"] == "MergeBoxMask"
    assert last.observation.info["termination"] == "answer"


def test_an_expert_that_fails_truncates_and_does_not_terminate():
    with serving(dataset=SquareDataset(), experts=BrokenExpert(), split="train") as address:
        plan = [call("PhraseToBoxMask", images=["img_0"], phrase="fail")]
        (_, last), _ = asyncio.run(played(address, 0, plan))
    seen = last.observation
    assert (seen.terminated, seen.truncated, last.done, last.reward) == (False, True, True, 0.0)
    assert seen.info["invalid"]


def test_sessions_are_bounded_and_one_that_goes_away_makes_room():
    async def refused(address):
        async with VisionClient(base_url=address) as client:
            await client.reset(index=0)

    async def play(address):
        kept = VisionClient(base_url=address)
        async with kept:
            await kept.reset(index=0)
            async with connect(address.replace("http", "ws") + "/ws") as rude:
                await rude.send(json.dumps({"type": "reset", "data": {"index": 1}}))
                await rude.recv()
                with pytest.raises(RuntimeError, match=r"at capacity: 2/2 sessions.*CAPACITY_REACHED"):
                    await refused(address)
                # No goodbye: the connection is gone, as when a process is killed.
                rude.transport.abort()
            for _ in range(100):
                try:
                    await refused(address)
                    break
                except RuntimeError:
                    await asyncio.sleep(0.05)
            else:
                pytest.fail("The session of a client that went away was never given to another.")
            return await kept.step(FIND)

    with serving(sessions=2) as address:
        assert asyncio.run(play(address)).observation.info["turn"] == 1


def test_a_session_that_says_nothing_is_given_to_others():
    async def play(address):
        async with VisionClient(base_url=address) as silent:
            await silent.reset(index=0)
            await asyncio.sleep(6)
            async with VisionClient(base_url=address) as other:
                await other.reset(index=1)
            with pytest.raises(RuntimeError, match="session was closed"):
                await silent.step(FIND)

    # OpenEnv looks every five seconds.
    with serving(sessions=1, idle=0.5) as address:
        asyncio.run(play(address))


def test_the_server_passes_openenvs_own_validation_and_leaves_no_thread_behind():
    with serving() as address:
        report = validate_running_environment(address)
    assert (report["passed"], report["summary"]["failed_criteria"]) == (True, [])
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("visenv")]


def test_the_server_says_what_was_wrong_with_a_request():
    cases = {
        "reset": [
            ({"index": -1}, "whole number"),
            ({"index": "x"}, "whole number"),
            ({"seed": -1}, "seed"),
            ({"sample_id": "nowhere"}, "nowhere"),
            ({"index": 1, "sample_id": "x"}, "options"),
            ({"sead": 1}, "sead"),
            ({"episode_id": 3}, "episode_id"),
        ]
    }

    async def play(address):
        said = []
        async with VisionClient(base_url=address) as client:
            with pytest.raises(RuntimeError, match="call reset"):
                await client.step(FIND)
            for arguments, _ in cases["reset"]:
                with pytest.raises(RuntimeError) as raised:
                    await client.reset(**arguments)
                said.append(str(raised.value))
            await client.reset(index=0, episode_id="mine")
            state = await client.state()
            await client.step(ANSWER)
            with pytest.raises(RuntimeError, match="ended"):
                await client.step(FIND)
            return said, state

    with serving() as address:
        said, state = asyncio.run(play(address))
    assert [words in text for (_, words), text in zip(cases["reset"], said, strict=True)] == [True] * len(said), said
    assert state.episode_id == "mine"


def test_the_generic_client_and_the_schemas_know_the_same_members():
    async def play(address):
        async with GenericEnvClient(base_url=address) as client:
            await client.reset(index=0)
            return await client.step({"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}})

    with serving() as address:
        result = asyncio.run(play(address))
        schema = httpx.get(f"{address}/schema").json()
        metadata = httpx.get(f"{address}/metadata").json()
        tasks = f"{address}/RefSeg-v0"
        splits = httpx.get(f"{tasks}/splits").json()
        number = httpx.post(f"{tasks}/num_tasks", json={"split": "val"}).json()
        some = httpx.post(f"{tasks}/task_range", json={"split": "val", "start": 1, "stop": 3}).json()["tasks"]
        one = httpx.post(f"{tasks}/task", json={"split": "val", "index": 2}).json()["task"]
        wrong = [
            httpx.post(f"{tasks}/task", json={"split": split, "index": index}).status_code
            for split, index in (("val", -1), ("val", 10**6), ("train", 0))
        ]
    assert result.observation["terminated"] is False
    assert set(schema["action"]["properties"]) == {"name", "arguments", "text", "finish_reason", "metadata"}
    assert {"terminated", "truncated", "content", "info"} <= set(schema["observation"]["properties"])
    assert metadata["name"] == ENV_ID
    assert splits == [{"name": "val", "type": "validation"}]
    assert number == {"num_tasks": 500}
    assert [task["index"] for task in some] == [1, 2]
    assert some[1] == one == {"id": local().dataset.get(2).sample_id, "index": 2, "query": local().dataset.get(2).query}
    assert wrong == [400, 400, 400]


def test_without_a_server_the_environment_plays_the_same():
    factory = VisionEnvironment.factory(ENV_ID, split="val", experts="oracle", image_format="jpeg")
    env = factory()
    seen = [env.reset(seed=3), *(env.step(action) for action in actions_of(31))]
    steps = played_locally(3, actions_of(31))
    assert [each.reward for each in seen] == [step[0] for step in steps]
    assert [each.info for each in seen] == [step[4] for step in steps]
    assert seen[0].content[-1]["image_url"]["url"].startswith("data:image/jpeg")
    env.close()
    with pytest.raises(EpisodeOver, match="closed"):
        env.step(FIND)


def test_the_manifest_is_read_by_openenv_and_is_the_examples_own(tmp_path):
    (tmp_path / "openenv.yaml").write_text(manifest(ENV_ID, split="val"))
    parsed = OpenEnvYamlParser().parse(tmp_path)
    assert parsed.reward.range == (-3.0, 5.0)
    assert parsed.capabilities.declared_task_count == {"val": 500}
    written = OpenEnvYamlParser().parse(EXAMPLE)
    assert written == OpenEnvYamlParser().parse(tmp_path)


@pytest.mark.parametrize(
    ("keywords", "says"),
    [({"sessions": 0}, "sessions"), ({"idle": 0}, "idle"), ({"image_format": "gif"}, "image format")],
)
def test_a_wrong_setting_is_refused(keywords, says):
    with pytest.raises(InvalidData, match=says):
        make_app(ENV_ID, **keywords)


def test_the_example_runs(monkeypatch, capsys):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    # The server is started by a process of its own, as a user starts it, in the folder of the package.
    command = [sys.executable, "-m", "uvicorn", "server.app:app", "--port", port, "--log-level", "warning"]
    server = subprocess.Popen(command, cwd=EXAMPLE)
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}/health"), 120)
        monkeypatch.setattr(sys, "argv", ["play.py", f"http://127.0.0.1:{port}"])
        runpy.run_path(str(EXAMPLE / "play.py"), run_name="__main__")
        assert capsys.readouterr().out.splitlines()[-1] == "16 episodes at once, mean reward 5.0"
    finally:
        server.terminate()
        server.wait(20)


def test_the_page_prints_what_it_says(capsys):
    code, says = re.findall(r"```(?:python notest|text)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    with serving(sessions=64) as address:
        exec(compile(code.replace("http://127.0.0.1:8000", address), str(PAGE), "exec"), {})
    assert capsys.readouterr().out == says
    assert len([line for line in code.splitlines() if line]) < 15


def answers(url):
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def test_the_command_line_writes_the_manifest(tmp_path, monkeypatch):
    file = tmp_path / "openenv.yaml"
    monkeypatch.setattr(sys, "argv", ["openenv", ENV_ID, "--split", "val", "--manifest", str(file)])
    runpy.run_module("visenv.adapters.openenv", run_name="__main__")
    assert file.read_text() == manifest(ENV_ID, split="val")


def test_the_examples_of_the_docstrings_run():
    assert doctest.testmod(adapter).attempted > 5
    assert doctest.testmod(adapter).failed == 0
