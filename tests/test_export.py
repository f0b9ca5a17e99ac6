"""Training sets: what is kept of a run, that every turn is there as it was seen, and that a set is whole or absent."""

import json
import runpy
import shutil
from pathlib import Path

import cv2
import datasets
import gymnasium as gym
import numpy as np
import pytest
from pyarrow import parquet
from stubs import BrightExpert, SquareDataset
from typer.testing import CliRunner

from visenv.adapters.trl import environment_class, to_hf_dataset
from visenv.adapters.verl.data import to_parquet
from visenv.cli import app
from visenv.errors import DatasetError, InvalidData, UnknownName
from visenv.evaluation import EvalConfig, evaluate
from visenv.export import Filters, ReplayError, export_run, load_set
from visenv.export.examples import Example
from visenv.export.formats import FORMS, checked_row
from visenv.export.runs import LINE_BYTES
from visenv.protocol import get_dialect, parse_turn
from visenv.protocol.openai import OpenAI
from visenv.rewards.visharness import compute_score
from visenv.tools.toolsets import VISHARNESS
from visenv.types import Answer, Malformed, ToolCall
from visenv.wrappers import RecordTrajectories

datasets.disable_progress_bars()

ENV_ID = "VisHarness/RefSeg-v0"
EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "own_tool.py"
KEYWORDS = {"dataset": "scenes", "split": "val", "experts": "oracle"}


def call(name, thought="", **arguments):
    return f"<think>{thought}</think><tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


FIND = call("PhraseToBoxMask", "Look.", images=["img_0"], phrase="it")
MERGE = call("MergeBoxMask", images=["img_0"])
WRONG = call("MergeBoxMask", images=["img_7"])
DONE = "<think></think><answer>There it is, not an <image>.</answer>"
EPISODES = [
    (0, [FIND, MERGE, DONE]),
    (0, [FIND, MERGE, DONE]),  # the same once more
    (0, [DONE]),  # nothing found
    (1, [FIND, "just text", WRONG, FIND, MERGE, DONE]),
    (1, [FIND, MERGE, DONE]),
    (2, [FIND, MERGE, DONE]),
]


def play(folder, episodes=EPISODES, policy="mine", **keywords):
    """Record episodes; what was seen before each turn, by episode and turn."""
    keywords = {**KEYWORDS, "action_mode": "text", **keywords}
    env = gym.make(ENV_ID, obs="features", **keywords)
    settings = {"policy": policy, **{name: value for name, value in keywords.items() if isinstance(value, str)}}
    recorder = RecordTrajectories(env, folder, settings, pictures=False, page=None)
    seen = {}
    for number, (index, turns) in enumerate(episodes):
        recorder.reset(options={"index": index})
        for turn, text in enumerate(turns, 1):
            seen[number, turn] = env.unwrapped.episode.messages()
            recorder.step(text)
        assert env.unwrapped.episode.done
    recorder.close()
    return seen


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, play(folder)


def rows_of(made):
    return list(load_set(made["folder"]))


def dropped(made, of="dropped"):
    return {(each["episode"], *([each["turn"]] if "turn" in each else [])): each["why"] for each in made[of]}


def joined(content):
    """Neighbouring texts as one, pictures as None."""
    out = []
    for block in content:
        if block["type"] == "image":
            out.append(None)
        elif out and out[-1] is not None:
            out[-1] += block["text"]
        else:
            out.append(block["text"])
    return out


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


def test_a_set_loads_without_visenv(run, tmp_path):
    made = export_run(run[0], tmp_path / "set")
    plain = datasets.load_dataset(made["folder"], split="train", cache_dir=str(tmp_path / "cache"))
    assert plain.features["images"] == datasets.List(datasets.Image())
    assert plain[0]["images"][0].size == (256, 256)
    assert plain[:]["turn"] == load_set(made["folder"])[:]["turn"]


def test_sharegpt_has_a_place_for_every_picture(run, tmp_path):
    made = export_run(run[0], tmp_path / "set", to="sharegpt", filters=Filters(faulty="keep"))
    rows = rows_of(made)
    assert len(rows) == 14
    for row in rows:
        speakers = [said["from"] for said in row["conversations"]]
        assert speakers == ["human", "gpt"] * (len(speakers) // 2)
        texts = [row["system"], *(said["value"] for said in row["conversations"])]
        assert sum(text.count("<image>") for text in texts) == len(row["images"])
    last = next(row for row in rows if (row["episode"], row["turn"]) == (0, 3))
    assert last["conversations"][-1]["value"] == DONE.replace("<image>", "< image>")
    info = json.loads((tmp_path / "set" / "dataset_info.json").read_text())
    assert info["visenv"]["file_name"] == "train-00000-of-00001.jsonl"
    assert info["visenv"]["columns"] == {"messages": "conversations", "system": "system", "images": "images"}


@pytest.mark.parametrize("form", [form for form in FORMS.values() if form.pictures], ids=lambda form: form.name)
def test_a_row_with_a_picture_too_few_or_too_many_is_refused(form):
    """Where a text holds what a trainer would take for the place of a picture, too."""
    facts = dict.fromkeys(("env_id", "task", "index", "split", "sample_id", "silent_score", "tries", "success"), 0)
    said = [{"type": "text", "text": "Look:"}, {"type": "image"}]
    messages = ({"role": "system", "content": said[:1]}, {"role": "user", "content": said})
    assert checked_row(form, Example(messages, ("a",), "done", facts))["images"] == ["a"]
    for images in ((), ("a", "b")):
        with pytest.raises(InvalidData, match="as many places as pictures"):
            checked_row(form, Example(messages, images, "done", facts))
    if form.name in ("sharegpt", "verl"):
        forged = ({"role": "system", "content": [{"type": "text", "text": "<image>"}]}, messages[1])
        with pytest.raises(InvalidData, match="got 2 and 1"):
            checked_row(form, Example((*forged,), ("a",), "done", facts))


@pytest.mark.parametrize("to", ["grpo", "trl", "verl"])
def test_prompts_are_a_row_a_sample(run, tmp_path, to):
    made = export_run(run[0], tmp_path / "set", to=to)
    rows = rows_of(made)
    info = [row["extra_info"] if to == "verl" else row for row in rows]
    assert [one["sample_id"] for one in info] == [f"scenes/refseg/d1/val/{number}" for number in range(3)]
    assert [(one["tries"], one["success"]) for one in info] == [(3, 0.666667), (2, 1.0), (1, 1.0)]
    mixed = export_run(run[0], tmp_path / "mixed", to=to, filters=Filters(mixed_only=True))
    assert (mixed["rows"], mixed["why"]) == (1, {"samples": {"always_right": 2}})


def test_the_prompts_of_grpo_and_verl_are_what_an_episode_begins_with(run, tmp_path):
    begins = run[1][5, 1]
    grpo = rows_of(export_run(run[0], tmp_path / "grpo", to="grpo"))[2]
    verl = rows_of(export_run(run[0], tmp_path / "verl", to="verl"))[2]
    assert [joined(message["content"]) for message in grpo["prompt"]] == [joined(each["content"]) for each in begins]
    texts = ["".join(part or "<image>" for part in joined(each["content"])) for each in begins]
    assert [message["content"] for message in verl["prompt"]] == texts
    for row in (grpo, verl):
        assert np.array_equal(np.asarray(row["images"][0]), begins[1]["content"][-1]["image"])
    assert set(verl) == {"data_source", "prompt", "images", "ability", "reward_model", "extra_info", "agent_name"}
    assert verl["reward_model"] == {"style": "rule", "ground_truth": grpo["ground_truth"]}
    assert (verl["data_source"], verl["ability"], verl["agent_name"]) == (ENV_ID, "refseg", "visenv")
    assert verl["extra_info"]["silent_score"] == -3.0
    truth = json.loads(grpo["ground_truth"])
    found = {"final_masks": [truth["data"]], "final_bboxes": [[0, 0, 1, 1]], "count": 1}
    extra = {"turn_records": [], "final_results": found, "trajectory_finished": True, "trajectory_invalid": False}
    assert compute_score("visharness", "", grpo["ground_truth"], extra)["iou"] == 1.0


def test_the_rows_of_verl_are_those_of_its_adapter(run, tmp_path):
    to_parquet(ENV_ID, tmp_path / "direct.parquet", size=3, **KEYWORDS)
    made = export_run(run[0], tmp_path / "set", to="verl")
    theirs = parquet.read_table(tmp_path / "direct.parquet").to_pylist()
    ours = parquet.read_table(tmp_path / "set" / next(iter(made["files"]))).to_pylist()
    for one, other in zip(ours, theirs, strict=True):
        one["images"] = [{"bytes": image["bytes"]} for image in one["images"]]
        assert one["extra_info"].pop("tries") > 0
        assert one["extra_info"].pop("success") > 0
        assert one == other


def test_the_rows_of_trl_begin_the_episodes_of_its_adapter(run, tmp_path):
    rows = rows_of(export_run(run[0], tmp_path / "set", to="trl"))
    assert [row["prompt"] for row in rows] == to_hf_dataset(ENV_ID, size=3, **KEYWORDS)["prompt"][:]
    env = environment_class(ENV_ID, **KEYWORDS)()
    for row in rows:
        env.reset(**row)
        assert env._env.episode.sample_id == row["sample_id"]


@pytest.mark.parametrize(("env_id", "env"), [("RefCount-v0", {}), ("Mixed-v0", {"tasks": ["refseg", "refcount"]})])
def test_evaluations_and_other_tasks(tmp_path, env_id, env):
    config = EvalConfig(f"VisHarness/{env_id}", policy="oracle", episodes=3, env=env)
    evaluate(config, tmp_path / "run")
    made = export_run(tmp_path / "run", tmp_path / "set")
    assert made["counts"]["episodes"]["kept"] == 3
    for row in load_set(made["folder"]):
        assert isinstance(parse_turn(row["completion"][0]["content"][0]["text"]), (ToolCall, Answer))
    assert export_run(tmp_path / "run", tmp_path / "prompts", to="verl")["rows"] == 3


def test_calls_beside_the_text_are_written_as_text(tmp_path):
    calls = [
        ToolCall("PhraseToPoint", {"images": ["img_0"], "phrase": "it"}, "Where is it?"),
        ToolCall("PointToBoxMask", {"images": ["img_0"], "mode": "area"}),
        ToolCall("MergeBoxMask", {"images": ["img_0"]}),
        Answer("There.", "Done."),
    ]
    messages = [OpenAI().to_message(call) for call in calls]
    play(tmp_path / "run", [(0, messages)], dialect="openai", action_mode="structured", policy="openai:m")
    made = export_run(tmp_path / "run", tmp_path / "set")
    rows = rows_of(made)
    assert made["dialect"] == "qwen3_vl"
    assert [parse_turn(row["completion"][0]["content"][0]["text"]) for row in rows] == calls
    with pytest.raises(InvalidData, match="calls as text"):
        export_run(tmp_path / "run", tmp_path / "other", dialect="openai")


def test_coordinates_are_written_as_models_write_them(tmp_path):
    """A program calls in pixels; a model of this dialect writes thousandths of the picture's sides."""
    zoom_in = runpy.run_path(str(EXAMPLE))["ZoomIn"]()
    keywords = {"dataset": "scenes", "split": "val", "experts": "oracle", "toolset": [*VISHARNESS, zoom_in]}
    zoom = {"name": "ZoomIn", "arguments": {"image": "img_0", "box": [64, 0, 256, 128]}}
    play(tmp_path / "run", [(0, [zoom, FIND, MERGE, DONE])], **keywords)
    made = export_run(tmp_path / "run", tmp_path / "set", env=keywords)
    first, second, *_ = rows_of(made)
    written = first["completion"][0]["content"][0]["text"]
    assert parse_turn(written) == ToolCall("ZoomIn", {"image": "img_0", "box": [250, 0, 1000, 500]})
    assert second["prompt"][2]["content"][0]["text"] == written, "Later turns see it in the same numbers."
    assert [picture.size for picture in second["images"]] == [(192, 128)]
    texts = [call("ZoomIn", image="img_0", box=[250, 0, 1000, 500]), FIND, MERGE, DONE]
    play(tmp_path / "text", [(0, texts)], **keywords)
    other = export_run(tmp_path / "text", tmp_path / "other", env=keywords, dialect="qwen3_5")
    turn = parse_turn(rows_of(other)[0]["completion"][0]["content"][0]["text"], "qwen3_5")
    frame = get_dialect("qwen3_5").frame
    assert turn.arguments["box"] == frame.write([[64, 0, 256, 128]], (256, 256), (256, 256))[0]
    assert other["run"]["env"]["toolset"] == "list object"


def test_a_call_whose_image_is_no_name_is_a_faulty_turn_in_any_dialect(tmp_path):
    keywords = {"dataset": "scenes", "split": "val", "experts": "oracle", "toolset": "interactive"}
    wrong = {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            OpenAI().to_message(ToolCall("ZoomRegion", {"image": ["img_0"], "box": [0, 0, 9, 9]}))["tool_calls"][0]
        ],
    }
    play(
        tmp_path / "run",
        [(0, [wrong, OpenAI().to_message(Answer("Nothing.", "So."))])],
        dialect="openai",
        action_mode="structured",
        policy="openai:m",
        **keywords,
    )
    made = export_run(tmp_path / "run", tmp_path / "set", env=keywords, filters=Filters(min_iou=0))
    assert made["why"]["turns"] == {"faulty_turn": 1}


def test_what_no_model_has_written_is_never_learned(tmp_path):
    bad = Malformed("bad_action", "Expected something else.")
    play(tmp_path / "run", [(0, [bad, *(parse_turn(text) for text in (FIND, MERGE, DONE))])], action_mode="structured")
    made = export_run(tmp_path / "run", tmp_path / "set", filters=Filters(faulty="keep"))
    assert dropped(made, "dropped_turns") == {(0, 1): "not_readable"}
    assert "[malformed turn: bad_action]" in str(rows_of(made)[0]["prompt"])


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


def changed(run, tmp_path, edit):
    """A copy of a run whose last episode was edited."""
    folder = tmp_path / "changed"
    shutil.copytree(run[0], folder)
    lines = (folder / "trajectories.jsonl").read_text().splitlines()
    record = json.loads(lines[-1])
    edit(record)
    (folder / "trajectories.jsonl").write_text("\n".join([*lines[:-1], json.dumps(record)]) + "\n")
    return folder


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


def test_what_is_loaded_is_what_is_there_now(run, tmp_path):
    for filters, rows in ((Filters(), 12), (Filters(per_sample=1), 9)):
        assert len(rows_of(export_run(run[0], tmp_path / "set", filters=filters, overwrite=True))) == rows


def test_records_are_checked_before_they_are_believed(run, tmp_path):
    folder = changed(run, tmp_path, lambda record: record["truth"].update(target=[{"size": [-1, 2], "counts": "x"}]))
    with pytest.raises(InvalidData, match="outcome and a truth in episode 5"):
        export_run(folder, tmp_path / "set")


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
