"""Several tasks in one environment, and the data set under it."""

import json
import pickle
from collections import Counter
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stubs import BrightExpert, SquareDataset
from typer.testing import CliRunner

from visenv import registration
from visenv.cli import app
from visenv.datasets import photos, reasonseg, rec8k
from visenv.datasets.base import FAMILIES, Dataset
from visenv.datasets.mixed import MixedDataset, mix, task_of
from visenv.errors import DatasetError, InvalidData, UnknownName
from visenv.policies import make_policy, rollout
from visenv.wrappers import RecordTrajectories, TextObservation

ANSWER = {"name": "Answer", "arguments": {"text": "nothing there"}}


class Sized:
    """The squares, so many of them; None for no end."""

    split = "train"
    squares = SquareDataset(48, 40)

    def __init__(self, size, name="squares"):
        self.size, self.name, self.vocabulary = size, name, (f"{name} one", f"{name} two", "square")

    def get(self, index):
        if index < 0 or (self.size is not None and index >= self.size):
            raise IndexError(index)
        return replace(self.squares.get(index % 3), sample_id=f"{self.name}/{index}")

    def find(self, sample_id):
        return self.get(int(sample_id.removeprefix(f"{self.name}/")))

    def draw(self, rng):
        return self.get(int(rng.integers(10**9 if self.size is None else self.size)))


def squares(**sizes):
    return {task: Sized(size, task) for task, size in sizes.items()}


def make(**keywords):
    return gym.make("VisHarness/Mixed-v0", disable_env_checker=True, **({"experts": BrightExpert()} | keywords))


# --- the data set -------------------------------------------------------------------------------------------------


def test_it_is_a_data_set():
    data = MixedDataset(squares(refseg=4, refcount=9))
    assert isinstance(data, Dataset)
    assert pickle.loads(pickle.dumps(data)).get(5).sample_id == data.get(5).sample_id


def test_weights_are_the_roots_of_the_sizes():
    assert MixedDataset(squares(reasonseg=100, refseg=400, refcount=900)).weights == pytest.approx(
        {"reasonseg": 1 / 6, "refseg": 2 / 6, "refcount": 3 / 6}
    )
    assert mix(split="val").weights == pytest.approx(dict.fromkeys(FAMILIES, 0.2))


def test_weights_are_the_same_where_nothing_ends():
    assert MixedDataset(squares(refseg=None, refcount=None)).weights == {"refseg": 0.5, "refcount": 0.5}
    assert mix().weights == pytest.approx(dict.fromkeys(FAMILIES, 0.2))


def test_weights_have_to_be_given_where_only_some_end():
    parts = squares(refseg=4, refcount=None)
    with pytest.raises(InvalidData, match="'refseg' end and those of 'refcount' do not"):
        MixedDataset(parts)
    assert MixedDataset(parts, {"refseg": 3, "refcount": 1}).weights == {"refseg": 0.75, "refcount": 0.25}


def test_draws_follow_the_weights():
    data = MixedDataset(squares(reasonseg=5, refseg=5, refcount=None), {"reasonseg": 5, "refseg": 3, "refcount": 2})
    rng = np.random.default_rng(0)
    drawn = Counter(task_of(data.draw(rng).sample_id) for _ in range(4000))
    for task, share in data.weights.items():
        # Four deviations of a binomial share.
        assert drawn[task] / 4000 == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 4000))


def test_draws_come_from_the_generator_alone():
    data = MixedDataset(squares(refseg=50, refcount=50))
    other = MixedDataset(squares(refseg=50, refcount=50))
    other.draw(np.random.default_rng(9))
    one, two = np.random.default_rng(3), np.random.default_rng(3)
    assert [data.draw(one).sample_id for _ in range(20)] == [other.draw(two).sample_id for _ in range(20)]


def test_numbers_go_round_the_tasks():
    data = MixedDataset(squares(reasonseg=1, refseg=3, refcount=2))
    assert data.size == 6
    assert [data.get(index).sample_id for index in range(6)] == [
        "reasonseg:reasonseg/0",
        "refseg:refseg/0",
        "refcount:refcount/0",
        "refseg:refseg/1",
        "refcount:refcount/1",
        "refseg:refseg/2",
    ]
    for index in (-1, 6):
        with pytest.raises(IndexError, match="0 to 5"):
            data.get(index)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(1, 7)), min_size=1, max_size=5))
def test_every_sample_has_one_number(sizes):
    parts = squares(**dict(zip(FAMILIES, sizes, strict=False)))
    data = MixedDataset(parts, dict.fromkeys(parts, 1.0))
    count = 40 if data.size is None else data.size
    found = [data.get(index).sample_id for index in range(count)]
    assert len(set(found)) == count
    assert (data.size is None) == (None in sizes)
    for task, part in parts.items():
        own = [name for name in found if name.startswith(f"{task}:")]
        assert own == [f"{task}:{task}/{number}" for number in range(len(own))]
        assert part.size is None or len(own) == part.size


def test_numbers_of_endless_data_have_no_limit():
    data = MixedDataset(squares(refseg=2, refcount=None, reasonseg=None), {"refseg": 1, "refcount": 1, "reasonseg": 1})
    assert data.get(10**18).sample_id == f"refcount:refcount/{(10**18 - 2) // 2}"


def test_a_sample_is_found_by_its_identifier():
    data = mix(("refseg", "refcount"), split="val")
    for index in (0, 1):
        sample = data.get(index)
        again = data.find(sample.sample_id)
        assert (again.sample_id, again.query) == (sample.sample_id, sample.query)
    for name in ("reasonseg:scenes/reasonseg/d1/val/0", "scenes/refseg/d1/val/0", "refseg:", "refseg:nothing"):
        with pytest.raises(DatasetError, match="identifier"):
            data.find(name)


def test_every_task_has_phrases_among_the_first():
    phrases = MixedDataset(squares(refseg=1, refcount=1)).vocabulary
    assert phrases == ("refseg one", "refcount one", "refseg two", "refcount two", "square")


@pytest.mark.parametrize(
    ("tasks", "error", "words"),
    [
        ((), InvalidData, "at least one task"),
        ("refseg", InvalidData, "names of tasks"),
        (3, InvalidData, "names of tasks"),
        (("refseg", "refseg"), InvalidData, "each of them once"),
        (("refsegs",), UnknownName, "Did you mean 'refseg'"),
        ({"refseg": 1.0, 5: 1.0}, UnknownName, "Unknown task 5"),
        ({"refseg": 0}, InvalidData, "positive weight"),
        ({"refseg": float("nan")}, InvalidData, "positive weight"),
        ({"refseg": -1.0, "refcount": 2.0}, InvalidData, "positive weight"),
        ({"refseg": float("inf")}, InvalidData, "positive weight"),
        ({"refseg": 1.0, "refcount": "scenes"}, InvalidData, "'refcount' has none"),
        ({"refseg": True}, InvalidData, "a name or a data set"),
        ({"refseg": ("scenes", "much")}, InvalidData, "weight"),
        ({"refseg": ("scenes", 1.0, 2.0)}, InvalidData, "weight"),
        ({"refseg": "scene"}, UnknownName, "Did you mean 'scenes'"),
        ({"densedet": "photos"}, DatasetError, "densedet"),
        ({"refseg": Sized(0)}, InvalidData, "'refseg' is empty"),
    ],
)
def test_what_is_no_mix_is_refused(tasks, error, words):
    with pytest.raises(error, match=words):
        mix(tasks)


def test_what_is_said_about_a_task_is_a_weight_a_data_set_or_both():
    own = Sized(9)
    assert mix(["refcount", "refseg"]).parts["refcount"].family == "refcount"
    assert mix({"refseg": np.float32(3), "refcount": 1}).weights == {"refseg": 0.75, "refcount": 0.25}
    both = mix({"refseg": (own, 1), "refcount": ("scenes", 3)}, split="val", difficulty=2)
    assert both.parts["refseg"] is own
    assert (both.parts["refcount"].difficulty, both.parts["refcount"].size) == (2, 500)
    assert both.weights == {"refseg": 0.25, "refcount": 0.75}
    assert mix({"refseg": own, "refcount": "scenes"}, split="val").weights["refseg"] == pytest.approx(
        3 / (3 + np.sqrt(500))
    )


@pytest.mark.parametrize("module", [photos, reasonseg, rec8k])
def test_what_is_registered_of_a_data_set_is_what_it_has(module):
    name = module.__name__.rpartition(".")[2]
    assert registration.datasets.entry(name).options["families"] == module.FAMILIES


def test_a_mix_has_all_tasks_of_its_data_set_if_none_are_named():
    data = mix(dataset="photos", split="val")
    assert tuple(data.parts) == photos.FAMILIES
    assert data.weights["reasonseg"] / data.weights["refcount"] == pytest.approx(
        np.sqrt(data.parts["reasonseg"].size / data.parts["refcount"].size)
    )
    ids = [data.get(index).sample_id for index in range(data.size)]
    assert len(set(ids)) == len(ids)


# --- the environment ----------------------------------------------------------------------------------------------


def test_the_task_is_seen_and_said():
    env = make(split="val", obs="features")
    for index, task in enumerate(FAMILIES):
        obs, info = env.reset(options={"index": index})
        assert info["task"] == env.unwrapped.task == task
        assert info["sample_id"] == f"{task}:scenes/{task}/d1/val/0"
        np.testing.assert_array_equal(obs["task"], np.eye(5, dtype=np.float32)[index])
        assert obs in env.observation_space
        obs, _, _, _, info = env.step(ANSWER)
        assert (info["task"], obs["task"].argmax()) == (task, index)
    obs, info = env.reset(options={"sample_id": "densedet:scenes/densedet/d1/val/7"})
    assert (info["task"], obs["task"].tolist()) == ("densedet", [0, 0, 0, 1, 0])


def test_only_this_environment_observes_the_task():
    spaces = {name: gym.make(f"VisHarness/{name}-v0").observation_space for name in ("Mixed", "RefSeg")}
    assert set(spaces["Mixed"]) - set(spaces["RefSeg"]) == {"task"}
    assert make(tasks=("refseg",)).observation_space == spaces["Mixed"]


def test_an_episode_has_the_metrics_of_its_own_task():
    mixed = make(split="val")
    ids = ("ReasonSeg", "GRefSeg", "RefSeg", "DenseDet", "RefCount")
    for index, name in enumerate(ids):
        alone = gym.make(f"VisHarness/{name}-v0", split="val", experts=BrightExpert())
        infos = []
        for env, number in ((mixed, index), (alone, 0)):
            env.reset(options={"index": number})
            infos.append(env.step(ANSWER)[4])
        assert infos[0]["metrics"] == infos[1]["metrics"]
        assert infos[0]["reward_terms"] == infos[1]["reward_terms"]


def test_an_episode_is_that_of_its_own_environment():
    """The same sample gives the same observations here as there, but for the task and the candidates of phrases."""
    mixed = make(split="val", action_mode="discrete", experts="classical")
    alone = gym.make("VisHarness/RefCount-v0", split="val", action_mode="discrete", experts="classical")
    mixed.reset(options={"sample_id": "refcount:scenes/refcount/d1/val/2"})
    alone.reset(options={"index": 2})
    for action in ([0, 0, 0, 0, 0, 0], [5, 0, 0, 0, 0, 0], [6, 0, 0, 0, 0, 0]):
        ours, theirs = mixed.step(np.array(action)), alone.step(np.array(action))
        assert ours[1:4] == theirs[1:4]
        assert ours[4]["reply"] == theirs[4]["reply"]
        for key in set(theirs[0]) - {"phrases"}:
            np.testing.assert_array_equal(ours[0][key], theirs[0][key])


def test_the_same_seed_gives_the_same_samples():
    streams = []
    for env in (make(tasks=("refseg", "refcount")), make(tasks=("refseg", "refcount"))):
        streams.append([env.reset(seed=4)[1]["sample_id"]] + [env.reset()[1]["sample_id"] for _ in range(9)])
    assert streams[0] == streams[1]
    assert {task_of(name) for name in streams[0]} == {"refseg", "refcount"}


def test_a_vector_of_them_is_given_the_same_tasks():
    rules = {"tasks": {"refseg": (Sized(5), 3), "grefseg": (Sized(7), 1)}, "experts": BrightExpert()}
    envs = gym.make_vec("VisHarness/Mixed-v0", num_envs=4, group_size=2, **rules)
    obs, infos = envs.reset(seed=1)
    assert obs["task"].shape == (4, 5)
    assert all(env.dataset is envs.envs[0].dataset for env in envs.envs)
    env = make(**rules)
    for index, seed in enumerate(envs.seeds):
        own, info = env.reset(seed=seed)
        np.testing.assert_array_equal(obs["task"][index], own["task"])
        assert (infos["task"][index], infos["sample_id"][index]) == (info["task"], info["sample_id"])
    _, infos = envs.reset(
        options={"sample_id": [f"{task}:squares/1" for task in ("refseg", "refseg", "grefseg", "refseg")]}
    )
    assert infos["task"].tolist() == ["refseg", "refseg", "grefseg", "refseg"]
    envs.close()


def test_a_data_set_of_ones_own_has_to_say_its_tasks():
    with pytest.raises(DatasetError, match="TASK:IDENTIFIER"):
        make(dataset=SquareDataset()).reset(seed=0)
    with pytest.raises(InvalidData, match="a name or a data set"):
        make(dataset=3)
    assert make(dataset=MixedDataset(squares(refseg=2))).reset(seed=0)[1]["task"] == "refseg"


# --- runs ---------------------------------------------------------------------------------------------------------


def test_a_run_sums_up_each_task_and_each_figure_where_it_is_due(tmp_path):
    env = RecordTrajectories(make(split="val", obs="features", experts="oracle"), tmp_path)
    for index in range(10):
        env.reset(options={"index": index})
        if index < 5:
            env.step({"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "all"}})
            env.step({"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}})
        env.step(ANSWER)
    env.close()
    summary = json.loads((tmp_path / "summary.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "trajectories.jsonl").read_text().splitlines()]
    assert summary["episodes"] == 10
    assert summary["reward_mean"] == pytest.approx(np.mean([line["reward"] for line in lines]))
    assert list(summary["tasks"]) == list(FAMILIES)
    own = {"reasonseg": "gIoU", "grefseg": "Pr@0.5", "refseg": "gIoU", "densedet": "F1@0.50:0.95", "refcount": "MAE"}
    for task, figure in own.items():
        part = summary["tasks"][task]
        rows = [line for line in lines if task_of(line["sample_id"]) == task]
        assert (part["episodes"], part["metrics"][f"{figure}_n"]) == (2, 2)
        assert part["reward_mean"] == pytest.approx(np.mean([row["reward"] for row in rows]))
        if figure in ("gIoU", "MAE"):
            assert part["metrics"][figure] == pytest.approx(np.mean([row["metrics"][figure] for row in rows]))
    assert {"gIoU", "F1@0.50:0.95"}.isdisjoint(summary["tasks"]["refcount"]["metrics"])
    regions = [line["metrics"]["gIoU"] for line in lines if "gIoU" in line["metrics"]]
    assert (summary["metrics"]["gIoU_n"], summary["metrics"]["MAE_n"]) == (6, 2)
    assert summary["metrics"]["gIoU"] == pytest.approx(np.mean(regions))
    assert 0 < np.mean(regions) < 1
    page = (tmp_path / "index.html").read_text()
    assert all(f"<td>{task}</td>" in page for task in FAMILIES)


def test_a_run_of_one_task_has_no_table_of_tasks(tmp_path):
    env = RecordTrajectories(gym.make("VisHarness/RefSeg-v0", experts=BrightExpert()), tmp_path)
    env.reset(seed=0)
    env.step(ANSWER)
    env.close()
    assert "tasks" not in json.loads((tmp_path / "summary.json").read_text())
    assert 'class="tasks"' not in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize("policy", ["random", "oracle"])
def test_policies_play_it_from_the_command_line(policy, tmp_path):
    words = ["rollout", "Mixed-v0", "--policy", policy, "--split", "val", "--difficulty", "0", "-n", "10"]
    done = CliRunner().invoke(app, [*words, "--experts", "oracle", "--out", str(tmp_path), "--no-pictures"])
    assert done.exit_code == 0, done.stderr
    assert "By task" in done.stdout
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert len(summary["tasks"]) > 1
    assert "invalid" not in summary["terminations"]
    if policy == "oracle":
        assert summary["reward_mean"] == 5.0


def test_scripted_plays_it_as_well_as_its_parts():
    tasks = ("reasonseg", "refseg", "refcount")
    env = make(tasks=tasks, split="val", obs="features", experts="classical")
    ends = list(rollout(env, make_policy("scripted"), episodes=12, seed=0))
    assert {task_of(end.sample_id) for end in ends} == set(tasks)
    assert np.mean([end.reward for end in ends]) > 3


def test_describe_shows_the_task():
    page = json.loads(CliRunner().invoke(app, ["describe", "Mixed-v0", "--json"]).stdout)
    assert page["observation_space"]["task"] == "Box(0.0, 1.0, (5,), float32)"
    assert "image" in page["observation_space"]


def test_text_observations_leave_the_task_in_the_info():
    env = TextObservation(make(split="val"))
    obs, info = env.reset(options={"index": 4})
    assert obs["query"].startswith("Count")
    assert info["task"] == "refcount"


def test_ppo_takes_the_observation_as_it_is():
    from stable_baselines3 import PPO

    rules = {"tasks": {"refseg": Sized(5), "grefseg": Sized(5)}, "max_turns": 4, "obs": "features"}
    env = make(action_mode="discrete", **rules)
    model = PPO("MultiInputPolicy", env, n_steps=16, batch_size=16, n_epochs=1, seed=0, device="cpu").learn(32)
    obs, _ = env.reset(seed=1)
    other = obs | {"task": np.roll(obs["task"], 1)}
    seen = [model.policy.extract_features(model.policy.obs_to_tensor(one)[0]) for one in (obs, other)]
    assert not bool((seen[0] == seen[1]).all())
