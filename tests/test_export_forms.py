"""The forms of training sets: a row is what a model is given and what it writes, for each trainer."""

import json
import runpy

import datasets
import numpy as np
import pytest
from export_runs import DONE, ENV_ID, EXAMPLE, FIND, KEYWORDS, MERGE, call, dropped, joined, play, rows_of
from pyarrow import parquet

from visenv.adapters.trl import environment_class, to_hf_dataset
from visenv.adapters.verl.data import to_parquet
from visenv.errors import InvalidData
from visenv.export import Filters, export_run, load_set
from visenv.export.examples import Example
from visenv.export.formats import FORMS, checked_row
from visenv.protocol import get_dialect, parse_turn
from visenv.protocol.openai import OpenAI
from visenv.rewards.visharness import compute_score
from visenv.tools.toolsets import VISHARNESS
from visenv.types import Answer, Malformed, ToolCall


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, play(folder)


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
