"""verl: the data sets, the launch configuration of examples/verl, and the workers of the trainer that it launches."""

import asyncio
import os
import runpy
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transfer_queue as tq
from omegaconf import OmegaConf
from stubs import SquareDataset
from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
from verl.protocol import DataProto
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopWorkerTQ
from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories
from verl.utils import tensordict_utils
from verl.utils.config import validate_config
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn
from verl_parts import (
    ANSWER,
    EXAMPLES,
    FAIL,
    GOOD,
    SQUARES,
    Run,
    ScriptedServer,
    call,
    make_config,
    objects,
    register_env,
)

from visenv.adapters.making import make_env
from visenv.adapters.verl import to_parquet
from visenv.clusters import joined
from visenv.errors import InvalidData

torch.set_num_threads(1)
ENV_ID = "VisHarness/ReasonSeg-v0"
COLUMNS = ["data_source", "prompt", "images", "ability", "reward_model", "extra_info", "agent_name"]


@pytest.fixture(scope="module", autouse=True)
def _env():
    register_env()


def read_by_verl(config, file):
    """A file as verl's own data set reads it."""
    worker = AgentLoopWorker(config, None)
    return RLHFDataset(str(file), worker.tokenizer, config.data, worker.processor)


def words(content):
    return "".join(part.get("text", "*") for part in content)


def played(config, dataset, *scripts):
    rows = collate_fn([dataset[index] for index in range(len(dataset))])
    tensors = {name: value for name, value in rows.items() if isinstance(value, torch.Tensor)}
    others = {name: value for name, value in rows.items() if name not in tensors}
    return Run(config, *scripts, batch=DataProto.from_dict(tensors=tensors, non_tensors=others))


# --- what a user launches ---------------------------------------------------------------------------------------------


def test_the_example_trains_on_what_it_has_prepared(model, tmp_path):
    prepare = runpy.run_path(str(EXAMPLES / "prepare.py"), run_name="prepare")["prepare"]
    assert prepare(tmp_path, 2, 1) == {"train": 2, "val": 1}
    with pytest.raises(InvalidData, match="agent_loops.yaml \\(visenv\\), but got 'nobody'"):
        prepare(tmp_path, 2, 1, name="nobody")
    config = make_config(model)
    dataset = read_by_verl(config, tmp_path / "train.parquet")
    assert len(dataset) == 2, "No prompt is too long for the example, nor is the picture lost."
    phrase = call("PhraseToBoxMask", images=["img_0"], phrase="circle")
    run = played(config, dataset, [phrase, ANSWER])
    assert run.fields("trajectory_invalid") == [False, False]
    assert run.fields("termination") == ["answer", "answer"]
    assert run.fields("sample_id") == [dataset[index]["extra_info"]["sample_id"] for index in range(2)]
    asked = {
        (made["sampling_params"]["max_tokens"], made["sampling_params"]["temperature"]) for made in run.server.asked
    }
    assert asked == {(1024, 1.0)}, "As agent_loops.yaml and grpo.yaml say."


def test_verl_takes_the_launch_configuration(model):
    config = make_config(model)
    validate_config(config, need_reference_policy(config), need_critic(config))
    assert (config.algorithm.adv_estimator, config.actor_rollout_ref.rollout.n) == ("grpo", 8)
    lengths = config.data.max_prompt_length, config.data.max_response_length
    assert (config.actor_rollout_ref.rollout.prompt_length, config.actor_rollout_ref.rollout.response_length) == lengths


def test_the_limit_on_pictures_reaches_the_processor(model):
    config = make_config(model, "data.mm_processor_kwargs.max_pixels=65536")
    processor = AgentLoopWorker(config, None).processor
    grid = processor(
        text=["<|image_pad|>"], images=[np.zeros((512, 512, 3), np.uint8)], **config.data.mm_processor_kwargs
    )
    assert int(grid["image_grid_thw"].prod()) * 16**2 <= 65536


def test_the_script_prepares_the_data_and_starts_verl(tmp_path):
    # Up to where GPUs are needed: verl's own entry point says what it would train with.
    settings = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TRAIN": "2", "VAL": "1"}
    command = ["bash", str(EXAMPLES / "run.sh"), "trainer.total_epochs=3", "--cfg", "job"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said, _, printed = done.stdout.partition("\n")
    assert said == "{'train': 2, 'val': 1}"
    config = OmegaConf.create(printed)
    assert (config.data.train_files, config.data.val_files) == ("data/train.parquet", "data/val.parquet")
    assert pq.read_table(tmp_path / config.data.train_files).num_rows == 2
    rollout = config.actor_rollout_ref.rollout
    assert rollout.agent.agent_loop_config_path == str(EXAMPLES / "agent_loops.yaml")
    assert (config.trainer.total_epochs, config.trainer.use_v1, rollout.max_model_len) == (3, True, 30720)


# --- data sets --------------------------------------------------------------------------------------------------------


def test_rows_hold_what_verl_reads(model, tmp_path):
    file = tmp_path / "deep" / "squares.parquet"
    assert to_parquet(SQUARES, file) == 3
    table = pq.read_table(file)
    assert table.column_names == COLUMNS
    row = table.slice(1, 1).to_pylist()[0]
    assert (row["data_source"], row["ability"], row["agent_name"]) == (SQUARES, "refseg", "visenv")
    assert row["extra_info"] == {"index": 1, "split": "train", "sample_id": "squares/1", "silent_score": -3.0}
    assert row["prompt"][1]["content"].count("<image>") == 1
    dataset = read_by_verl(make_config(model), file)
    messages = dataset[1]["raw_prompt"]
    (picture,) = [part["image"] for part in messages[1]["content"] if part["type"] == "image"]
    assert np.array_equal(np.asarray(picture), SquareDataset().get(1).image)
    env = make_env(SQUARES, {"memory": "keep_all"})
    env.reset(options={"index": 1})
    system, task = env.episode.messages()
    for message, own in zip(messages, (system, task), strict=True):
        assert words(message["content"]) == words(own["content"]), "What the agent loop will say itself."


def test_rows_of_verls_own_loop_say_what_tools_are_created_with(model, tmp_path):
    file = tmp_path / "tools.parquet"
    to_parquet(SQUARES, file, size=2, agent_name="tool_agent", max_turns=5)
    row = read_by_verl(make_config(model), file)[1]
    made = {"create_kwargs": {"sample_id": "squares/1", "split": "train"}}
    assert row["tools_kwargs"] == {name: made for name in ("PhraseToBoxMask", "MergeBoxMask", "Answer")}
    rules = words(row["raw_prompt"][0]["content"])
    assert "You have 5 turns" in rules
    assert "<tool_call>" not in rules, "verl's template explains how tools are called."


def test_rows_without_pictures_are_played_all_the_same(model, tmp_path, loops):
    file = tmp_path / "light.parquet"
    to_parquet(SQUARES, file, images=False)
    assert "images" not in pq.read_table(file).column_names
    config = make_config(model, loops())
    run = played(config, read_by_verl(config, file), GOOD)
    assert run.out.batch["rm_scores"].sum(dim=1).tolist() == [5.0, 5.0, 5.0]


def test_no_text_is_taken_for_a_picture_or_a_sound(model, tmp_path):
    class Odd(SquareDataset):
        def get(self, index):
            sample = super().get(index)
            return type(sample)(sample.sample_id, sample.images, "the <image>, <video> and <audio> of it", sample.truth)

    env_id = "VerlTest/Odd-v0"
    if env_id not in gym.registry:
        gym.register(env_id, entry_point="visenv.envs.refseg:RefSegEnv", kwargs={"dataset": Odd()})
    to_parquet(env_id, tmp_path / "odd.parquet", experts="oracle")
    dataset = read_by_verl(make_config(model), tmp_path / "odd.parquet")
    assert [part["type"] for part in dataset[0]["raw_prompt"][1]["content"]] == ["text", "image"]


def test_a_split_without_an_end_needs_a_size(tmp_path):
    with pytest.raises(InvalidData, match="never ends"):
        to_parquet(ENV_ID, tmp_path / "x.parquet")
    with pytest.raises(InvalidData, match="at most 3 samples"):
        to_parquet(SQUARES, tmp_path / "x.parquet", size=4)
    assert not (tmp_path / "x.parquet").exists()


# --- the trainer's own workers ----------------------------------------------------------------------------------------


@pytest.mark.timeout(900)  # A Ray and the processes of verl's queue have to start.
def test_the_trainers_workers_queue_a_sample_a_turn_and_leave_out_what_is_invalid(model, loops):
    config = make_config(
        model,
        loops(env={"memory": "latest"}, drop_invalid=True),
        "actor_rollout_ref.rollout.n=3",
        "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
    )
    batch = tensordict_utils.get_tensordict(
        {
            "raw_prompt": objects([[{"role": "user", "content": "?"}]]),
            "extra_info": objects([{"index": 0, "split": "train"}]),
            "agent_name": objects(["visenv"]),
            "uid": objects(["group"]),
            "index": objects([0]),
        }
    )
    tensordict_utils.assign_non_tensor_data(batch, "global_steps", 4)
    scripts = [GOOD, [FAIL], [ANSWER]]

    async def work():
        # The class itself, without a process of its own around it.
        worker = AgentLoopWorkerTQ.__ray_metadata__.modified_class(config, None)
        worker.llm_client = ScriptedServer(worker.tokenizer, scripts)
        await worker.generate_sequences(batch)
        while worker.background_tasks:
            await asyncio.gather(*worker.background_tasks)

    with joined("local", num_cpus=2):
        tq.init(config.transfer_queue)
        try:
            asyncio.run(work())
            tags = tq.kv_list()["train"]
            keys = sorted(key for key in tags if key != "group")
            fields = ["prompts", "responses", "response_mask", "rm_scores", "extra_fields"]
            data = tq.kv_batch_get(keys=keys, partition_id="train", select_fields=fields)
        finally:
            tq.close()
    assert tags["group"] == {"status": "finished"}
    sessions = [key.split("_")[1] for key in keys]
    assert sorted(sessions.count(name) for name in set(sessions)) == [1, 3], "Three turns, one turn, and nothing."
    assert {tags[key]["min_global_steps"] for key in keys} == {7}
    rewards = [float(scores.sum()) for scores in data["rm_scores"]]
    assert sorted(rewards) == [-3.0, 5.0, 5.0, 5.0]
    advantages = advantages_of(data, keys)
    assert [round(value, 3) for value in advantages] == [0.707 if reward > 0 else -0.707 for reward in rewards]


def advantages_of(data, keys):
    """What verl makes of the samples: an advantage each, as all tokens of a sample have it."""
    padded = data.select("response_mask", "rm_scores").to_padded_tensor()
    batch = DataProto(batch=padded)
    batch.batch["token_level_rewards"] = batch.batch["rm_scores"]
    batch.non_tensor_batch["uid"] = np.array(["group"] * len(keys), dtype=object)
    out = compute_advantage_for_multi_trajectories(batch, keys, "grpo")
    return [
        float(row[mask.bool()][0])
        for row, mask in zip(out.batch["advantages"], out.batch["response_mask"], strict=True)
    ]
