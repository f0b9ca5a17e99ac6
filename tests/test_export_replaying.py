"""Training sets are of episodes that are played again: those that come to something else, and broken records."""

import json
import shutil

import gymnasium as gym
import pytest
from export_runs import DONE, ENV_ID, FIND, KEYWORDS, MERGE, changed, dropped, joined, play, rows_of
from stubs import BrightExpert, SquareDataset

from visenv.errors import DatasetError, InvalidData
from visenv.export import Filters, ReplayError, export_run
from visenv.export.runs import LINE_BYTES
from visenv.wrappers import RecordTrajectories


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, play(folder)


def test_episodes_are_played_again_side_by_side(tmp_path):
    keywords = {"dataset": SquareDataset(), "experts": BrightExpert()}
    play(tmp_path / "run", [(index, [FIND, MERGE, DONE]) for index in (0, 1, 2)], **keywords)
    expert = BrightExpert()
    made = export_run(tmp_path / "run", tmp_path / "set", env={**keywords, "experts": expert})
    assert made["rows"] == 9
    assert [row["episode"] for row in rows_of(made)] == [0] * 3 + [1] * 3 + [2] * 3
    assert expert.batches == [3], "What they ask is asked at once."


def test_a_turn_that_was_cut_is_played_as_cut(tmp_path):
    cut = {"text": "<think>Well, I wonder", "finish_reason": "length"}
    seen = play(tmp_path / "run", [(0, [cut, FIND, MERGE, DONE])])
    made = export_run(tmp_path / "run", tmp_path / "set", filters=Filters(faulty="keep"))
    rows = rows_of(made)
    assert rows[0]["completion"][0]["content"][0]["text"] == cut["text"]
    assert [joined(message["content"]) for message in rows[1]["prompt"]] == [
        joined(message["content"]) for message in seen[0, 2]
    ]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda record: record["turns"][0].update(reply="img_0: 9 boxes"), "at turn 1, the reply was 'img_0: 9 boxes'"),
        (lambda record: record["turns"][0].update(shown=[]), "at turn 1, the images shown was"),
        (lambda record: record["images"][0].update(width=9), r"the sizes of the pictures was '\[\[9, 256\]\]'"),
        (
            lambda record: record["outcome"].update(termination="max_turns"),
            "the end was 'max_turns', and is now 'answer'",
        ),
        (lambda record: record["outcome"].update(count=7), "the number of objects was '7'"),
        (lambda record: record["turns"].append(record["turns"][0]), "at turn 4, the episode was 'another turn'"),
        (lambda record: record.update(query="the hat"), "Expected the query 'the hat'"),
    ],
)
def test_an_episode_that_comes_to_something_else_is_an_error(run, tmp_path, edit, message):
    folder = changed(run, tmp_path, edit)
    with pytest.raises(ReplayError, match=message):
        export_run(folder, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    made = export_run(folder, tmp_path / "set", skip_changed=True)
    assert dropped(made)[5,] == "changed"
    assert made["counts"]["episodes"]["kept"] == 3


def test_many_that_differ_hide_none_that_does_not(run, tmp_path):
    folder = tmp_path / "many"
    shutil.copytree(run[0], folder)
    line = json.loads((folder / "trajectories.jsonl").read_text().splitlines()[0])
    lines, query = [], line["query"]
    for number in range(40):
        line.update(episode=number, query="the hat" if number % 20 < 18 else query)
        line["turns"][2]["text"] = f"<think>{number}</think><answer>There it is.</answer>"
        lines.append(json.dumps(line) + "\n")
    (folder / "trajectories.jsonl").write_text("".join(lines))
    made = export_run(folder, tmp_path / "set", skip_changed=True)
    assert made["counts"]["episodes"] == {"recorded": 40, "kept": 4, "dropped": 36}
    assert [each["episode"] for each in made["kept"]] == [18, 19, 38, 39]


def test_another_data_set_or_other_experts_are_noticed(run, tmp_path):
    with pytest.raises(ReplayError, match="Name the data set and the experts"):
        export_run(run[0], tmp_path / "set", env={"experts": "classical"})
    with pytest.raises(DatasetError):
        export_run(run[0], tmp_path / "set", env={"dataset": "photos"})
    assert not list(tmp_path.iterdir())


def test_prompts_of_samples_that_have_changed_or_are_too_large(run, tmp_path):
    folder = changed(run, tmp_path, lambda record: record.update(query="the hat"))
    with pytest.raises(ReplayError, match="Expected the query 'the hat'"):
        export_run(folder, tmp_path / "set", to="verl")
    made = export_run(folder, tmp_path / "set", to="verl", skip_changed=True)
    assert (made["rows"], made["why"]) == (2, {"samples": {"changed": 1}})
    with pytest.raises(InvalidData, match="nothing is left: 3 patch_budget"):
        export_run(run[0], tmp_path / "other", to="grpo", filters=Filters(patch_budget=63))


def test_a_sample_that_is_gone(run, tmp_path):
    with pytest.raises(DatasetError, match="There is no sample 'scenes/refseg/d1/val/x' in 'squares'"):
        export_run(
            changed(run, tmp_path, lambda record: record.update(sample_id="scenes/refseg/d1/val/x")),
            tmp_path / "set",
            filters=Filters(per_sample=1, answered=True),
            env={"dataset": SquareDataset(), "experts": BrightExpert()},
        )


def test_a_run_that_was_killed(run, tmp_path):
    folder = tmp_path / "killed"
    shutil.copytree(run[0], folder)
    text = (folder / "trajectories.jsonl").read_text()
    (folder / "trajectories.jsonl").write_text(text[:-200])
    made = export_run(folder, tmp_path / "set")
    assert (made["counts"]["episodes"]["recorded"], made["run"]["cut_off_lines"]) == (5, 1)
    (folder / "summary.json").unlink()
    with pytest.raises(InvalidData, match="--env-id"):
        export_run(folder, tmp_path / "other")
    again = export_run(folder, tmp_path / "other", env_id=ENV_ID, env=KEYWORDS)
    assert again["files"] == made["files"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("trajectories.jsonl", "[" * 100_000 + "\n", "line 1"),
        ("trajectories.jsonl", '{"episode": 0}\n', "line 1"),
        ("trajectories.jsonl", "\n", "line 1"),
        ("trajectories.jsonl", "", "an episode that has ended"),
        ("summary.json", "{", "settings of a run"),
        ("summary.json", '{"settings": {"env_id": "os:Env-v0"}}', "only if you name it"),
        ("summary.json", '{"settings": {"env_id": "Nothing-v0"}}', "is registered"),
    ],
)
def test_broken_runs(run, tmp_path, name, content, message):
    folder = tmp_path / "broken"
    shutil.copytree(run[0], folder)
    (folder / name).write_text(content)
    with pytest.raises(InvalidData, match=message):
        export_run(folder, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_run_around_a_loop_of_ones_own_says_how_it_was_played(tmp_path):
    env = gym.make(ENV_ID, obs="features", action_mode="text", max_turns=3, memory="keep_all", **KEYWORDS)
    recorder = RecordTrajectories(env, tmp_path / "run", {"note": "mine"}, pictures=False, page=None)
    recorder.reset(options={"index": 0})
    for text in (FIND, MERGE, DONE):
        recorder.step(text)
    recorder.close()
    made = export_run(tmp_path / "run", tmp_path / "set")
    assert made["run"]["env"] == {**KEYWORDS, "max_turns": 3, "memory": "keep_all"}
    assert [len(row["images"]) for row in rows_of(made)] == [1, 2, 2]


@pytest.mark.parametrize(
    "experts", ["http://10.0.0.1:8000", "FOLDER/own.yaml", {"*": "classical", "GroundPhrase": "FOLDER/own.yaml"}]
)
def test_experts_elsewhere_are_asked_only_by_name(run, tmp_path, experts):
    """Neither is what a run names imported: a preset can name any class of any module, and its arguments."""
    folder, sprung = tmp_path / "run", tmp_path / "sprung"
    shutil.copytree(run[0], folder)
    preset = {"experts": [{"expert": "subprocess:Popen", "args": ["touch", str(sprung)]}]}
    (folder / "own.yaml").write_text(json.dumps(preset))
    written = json.dumps(experts).replace("FOLDER", str(folder))
    summary = (folder / "summary.json").read_text().replace('"experts": "oracle"', f'"experts": {written}')
    assert written in summary
    (folder / "summary.json").write_text(summary)
    with pytest.raises(InvalidData, match="only if you name them"):
        export_run(folder, tmp_path / "set")
    assert not sprung.exists()
    assert export_run(folder, tmp_path / "set", env={"experts": "oracle"})["rows"] == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 5}, "images as a list"),
        ({"images": ["img_0"]}, "images as a list"),
        ({"reward": 10**400}, "finite reward"),
        ({"reward": float("nan")}, "finite reward"),
        ({"episode": -1}, "at least 0"),
        ({"query": "x" * LINE_BYTES}, "more than 64 MiB"),
    ],
)
def test_absurd_records_are_refused(run, tmp_path, change, message):
    folder = tmp_path / "run"
    shutil.copytree(run[0], folder)
    first, *others = (folder / "trajectories.jsonl").read_text().splitlines()
    (folder / "trajectories.jsonl").write_text("\n".join([json.dumps(json.loads(first) | change), *others, ""]))
    with pytest.raises(InvalidData, match=message):
        export_run(folder, tmp_path / "set")


def test_an_episode_that_is_there_twice(run, tmp_path):
    folder = changed(run, tmp_path, lambda record: record.update(episode=0))
    with pytest.raises(InvalidData, match="number 0 is there 2 times"):
        export_run(folder, tmp_path / "set")


def test_records_are_checked_before_they_are_believed(run, tmp_path):
    folder = changed(run, tmp_path, lambda record: record["truth"].update(target=[{"size": [-1, 2], "counts": "x"}]))
    with pytest.raises(InvalidData, match="outcome and a truth in episode 5"):
        export_run(folder, tmp_path / "set")
