"""Training sets: what is kept of a run, that every turn is there as it was seen, and that a set is whole or absent."""

import json
import shutil

import cv2
import numpy as np
import pytest
from export_runs import EPISODES, FIND, changed, dropped, joined, play, rows_of
from typer.testing import CliRunner

from visenv.cli import app
from visenv.errors import DatasetError, InvalidData, UnknownName
from visenv.evaluation import EvalConfig, evaluate
from visenv.export import Filters, export_run, load_set
from visenv.protocol import parse_turn
from visenv.types import Answer, ToolCall


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, play(folder)


@pytest.mark.parametrize("files", ["parquet", "jsonl"])
def test_every_turn_is_there_with_exactly_what_it_saw(run, tmp_path, files):
    folder, seen = run
    made = export_run(folder, tmp_path / "set", filters=Filters(faulty="keep"), files=files)
    rows = rows_of(made)
    assert {(row["episode"], row["turn"]) for row in rows} == {
        (episode, turn) for episode in (0, 3, 4, 5) for turn in range(1, len(EPISODES[episode][1]) + 1)
    } - {(4, 1)}, "The first turn of episode 4 is that of episode 3."
    for row in rows:
        was = seen[row["episode"], row["turn"]]
        assert [message["role"] for message in row["prompt"]] == [message["role"] for message in was]
        assert [joined(message["content"]) for message in row["prompt"]] == [joined(each["content"]) for each in was]
        shown = [block["image"] for message in was for block in message["content"] if block["type"] == "image"]
        assert len(shown) == len(row["images"])
        assert all(np.array_equal(np.asarray(a), b) for a, b in zip(row["images"], shown, strict=True))
        written = EPISODES[row["episode"]][1][row["turn"] - 1].replace("<image>", "< image>")
        assert row["completion"] == [{"role": "assistant", "content": [{"type": "text", "text": written}]}]
    archived = [row for row in rows if (row["episode"], row["turn"]) == (5, 2)]
    assert "Image img_0 has been archived" in str(archived[0]["prompt"])


def test_what_is_dropped_is_accounted_for(run, tmp_path):
    made = export_run(run[0], tmp_path / "set")
    assert dropped(made) == {(1,): "duplicate_episode", (2,): "low_score"}
    assert dropped(made, "dropped_turns") == {
        (3, 2): "faulty_turn",
        (3, 3): "faulty_turn",
        (4, 1): "duplicate_turn",
    }
    assert made["counts"] == {
        "episodes": {"recorded": 6, "kept": 4, "dropped": 2},
        "turns": {"kept": 12, "dropped": 3},
    }
    assert made["why"] == {
        "episodes": {"duplicate_episode": 1, "low_score": 1},
        "turns": {"duplicate_turn": 1, "faulty_turn": 2},
    }
    kept = {each["episode"]: each["turns"] for each in made["kept"]}
    assert kept == {0: [1, 2, 3], 3: [1, 4, 5, 6], 4: [2, 3], 5: [1, 2, 3]}
    assert json.loads((tmp_path / "set" / "manifest.json").read_text()) == {
        name: value for name, value in made.items() if name != "folder"
    }


def test_faulty_turns_stay_in_what_later_turns_saw(run, tmp_path):
    rows = rows_of(export_run(run[0], tmp_path / "set"))
    later = next(row for row in rows if (row["episode"], row["turn"]) == (3, 4))
    assert "just text" in str(later["prompt"])
    assert "Error (" in str(later["prompt"])
    whole = export_run(run[0], tmp_path / "other", filters=Filters(faulty="episode"))
    assert dropped(whole)[3,] == "faulty_episode"
    assert not dropped(whole, "dropped_turns")


def test_the_best_tries_of_a_sample(run, tmp_path):
    made = export_run(run[0], tmp_path / "set", filters=Filters(per_sample=1))
    assert [each["episode"] for each in made["kept"]] == [0, 4, 5], "Of equal scores, the one without faults."
    assert dropped(made) == {(1,): "duplicate_episode", (2,): "low_score", (3,): "surplus"}
    mixed = export_run(run[0], tmp_path / "mixed", filters=Filters(mixed_only=True))
    assert [each["episode"] for each in mixed["kept"]] == [0]
    assert dropped(mixed) == {
        (1,): "duplicate_episode",
        (2,): "low_score",
        (3,): "always_right",
        (4,): "always_right",
        (5,): "always_right",
    }


def test_the_patch_budget(run, tmp_path):
    """A picture of 256x256 is 8x8 tokens of 32x32 pixels."""
    rows = rows_of(export_run(run[0], tmp_path / "enough", filters=Filters(patch_budget=64)))
    assert any(len(row["images"]) == 1 for row in rows)
    made = export_run(run[0], tmp_path / "set", filters=Filters(patch_budget=63))
    assert {row["turn"] for row in rows_of(made)} == {3, 6}, "After merging, no picture is in view."
    assert made["why"]["turns"]["patch_budget"] == 2 + 3 + 2 + 2


def test_pictures_are_stored_once(run, tmp_path):
    folder = tmp_path / "set"
    made = export_run(run[0], folder, files="jsonl")
    paths = [name for line in (folder / "train-00000-of-00001.jsonl").open() for name in json.loads(line)["images"]]
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    assert files == set(paths)
    assert len(paths) > len(files) == made["pictures"]["number"]
    pixels = {cv2.imread(str(folder / name)).tobytes() for name in files}
    assert len(pixels) == len(files)
    many = tmp_path / "many"
    shutil.copytree(run[0], many)
    line = json.loads((many / "trajectories.jsonl").read_text().splitlines()[0])
    variants = []
    for number in range(8):
        line["episode"] = number
        line["turns"][2]["text"] = f"<think>{number}</think><answer>There it is.</answer>"
        line["turns"][0]["text"] = FIND.replace("Look.", f"Look, {number}.")
        variants.append(json.dumps(line) + "\n")
    (many / "trajectories.jsonl").write_text("".join(variants))
    single = export_run(many, tmp_path / "single", filters=Filters(per_sample=1))
    eight = export_run(many, tmp_path / "eight")
    assert eight["counts"]["turns"]["kept"] == 8 * 3
    assert eight["pictures"] == single["pictures"]
    sizes = [sum(file["bytes"] for file in made["files"].values()) for made in (single, eight)]
    assert sizes[1] < 1.1 * sizes[0] + 5_000, "A Parquet file holds each picture once."


@pytest.mark.parametrize(("env_id", "env"), [("RefCount-v0", {}), ("Mixed-v0", {"tasks": ["refseg", "refcount"]})])
def test_evaluations_and_other_tasks(tmp_path, env_id, env):
    config = EvalConfig(f"VisHarness/{env_id}", policy="oracle", episodes=3, env=env)
    evaluate(config, tmp_path / "run")
    made = export_run(tmp_path / "run", tmp_path / "set")
    assert made["counts"]["episodes"]["kept"] == 3
    for row in load_set(made["folder"]):
        assert isinstance(parse_turn(row["completion"][0]["content"][0]["text"]), (ToolCall, Answer))
    assert export_run(tmp_path / "run", tmp_path / "prompts", to="verl")["rows"] == 3


def test_a_set_is_whole_or_not_there(run, tmp_path):
    folder = tmp_path / "sets" / "set"

    def stop(done, total):
        if done == 2:
            raise RuntimeError("the power is gone")

    with pytest.raises(RuntimeError, match="power"):
        export_run(run[0], folder, files="jsonl", progress=stop)
    assert not list(folder.parent.iterdir())
    export_run(run[0], folder, files="jsonl")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(InvalidData, match="already"):
        export_run(run[0], folder)
    with pytest.raises(RuntimeError, match="power"):
        export_run(run[0], folder, overwrite=True, progress=stop)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    export_run(run[0], folder, overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "train-00000-of-00001.parquet"]
    assert [path.name for path in folder.parent.iterdir()] == ["set"]


def test_a_folder_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InvalidData, match="Cannot write to .*: Not a directory"):
        export_run(run[0], tmp_path / "file" / "set")


def test_nothing_of_others_is_overwritten(run, tmp_path):
    with pytest.raises(InvalidData, match="something else than a training set"):
        export_run(run[0], run[0], overwrite=True)
    export_run(run[0], tmp_path / "set")
    (tmp_path / "set" / "notes.txt").write_text("mine")
    with pytest.raises(InvalidData, match=r"more than a training set \(notes.txt\)"):
        export_run(run[0], tmp_path / "set", overwrite=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InvalidData, match="is a file"):
        export_run(run[0], tmp_path / "file", overwrite=True)


@pytest.mark.parametrize("to", ["sft", "sharegpt", "verl"])
def test_equal_runs_give_equal_bytes_in_shards(run, tmp_path, to):
    sets = [export_run(run[0], tmp_path / name, to=to, shard_rows=2) for name in "ab"]
    assert sets[0]["files"] == sets[1]["files"]
    rows = [file["rows"] for file in sets[0]["files"].values()]
    assert rows == ([2, 1] if to == "verl" else [2] * 6)
    assert len(load_set(sets[0]["folder"])) == sum(rows)


def test_what_is_loaded_is_what_is_there_now(run, tmp_path):
    for filters, rows in ((Filters(), 12), (Filters(per_sample=1), 9)):
        assert len(rows_of(export_run(run[0], tmp_path / "set", filters=filters, overwrite=True))) == rows


def test_a_set_does_not_reach_out_of_its_folder(run, tmp_path):
    made = export_run(run[0], tmp_path / "set", files="jsonl")
    path = tmp_path / "set" / "train-00000-of-00001.jsonl"
    path.write_text(path.read_text().replace("images/", "../images/"))
    with pytest.raises(DatasetError, match="relative path"):
        load_set(made["folder"])
    with pytest.raises(InvalidData, match="visenv export wrote"):
        load_set(run[0])


def test_what_is_asked_for_is_checked(run, tmp_path):
    with pytest.raises(UnknownName, match="Known: sft, sharegpt, grpo, trl, verl"):
        export_run(run[0], tmp_path / "set", to="alpaca")
    with pytest.raises(InvalidData, match="jsonl"):
        export_run(run[0], tmp_path / "set", to="sharegpt", files="parquet")
    folder = changed(run, tmp_path, lambda record: None)
    lines = (folder / "trajectories.jsonl").read_text().splitlines(keepends=True)
    (folder / "trajectories.jsonl").write_text(lines[2])
    with pytest.raises(InvalidData, match="nothing is left: 1 low_score"):
        export_run(folder, tmp_path / "set")
    for bad in ({"min_iou": 1.5}, {"max_count_error": -1}, {"patch_budget": 0}, {"per_sample": True}, {"faulty": "x"}):
        with pytest.raises(InvalidData, match=next(iter(bad))):
            Filters(**bad)


def test_the_command(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run[0], folder)
    told = CliRunner().invoke(app, ["export", str(folder), "--json"])
    assert told.exit_code == 0, told.output
    document = json.loads(told.stdout)
    assert document["rows"] == 12
    assert document["folder"] == str(tmp_path / "run-sft")
    assert "kept" not in document, "The long lists are in the manifest."
    shown = CliRunner().invoke(
        app, ["export", str(folder), "--to", "sharegpt", "--faulty", "keep", "--per-sample", "1"]
    )
    assert "9 rows of sharegpt" in shown.output
    again = CliRunner().invoke(app, ["export", str(folder)])
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    other = CliRunner().invoke(
        app, ["export", str(folder), "--overwrite", "--env", "max_turns=3", "--env", "experts=oracle"]
    )
    assert other.exit_code == 2
    assert "Turns left" in other.stderr
    assert CliRunner().invoke(app, ["export", str(folder), "--overwrite", "--env", "max_turns"]).exit_code == 2
