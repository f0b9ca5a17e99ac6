"""SkyRL-Gym: its own registry makes the environments, and they are played as SkyRL's generators play them."""

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import gymnasium as gym
import numpy as np
import pytest
import skyrl_gym
from pages import failures_of
from skyrl_gym.envs.base_text_env import BaseTextEnv
from skyrl_gym.metrics import aggregate_for_environment
from stubs import BrightExpert, BrokenExpert, SquareDataset
from text_turns import ANSWER, FAIL, FIND, MERGE, PLAYED

from visenv.adapters.skyrl import register, to_rows
from visenv.errors import DatasetError, EpisodeOver, InvalidData

ENV_ID = "VisHarness/RefSeg-v0"


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr("skyrl_gym.envs.registration.registry", dict(skyrl_gym.registry))
    monkeypatch.setattr("skyrl_gym.metrics.registry", skyrl_gym.envs.registration.registry)


def registered(expert=BrightExpert, **keywords):
    return register(ENV_ID, **{"dataset": SquareDataset(), "experts": expert(), **keywords})


def played(name, actions, extras, prompt=()):
    """A rollout as SkyRL's generators make one: init, steps until done, metrics, close."""
    env = skyrl_gym.make(name, env_config={}, extras=dict(extras))
    conversation, _ = env.init(list(prompt))
    outputs = []
    for action in actions:
        outputs.append(env.step(action))
        conversation += [{"role": "assistant", "content": action}, *outputs[-1]["observations"]]
        if outputs[-1]["done"]:
            break
    metrics = env.get_metrics()
    env.close()
    return conversation, outputs, metrics


def pictures(conversation):
    parts = [part for message in conversation if isinstance(message["content"], list) for part in message["content"]]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    data = [np.frombuffer(base64.b64decode(url.removeprefix("data:image/png;base64,")), np.uint8) for url in urls]
    return [cv2.cvtColor(cv2.imdecode(one, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB) for one in data]


def test_the_registry_makes_what_it_asks_for():
    name = registered()
    assert name in skyrl_gym.pprint_registry(skyrl_gym.envs.registration.registry, disable_print=True)
    with skyrl_gym.make(name, extras={"index": 0}) as env:
        assert isinstance(env, BaseTextEnv)
        assert (env.spec.id, env.turns, env.max_turns) == (name, 0, 10)
    with pytest.raises(skyrl_gym.error.RegistrationError, match="already registered"):
        registered()
    other = registered(name="squares", max_turns=3)
    assert skyrl_gym.make(other, extras={}).max_turns == 3


def test_a_rollout_is_what_the_local_environment_comes_to():
    conversation, outputs, metrics = played(registered(), PLAYED, {"index": 1, "max_turns": 8})
    settings = {"dataset": SquareDataset(), "experts": BrightExpert(), "action_mode": "text", "memory": "keep_all"}
    local = gym.make(ENV_ID, max_turns=8, **settings).unwrapped
    local.reset(options={"index": 1})
    for action, output in zip(PLAYED, outputs, strict=True):
        _, reward, terminated, truncated, info = local.step(action)
        assert (output["reward"], output["done"]) == (reward, terminated or truncated)
        assert output["metadata"] == {**info, "terminated": terminated, "truncated": truncated}
    json.dumps([output["metadata"] for output in outputs], allow_nan=False)
    assert [output["metadata"]["error"] and output["metadata"]["error"]["code"] for output in outputs] == [
        None,
        "missing_think",
        "unknown_tool",
        None,
        None,
        None,
    ]
    assert outputs[-1]["reward"] == metrics["reward"] == 5.0
    assert outputs[-1]["observations"] == []
    assert metrics == {**local.metrics(), "reward": 5.0, "finished": 1.0, "invalid": 0.0}
    assert [message["role"] for message in conversation] == ["system", "user", *["assistant", "user"] * 5, "assistant"]
    shown = local.episode.pictures()
    assert len(shown) > 3
    for seen, expected in zip(pictures(conversation), shown, strict=True):
        assert np.array_equal(seen, expected.picture.pixels)


def test_text_alone_names_the_pictures():
    conversation, _, _ = played(registered(pictures=False), (FIND, MERGE, ANSWER), {"index": 0})
    assert all(isinstance(message["content"], str) for message in conversation)
    assert conversation[1]["content"].endswith("img_0 (96x64):\n[image img_0]")
    assert "[image img_0_PhraseToBoxMask_visual]" in conversation[3]["content"]


def test_rules_of_the_row_take_the_place_of_the_environments():
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "the bright square"}]
    conversation, _, _ = played(registered(), (ANSWER,), {"index": 0}, prompt)
    assert conversation[0] == {"role": "system", "content": "Be brief."}
    assert conversation[1]["content"][0]["text"] == "Task: the bright square on the left\n"
    own, _, _ = played(ENV_ID, (ANSWER,), {"index": 0}, prompt[1:])
    assert "PhraseToBoxMask" in own[0]["content"][0]["text"]


def test_the_trainers_limit_of_turns_ends_the_episode():
    _, outputs, metrics = played(registered(), ("so", "and so", "on"), {"index": 0, "max_turns": 2})
    assert [output["done"] for output in outputs] == [False, True]
    assert outputs[-1]["metadata"]["termination"] == "max_turns"
    assert metrics["finished"] == 1.0


def test_a_rollout_that_is_given_up_is_measured_and_paid_nothing_more():
    _, outputs, metrics = played(registered(), (FIND, MERGE), {"index": 0})
    assert not outputs[-1]["done"]
    assert (metrics["finished"], metrics["gIoU"], metrics["reward"]) == (0.0, 1.0, 0.0)


def test_special_tokens_at_the_end_of_a_turn_are_no_part_of_it():
    _, outputs, _ = played(registered(), (f"{FIND}<|im_end|>", f"{MERGE}\n<|im_end|>\n<|endoftext|>"), {"index": 0})
    assert [output["metadata"]["error"] for output in outputs] == [None, None]
    for odd in ("<|im_end|>", " " * 200_000 + "|>", "<| |>", "|>", "<|im_end|> and so on |>"):
        _, outputs, _ = played(ENV_ID, (odd,), {"index": 0})
        assert outputs[0]["metadata"]["error"] is not None


def test_an_invalid_episode_is_flagged_paid_nothing_and_left_out_of_averages():
    name = registered(BrokenExpert)
    _, outputs, metrics = played(name, (FAIL,), {"index": 0})
    assert outputs[0]["done"]
    assert outputs[0]["reward"] == 0.0
    assert outputs[0]["metadata"]["truncated"]
    assert "no more memory" in outputs[0]["metadata"]["invalid"]
    assert metrics["invalid"] == 1.0
    _, _, good = played(name, (FIND, MERGE, ANSWER), {"index": 0})
    averages = aggregate_for_environment(name, [metrics, good, good])
    assert averages["invalid"] == pytest.approx(1 / 3)
    assert averages["reward"] == 5.0
    assert averages["gIoU"] == 1.0
    assert aggregate_for_environment(name, [metrics]) == {"invalid": 1.0}


def test_many_rollouts_on_threads_share_one_pool():
    expert = BrightExpert()
    name = registered(lambda: expert)
    start = threading.Barrier(16)

    def rollout(number):
        start.wait()
        return played(name, (FIND, MERGE, ANSWER), {"index": number % 3})

    with ThreadPoolExecutor(16) as threads:
        came = list(threads.map(rollout, range(16)))
    for number, (conversation, outputs, metrics) in enumerate(came):
        assert outputs[0]["metadata"]["sample_id"] == f"squares/{number % 3}"
        assert (metrics["reward"], metrics["gIoU"]) == (5.0, 1.0)
        assert conversation == came[number % 3][0]
    assert sum(expert.batches) < 16, "What one rollout was answered, others of its sample get from the pool."


def test_rows_name_their_samples_and_others_are_drawn_from_their_seed():
    rows = to_rows(ENV_ID, name="squares", size=2, dataset=SquareDataset(), experts=BrightExpert())
    assert rows[1] == {
        "prompt": [{"role": "user", "content": "the bright square on the left"}],
        "env_class": "squares",
        "sample_id": "squares/1",
        "data_source": "squares",
    }
    name = registered()
    extras = {key: value for key, value in rows[1].items() if key not in ("prompt", "env_class")}
    _, outputs, _ = played(name, (ANSWER,), extras, rows[1]["prompt"])
    assert outputs[0]["metadata"]["sample_id"] == "squares/1"
    drawn = [played(name, (ANSWER,), {"seed": 5})[1][0]["metadata"]["sample_id"] for _ in range(3)]
    assert len(set(drawn)) == 1


def test_misuse_is_said():
    name = registered()
    env = skyrl_gym.make(name, env_config={"max_turns": 1}, extras={"index": 0})
    with pytest.raises(EpisodeOver, match="reset"):
        env.step(ANSWER)
    env.init([])
    assert env.step("so")["done"]
    with pytest.raises(EpisodeOver):
        env.step(ANSWER)
    with pytest.raises(InvalidData, match="data and experts are those of all"):
        skyrl_gym.make(name, env_config={"experts": "oracle"}, extras={})
    with pytest.raises(InvalidData, match="from 0 to 2"):
        skyrl_gym.make(name, extras={"index": 7}).init([])
    with pytest.raises(DatasetError):
        register("VisHarness/RefSeg-v0", name="other", dataset="reasonseg:/nowhere")


def test_the_examples_of_the_page_run():
    assert failures_of("skyrl") == ""
