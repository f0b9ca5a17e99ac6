"""verl's adapter where no verl is needed: what a process shares, and data sets; sessions of their own test the rest."""

import asyncio
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from stubs import BrightExpert

from visenv.adapters import verl
from visenv.adapters.verl.records import standing_score, trajectory_flags
from visenv.adapters.verl.sharing import described_env, figures, plain_settings, sample_of, shared_env
from visenv.async_batches import drive_async
from visenv.errors import DatasetError, InvalidData, MissingDependency

ENV_ID = "VisHarness/RefSeg-v0"


def test_splits_share_experts_that_are_told_nothing():
    shared = shared_env(ENV_ID, {"experts": "classical"})
    train, val = shared.env("train"), shared.env("val")
    assert (train.dataset.split, val.dataset.split) == ("train", "val")
    assert train.pool is val.pool
    assert shared.env("val") is val


def test_experts_that_read_the_truth_read_that_of_their_split():
    async def found(shared, split):
        env = await shared.begin(split, {"index": 0})
        call = {"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "thing"}}
        steps = (call, {"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}})
        for step in steps:
            env.finish(await drive_async(env.stepping(step), shared.pool(env)))
        return env.metrics()["gIoU"]

    shared = shared_env(ENV_ID, {"experts": "oracle"})
    assert [asyncio.run(found(shared, split)) for split in ("train", "val")] == [1.0, 1.0]


def test_an_environment_is_of_one_trajectory_and_its_data_of_all():
    async def begun():
        shared = shared_env(ENV_ID, {"experts": "oracle"})
        first, second = [await shared.begin("val", {"index": index}) for index in (0, 1)]
        return first, second, shared.pool(first) is shared.pool(second)

    first, second, one_pool = asyncio.run(begun())
    assert (first.episode.sample_id, second.episode.sample_id) == (
        "scenes/refseg/d1/val/0",
        "scenes/refseg/d1/val/1",
    )
    assert first.dataset is second.dataset
    assert one_pool


def test_settings_are_plain_values():
    assert shared_env(ENV_ID, {"max_turns": 3}) is shared_env(ENV_ID, {"max_turns": 3})
    assert shared_env(ENV_ID, {"max_turns": 3}) is not shared_env(ENV_ID, {"max_turns": 4})
    assert shared_env(ENV_ID, {}).keywords["memory"] == "keep_all"
    with pytest.raises(InvalidData, match="plain values"):
        shared_env(ENV_ID, {"experts": BrightExpert()})
    with pytest.raises(InvalidData, match="as a mapping"):
        plain_settings("scenes")
    assert plain_settings(None) == {}


def test_a_row_names_a_sample_that_is_there():
    assert sample_of({"sample_id": None, "index": 2}) == (None, {"index": 2})
    with pytest.raises(InvalidData, match="name a sample"):
        sample_of(None)
    with pytest.raises(DatasetError):
        asyncio.run(shared_env(ENV_ID, {}).begin("nowhere", {"index": 0}))


def test_figures_have_the_same_names_for_every_episode():
    env = described_env("VisHarness/Mixed-v0", {"split": "val"})
    names = set()
    for index in range(6):
        env.reset(options={"index": index})
        names.add(tuple(figures(env)))
    assert len(names) == 1
    assert "N_acc" in next(iter(names))


def test_what_an_episode_pays_if_nothing_more_is_done():
    env = described_env(ENV_ID, {"split": "val", "reward": "visharness:step_cost=0.5"})
    env.reset(options={"index": 0})
    assert standing_score(env.episode, 0.0) == -3.0
    assert not env.episode.done, "Asking changes nothing."
    reward = env.step("What?")[1]
    assert standing_score(env.episode, reward) == -3.5
    env.step({"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "cat"}})
    assert standing_score(env.episode, reward) == 0.0, "Nobody answers here: the episode does not count."
    flags = trajectory_flags(env.episode, env.episode.problem)
    assert (flags["trajectory_invalid"], flags["termination"]) == (True, "invalid")


def test_data_sets_need_no_experts(tmp_path):
    count = verl.to_parquet(ENV_ID, tmp_path / "x.parquet", size=2, experts="http://127.0.0.1:9", images=False)
    assert count == 2
    rows = pq.read_table(tmp_path / "x.parquet").to_pylist()
    assert [row["extra_info"]["index"] for row in rows] == [0, 1]


def test_names_are_imported_when_they_are_used():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = verl.nothing
    code = "import sys, visenv.adapters.verl as v; v.to_parquet; v.compute_score; print('verl' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["VisenvAgentLoop", "VisenvTool", "write_tool_config"])
def test_a_missing_verl_is_named(name, monkeypatch):
    for module in ("loop", "tools"):
        monkeypatch.delitem(sys.modules, f"visenv.adapters.verl.{module}", raising=False)
    for module in ("verl.experimental.agent_loop.agent_loop", "verl.tools.base_tool"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependency, match=r"visenv\[verl\]"):
        getattr(verl, name)
