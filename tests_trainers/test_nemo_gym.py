"""NeMo-Gym: its servers, agents and collection of rollouts play the environments, over HTTP."""

import asyncio
import base64
import json
import os
import shutil
import subprocess
import sys
import time
from unittest.mock import MagicMock

import cv2
import gymnasium as gym
import nemo_gym.global_config
import numpy as np
import pytest
import requests
from fastapi.testclient import TestClient
from nemo_gym.openai_utils import NeMoGymResponseCreateParamsNonStreaming
from nemo_gym.server_utils import ServerClient
from nemo_parts import AGENTS, EXAMPLE, collect, configure, response, running
from omegaconf import OmegaConf
from pages import failures_of
from stubs import BrightExpert, SquareDataset

from visenv.adapters.nemo_gym import FINISHED, VisionServer, VisionServerConfig, to_rows
from visenv.registration import experts

ENV_ID = "VisHarness/RefSeg-v0"
FIND = ("PhraseToBoxMask", {"images": ["img_0"], "phrase": "thing"})
FAIL = ("PhraseToBoxMask", {"images": ["img_0"], "phrase": "fail"})
SPLIT = ("SplitImageIntoPatches", {"patch_configs": {"img_0": 128}})
MERGE = ("MergeBoxMask", {"images": ["img_0"]})
ANSWER = "Here it is."
PLAYED = [FIND, ("Fly", {}), SPLIT, MERGE, ANSWER]


def message(item):
    """What the model answered, as the dialect of the environment has it."""
    if isinstance(item, str):
        return item
    function = {"name": item[0], "arguments": json.dumps(item[1])}
    return {"role": "assistant", "tool_calls": [{"id": "c0", "type": "function", "function": function}]}


def local(index, script, **keywords):
    """The environment after the same actions, and what it has paid."""
    settings = {"action_mode": "text", "dialect": "openai", "memory": "keep_all"}
    env = gym.make(ENV_ID, **{**settings, **keywords}).unwrapped
    env.reset(options={"index": index})
    return env, sum(env.step(message(item))[1] for item in script)


def client(expert=BrightExpert, **settings):
    """NeMo-Gym's own way to test a server: without a network."""
    env = {"dataset": SquareDataset(), "experts": expert(), **settings.pop("env", {})}
    config = VisionServerConfig(host="", port=0, entrypoint="", name="", env_id=ENV_ID, env=env, **settings)
    return TestClient(VisionServer(config=config, server_client=MagicMock(spec=ServerClient)).setup_webserver())


def row(**fields):
    return {"responses_create_params": {"input": "x"}, **fields}


def step(server, *items, **fields):
    answer = server.post("/step", json=row(response={**response(*items), **fields}))
    assert answer.status_code == 200, answer.text
    return answer.json()


def pictures(items):
    parts = [part for item in items if isinstance(item.get("content"), list) for part in item["content"]]
    urls = [part["image_url"] for part in parts if part["type"] == "input_image"]
    data = [np.frombuffer(base64.b64decode(url.removeprefix("data:image/png;base64,")), np.uint8) for url in urls]
    return [cv2.cvtColor(cv2.imdecode(one, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB) for one in data]


def test_its_own_collection_of_rollouts_comes_to_what_the_local_environment_comes_to(tmp_path):
    """Three agents, four samples, two rollouts each, all at once over HTTP, on one pool of experts."""
    env = {"dataset": "scenes", "split": "val", "experts": "oracle"}
    configure({"env_id": ENV_ID, "env": env})

    async def play():
        async with running(PLAYED) as (served, model):
            rows = [row for agent in AGENTS for row in to_rows(ENV_ID, agent=agent, size=4, **env)]
            return await collect(rows, tmp_path, repeats=2), served, model

    (results, averages), served, model = asyncio.run(play())
    assert len(results) == 24
    expected = {}
    for index in range(4):
        one, paid = local(index, PLAYED, **env)
        expected[one.episode.sample_id] = (paid, json.loads(json.dumps(one.info())), one.episode.pictures())
    for result in results:
        paid, info, shown = expected[result["info"]["sample_id"]]
        assert (result["reward"], result["terminated"], result["truncated"]) == (paid, True, False)
        assert result["info"] == info
        output = result["response"]["output"]
        assert [item["name"] for item in output if item["type"] == "function_call"] == [name for name, _ in PLAYED[:-1]]
        replies = [item["output"] for item in output if item["type"] == "function_call_output"]
        assert len(replies) == 4
        assert "unknown_tool" in replies[1]
        seen = pictures([*result["responses_create_params"]["input"], *output])
        with_pictures = result["agent_ref"]["name"] == "visenv_agent"
        assert len(seen) == (len(shown) if with_pictures else 1)
        for one, picture in zip(seen, shown, strict=False):
            assert np.array_equal(one, picture.picture.pixels)
    assert max(model.pictures) == len(shown) == 7, "The model was shown all pictures of the split."
    counters = served._kind.first.pool.counters
    assert counters.requests == 24
    assert counters.batches <= 4, "What one rollout was answered, others of its sample get from the pool."
    assert [session.came_to for session in served.session_state.values()].count(None) == 0
    assert len(served.session_state) == 8, "Those of the other agents are over with their last step."
    assert {one["agent_ref"]["name"] for one in averages} == set(AGENTS)
    for one in averages:
        assert one["key_metrics"]["mean/gIoU"] == 1.0
        assert one["key_metrics"]["mean/reward"] == 5.0
        assert one["key_metrics"]["mean/invalid"] == one["key_metrics"]["mean/unfinished"] == 0.0


def test_invalid_rollouts_are_kept_apart(tmp_path):
    """Those of NeMo-Gym's own ``gymnasium_agent``, which drops the mark, are flagged in their ``info``."""
    experts.register("broken-for-nemo-gym", "nemo_parts:broken")
    env = {"dataset": "scenes", "split": "val", "experts": "broken-for-nemo-gym"}
    configure({"env_id": ENV_ID, "env": env})

    async def play():
        async with running([FIND, FAIL]):
            rows = [row for agent in AGENTS for row in to_rows(ENV_ID, agent=agent, size=1, **env)]
            return await collect(rows, tmp_path, repeats=1)

    results, averages = asyncio.run(play())
    failures = [json.loads(line) for line in (tmp_path / "rollouts_failures.jsonl").read_text().splitlines()]
    assert {one["agent_ref"]["name"] for one in failures} == {"visenv_agent", "visenv_simple_agent"}
    assert [one["agent_ref"]["name"] for one in results] == ["visenv_gymnasium_agent"]
    for one in [*failures, *results]:
        assert (one["reward"], one["truncated"]) == (0.0, True)
        assert "no more memory" in one["info"]["invalid"]
    assert all(one["agent_metrics"]["mean/invalid"] == 1.0 for one in averages)


def test_a_tool_is_an_endpoint_and_a_bad_call_is_a_turn():
    server = client()
    assert server.post("/seed_session", json=row(index=1)).status_code == 200
    assert "1 box with a mask" in server.post("/PhraseToBoxMask", json=FIND[1]).text
    assert "Turns left: 8" in server.post("/Fly", json={}).text
    assert "bad_json" in server.post("/MergeBoxMask", content=b"{\xff").text
    assert "Error" in server.post("/MergeBoxMask", json=["img_0"]).text
    assert "Error" in server.post("/MergeBoxMask", json={"images": ["img_7"]}).text
    assert "Merged:" in server.post("/MergeBoxMask", json=MERGE[1]).text
    assert "ended: answer" in server.post("/Answer", json={"text": ANSWER}).text
    assert server.post("/MergeBoxMask", json=MERGE[1]).text == FINISHED
    came = server.post("/verify", json=row(index=1, response=response("And so on."))).json()
    assert (came["reward"], came["terminated"], came["info"]["sample_id"]) == (5.0, True, "squares/1")
    assert came["info"]["outcome"]["answer"] == ANSWER, "What was said after the end changes nothing."
    again = server.post("/verify", json=row(response=response("so"), info="of the row")).json()
    assert (again["reward"], again["info"]) == (5.0, came["info"]), "It comes to the same however often that is asked."
    assert server.post("/MergeBoxMask", json=MERGE[1]).text == FINISHED


def test_a_model_cannot_begin_its_episode_again_or_choose_another():
    server = client()
    server.post("/seed_session", json=row(index=1))
    for endpoint in ("/seed_session", "/reset"):
        assert server.post(endpoint, json=row(index=0)).status_code == 409
    for name in ("a/b", "step/", "Fly?x=1", "%00"):
        assert "unknown_tool" in server.post(f"/{name}", json={}).text
    came = server.post("/verify", json=row(response=response("So."))).json()
    assert (came["info"]["sample_id"], came["info"]["turn"]) == ("squares/1", 5)
    assert server.post("/seed_session", json=row(index=0)).status_code == 409


@pytest.mark.parametrize(
    ("items", "termination"), [(["It is there."], "answer"), ([FIND], "max_turns"), (["So.", FIND], "max_turns")]
)
def test_the_last_text_is_the_answer_and_silence_is_none(items, termination):
    server = client()
    server.post("/seed_session", json=row(index=0))
    server.post("/PhraseToBoxMask", json=FIND[1])
    server.post("/MergeBoxMask", json=MERGE[1])
    came = server.post("/verify", json=row(response=response(*items))).json()
    assert (came["info"]["termination"], came["reward"]) == (termination, 5.0)


def test_episodes_of_the_gymnasium_agent_take_texts_and_calls():
    server = client(env={"max_turns": 8})
    came = server.post("/reset", json=row(index=0)).json()
    assert (came["observation"], came["info"]["sample_id"]) == (None, "squares/0")
    assert server.post("/reset", json=row()).json()["observation"].startswith("Task: the bright square")
    came = step(server, FIND)
    assert came["observation"] is None
    assert "1 box with a mask" in came["info"]["tool_outputs"][0]["output"]
    came = step(server, FIND, MERGE)
    assert came["info"]["error"]["code"] == "two_calls"
    assert [one["call_id"] for one in came["info"]["tool_outputs"]] == ["c0", "c1"], "Every call is answered."
    assert step(server, ("MergeBoxMask", '{"images": '))["info"]["error"]["code"] == "bad_json"
    came = step(server, MERGE, incomplete_details={"reason": "max_output_tokens"})
    assert came["info"]["error"]["code"] == "cut"
    step(server, MERGE)
    came = step(server, ANSWER)
    assert (came["reward"], came["terminated"]) == (5.0, True)
    assert server.post("/step", json=row(response=response(ANSWER))).status_code == 409


def test_calls_and_texts_of_other_dialects_are_read():
    server = client(env={"dialect": "qwen3_vl"})
    server.post("/reset", json=row(index=0))
    found = step(server, FIND)["info"]["tool_outputs"][0]["output"]
    assert "x and y from 0 to 1000" in found
    text = '<think>So.</think><tool_call>{"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}}</tool_call>'
    assert step(server, text)["observation"].startswith("<tool_response>\nMerged:")
    assert step(server, FIND, MERGE)["info"]["error"]["code"] == "two_calls"
    assert step(server, "<think>So.</think><answer>Here.</answer>")["reward"] == 5.0


def test_samples_are_drawn_from_the_servers_seed():
    def drawn(seed):
        server = client(seed=seed)
        return [server.post("/reset", json=row()).json()["info"]["sample_id"] for _ in range(8)]

    assert drawn(3) == drawn(3)
    assert len(set(drawn(3))) > 1
    server = client()
    assert len({server.post("/reset", json=row(seed=1)).json()["info"]["sample_id"] for _ in range(4)}) == 1


def test_sessions_are_apart_and_the_longest_unused_is_forgotten():
    server = client(max_sessions=2)
    cookies = []
    for index in range(3):
        server.cookies.clear()
        cookies.append(dict(server.post("/seed_session", json=row(index=index)).cookies))
        server.cookies.clear()
        if index:
            server.cookies.update(cookies[0])
            kept = server.post("/PhraseToBoxMask", json=FIND[1])
            assert "Turns left: 9" in kept.text or "Turns left: 8" in kept.text
    codes = []
    for cookie in cookies:
        server.cookies.clear()
        server.cookies.update(cookie)
        codes.append(server.post("/verify", json=row(response=response(ANSWER))).status_code)
    assert codes == [200, 409, 200]


def test_rows_hold_the_task_with_its_picture_and_the_tools():
    rows = to_rows(ENV_ID, agent="visenv_agent", dataset=SquareDataset(), experts=BrightExpert())
    assert [row["sample_id"] for row in rows] == ["squares/0", "squares/1", "squares/2"]
    prompt = NeMoGymResponseCreateParamsNonStreaming.model_validate(rows[1]["responses_create_params"])
    assert [item.role for item in prompt.input] == ["system", "user"]
    (picture,) = pictures(item.model_dump() for item in prompt.input)
    assert np.array_equal(picture, SquareDataset().get(1).images[0])
    assert prompt.tools[0]["name"] == "PhraseToBoxMask"
    assert prompt.tools[0]["parameters"]["required"] == ["images", "phrase"]
    keywords = {"dataset": SquareDataset(), "experts": BrightExpert(), "dialect": "qwen3_vl"}
    (only,) = to_rows(ENV_ID, agent="a", size=1, tools=False, **keywords)
    assert only["responses_create_params"]["tools"] == []
    assert "PhraseToBoxMask" in only["responses_create_params"]["input"][0]["content"][0]["text"]


def test_misuse_is_said():
    # Pydantic makes an error of its own of it.
    with pytest.raises(ValueError, match="num_workers of 1"):
        client(num_workers=2)
    server = client()
    assert "begin one" in server.post("/PhraseToBoxMask", json={}).json()["detail"]
    refused = server.post("/reset", json=row(index=7))
    assert (refused.status_code, "from 0 to 2" in refused.json()["detail"]) == (422, True)
    refused = server.post("/seed_session", json=row(seed="new"))
    assert (refused.status_code, "Expected a seed" in refused.json()["detail"]) == (422, True)


def test_the_example_is_started_as_nemo_gym_starts_it(tmp_path):
    """As ``gym env start`` does: a process of its own, told of the whole configuration by its environment.

    Only the Ray cluster is left out that NeMo-Gym has every server join: this one does not use it.
    """
    config = configure({"env": {"experts": "oracle"}})
    folder = shutil.copytree(EXAMPLE / "resources_servers" / "visenv", tmp_path / "visenv")
    environment = {**os.environ, "NEMO_GYM_CONFIG_DICT": OmegaConf.to_yaml(config), "NEMO_GYM_CONFIG_PATH": "visenv"}
    without_ray = "import nemo_gym.server_utils as utils, runpy; utils.initialize_ray = print"
    code = f"{without_ray}; runpy.run_path('server.py', run_name='__main__')"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=environment)
    try:
        served = nemo_gym.global_config.get_first_server_config_dict(config, "visenv")
        url = f"http://{served.host}:{served.port}"
        deadline = time.monotonic() + 240
        while True:
            assert process.poll() is None
            assert time.monotonic() < deadline
            try:
                requests.get(url, timeout=5)
                break
            except requests.ConnectionError:
                time.sleep(0.2)
        with requests.Session() as session:
            assert session.post(f"{url}/seed_session", json=row(seed=0)).ok
            assert "Turns left: 9" in session.post(f"{url}/PhraseToBoxMask", json=FIND[1]).text
            assert "Merged" in session.post(f"{url}/MergeBoxMask", json=MERGE[1]).text
            came = session.post(f"{url}/verify", json=row(response=response(ANSWER))).json()
            assert came["reward"] == 5.0
    finally:
        process.terminate()
        process.wait(30)


def test_the_examples_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert failures_of("nemo_gym") == ""
