"""The page of a training run: what it says, that it needs nothing else, and that no file can break it."""

import json
import re
import shutil
import sys

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.test_report import HOSTILE, read
from tests.test_wrappers import ANSWER, FIND, MERGE, make, play
from visenv.errors import InvalidData, MissingDependency
from visenv.report.plots import OWN_TOOLS, TOOLS, Palette, turns_plot
from visenv.report.samples import MOST_SAMPLES
from visenv.report.training import write_training_page
from visenv.report.training_files import TrainingRun, figure
from visenv.wrappers import RecordTrajectories

CONFIG = {
    "env_id": "VisHarness/ReasonSeg-v0",
    "algo": "ppo",
    "steps": 4096,
    "seed": 3,
    "n_envs": 16,
    "eval_episodes": 40,
    "env": {"difficulty": 1, "token_budget": None},
    "hyperparameters": {"learning_rate": 0.001},
}


def rollouts(count):
    for index in range(1, count + 1):
        share = index / count
        yield {
            "steps": 1024 * index,
            "seconds": 30.0 * index,
            "episodes": 100,
            "reward": 5 * share - 3,
            "turns": 4.0,
            "metrics": {"gIoU": 0.1 + 0.5 * share, "cIoU": 0.2},
            "steps_per_second": 34.1,
            "calls": {"PhraseToBoxMask": share, "Answer": 1 - share, "malformed": 0.01},
            "errors": 0.5 - 0.4 * share,
        }


def result(value, reward, name="gIoU"):
    return {
        "episodes": 40,
        "metrics": {name: value, f"{name}_n": 40.0, f"{name}_failed": 2.0, "T_acc": 0.9, "T_acc_failed": 7.0},
        "interval": [value - 0.05, value + 0.05],
        "reward_mean": reward,
        "reward_std": 1.5,
        "turns_mean": 3.2,
        "errors": 0.125,
        "calls_by_turn": [{"PhraseToBoxMask": 30, "Answer": 10}, {"MergeBoxMask": 20}, {"Answer": 20}],
    }


def evaluation(trained=0.55, gap=0.9, name="gIoU", higher=True):
    return {
        "split": "val",
        "headline": name,
        "higher_is_better": higher,
        "policies": {
            "random": result(0.1, -2.5, name),
            "single": result(0.4, 0.5, name),
            "scripted": result(0.6, 2.0, name),
            "trained": result(trained, 1.75, name),
        },
        "by_difficulty": {str(level): result(0.8 - 0.2 * level, 1.0, name) for level in range(3)},
        "gap_closed": gap,
    }


def write(folder, *, config=CONFIG, curve=None, judged=None):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    lines = list(rollouts(4)) if curve is None else curve
    (folder / "curve.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "evaluation.json").write_text(json.dumps(evaluation() if judged is None else judged))
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training run with everything, its samples really played."""
    folder = write(tmp_path_factory.mktemp("training") / "run")
    for side, calls in (("before", (FIND, {"name": "NoSuchTool"}, ANSWER)), ("after", (FIND, MERGE, ANSWER))):
        env = RecordTrajectories(make(), folder / side, {"policy": f"{side} training"})
        for index in range(2):
            play(env, index, calls)
        env.close()
    return folder


@pytest.fixture
def run(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def table(path):
    """The table's rows, as lists of texts."""
    rows = re.findall(r"<tr.*?</tr>", path.read_text(encoding="utf-8"), re.DOTALL)
    return [[re.sub("<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


def test_the_table_compares_the_policies(run):
    path = write_training_page(run)
    head, *rows = table(path)
    assert head == ["policy", "episodes", "gIoU", "95% interval", "T_acc", "reward", "turns", "faulty"]
    assert [row[0].split()[0] for row in rows] == ["random", "single", "scripted", "trained"]
    assert rows[3][1:] == ["40", "0.550", "", "0.900 7 failed", "+1.75 ± 1.50", "3.2", "12%"]
    source = path.read_text(encoding="utf-8")
    assert re.findall(r'class="best">([\d.]+)<', source) == ["0.600"]
    assert "0.500 to 0.600" in source


def test_the_page_says_what_was_trained_and_how_far(run):
    page = read(write_training_page(run))
    for said in ("VisHarness/ReasonSeg-v0", "ppo", "learning_rate 0.001", "difficulty", "4,096", "2.0", "minutes"):
        assert said in page.text, said
    assert "token_budget" not in page.text
    assert "Training closed 90% of the gap between random (0.100) and scripted (0.600) in gIoU." in page.text


@pytest.mark.parametrize(
    ("judged", "said"),
    [
        (evaluation(0.7, 1.2), "The trained policy (0.700) ends above scripted"),
        (evaluation(0.05, -0.1), "The trained policy (0.050) is worse than random"),
        (evaluation(0.5, None), "All policies play the same samples"),
        (evaluation(0.15, 0.1, "MAE", False), "scripted (0.600) is no better than random (0.100)"),
    ],
)
def test_the_verdict_fits_the_figures(tmp_path, judged, said):
    assert said in read(write_training_page(write(tmp_path, curve=[], judged=judged))).text


def test_the_least_is_best_where_lower_is_better(tmp_path):
    path = write_training_page(write(tmp_path, curve=[], judged=evaluation(0.05, 0.9, "MAE", False)))
    assert re.findall(r'class="best">([\d.]+)<', path.read_text(encoding="utf-8")) == ["0.050"]
    assert "MAE, lower is better" in read(path).text


def test_every_plot_is_named_and_says_in_words_what_it_shows(run):
    page = read(write_training_page(run))
    words = [attributes["aria-label"] for name, attributes in page.elements if name == "svg"]
    assert words == [
        "gIoU from 0.225 to 0.600 in 4,096 steps of training.",
        "reward from -1.750 to 2.000 in 4,096 steps of training.",
        "Most called at first: Answer; at last: PhraseToBoxMask. Faulty turns: 40% at first, 10% at last.",
        "What the trained policy calls at each difficulty, and the gIoU that it comes to.",
        "Most often: PhraseToBoxMask, then MergeBoxMask, then Answer.",
        "Most often: PhraseToBoxMask, then MergeBoxMask, then Answer.",
    ]
    # Lines and bars are told apart by words, not by colour alone.
    for said in ("random 0.1", "single 0.4", "scripted 0.6", "trained 0.55", "minutes", "turn 1, Answer: 25%"):
        assert said in page.text, said
    assert "difficulty 0, MergeBoxMask: 25%" in page.text


def test_the_plots_follow_the_pages_colours_and_share_no_names(run):
    source = write_training_page(run).read_text(encoding="utf-8")
    drawn = "".join(re.findall(r"<svg.*?</svg>", source, re.DOTALL))
    assert not re.search(r"(fill|stroke): #0000", drawn)
    assert set(re.findall(r"var\(--([\w-]+)\)", drawn)) <= set(re.findall(r"--([\w-]+):", source))
    names = re.findall(r' id="([^"]+)"', source)
    assert len(names) == len(set(names))
    assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', drawn))
    assert {one or other for one, other in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', drawn)} <= set(names)


def test_samples_stand_side_by_side(run):
    page = read(write_training_page(run))
    cards = [attributes["id"] for _, attributes in page.elements if attributes.get("class") == "episode"]
    assert cards == ["before-0-0", "after-0-0", "before-1-1", "after-1-1"]
    assert len([1 for _, attributes in page.elements if attributes.get("class") == "sample"]) == 2
    for said in ("NoSuchTool", "gIoU0.000 → 1.000", "Before training", "After training"):
        assert said in page.text, said
    links = [attributes["href"] for name, attributes in page.elements if name == "a"]
    assert links == ["before/index.html", "after/index.html"]


def test_a_recorded_run_without_a_page_gets_one(run):
    (run / "after" / "index.html").unlink()
    write_training_page(run)
    assert "squares/1" in read(run / "after" / "index.html").text


def test_the_page_needs_nothing_else(run):
    path = write_training_page(run)
    page = read(path)
    for name, attributes in page.elements:
        assert attributes.get("src", "data:").startswith("data:") or attributes["src"] == "", name
        if name != "a":
            assert attributes.get("href", "#").startswith("#"), name
    names = [name for name, _ in page.elements]
    assert not {"link", "iframe", "object", "base", "image"} & set(names)
    assert names.count("script") == 1
    source = path.read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\((?!#)", source)
    (policy,) = [each["content"] for name, each in page.elements if each.get("http-equiv")]
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy


def test_equal_folders_give_equal_bytes_whatever_the_users_settings(run):
    first = write_training_page(run).read_bytes()
    with mpl.rc_context({"lines.linewidth": 9.0, "font.size": 30.0, "svg.hashsalt": None}):
        assert write_training_page(run).read_bytes() == first
        assert mpl.rcParams["lines.linewidth"] == 9.0
    assert mpl.rcParams["svg.fonttype"] == mpl.rcParamsDefault["svg.fonttype"]


def test_a_run_that_was_killed_is_shown_as_far_as_it_got(run):
    (run / "evaluation.json").unlink()
    shutil.rmtree(run / "after")
    with (run / "curve.jsonl").open("a") as file:
        file.write('{"steps": 5120, "seco')
    page = read(write_training_page(run))
    assert "There is no evaluation" in page.text
    assert "1 lines of curve.jsonl could not be read" in page.text
    assert "gIoU from 0.225 to 0.600" in page.text
    assert "This sample was not played" in page.text


def test_a_run_that_has_just_begun(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    page = read(write_training_page(tmp_path))
    assert "No rollout has ended" in page.text
    assert "svg" not in [name for name, _ in page.elements]


def test_rollouts_in_which_no_episode_ended_leave_gaps(tmp_path):
    lines = [*rollouts(3), {"steps": 4096, "seconds": None, "reward": None, "metrics": {}, "calls": {}, "errors": None}]
    lines[0] |= {"reward": None, "metrics": {}}
    page = read(write_training_page(write(tmp_path, curve=lines)))
    assert "gIoU from 0.433 to 0.600 in 3,072 steps" in page.text


def test_where_tasks_are_mixed_the_reward_is_the_headline(tmp_path):
    judged = evaluation(name="reward")
    path = write_training_page(write(tmp_path, judged=judged))
    assert table(path)[0] == ["policy", "episodes", "reward", "95% interval", "T_acc", "turns", "faulty"]
    labels = [each["aria-label"] for name, each in read(path).elements if name == "svg"]
    assert len([label for label in labels if label.startswith("reward from")]) == 1


def hostile(value):
    """The same structure with every text, and every name that nobody has to know, replaced."""
    if isinstance(value, dict):
        return {key: hostile(each) for key, each in value.items()} | {HOSTILE: 1.0, "\ud800$x_{1}$": HOSTILE}
    if isinstance(value, list):
        return [hostile(each) for each in value]
    return HOSTILE + "\ud800" if isinstance(value, str) else value


def test_hostile_text_stays_text(run):
    judged = hostile(evaluation())
    judged["policies"][HOSTILE] = judged["by_difficulty"][HOSTILE] = hostile(result(0.3, 1.0))
    for each in (*judged["policies"].values(), *judged["by_difficulty"].values()):
        if isinstance(each, dict):
            each["metrics"][judged["headline"]] = 0.25
    write(run, config=hostile(CONFIG), curve=[hostile(line) for line in rollouts(3)], judged=judged)
    for side in ("before", "after"):
        path = run / side / "trajectories.jsonl"
        records = [json.loads(line) for line in path.read_text().splitlines()]
        for record in records:
            record |= {"sample_id": HOSTILE, "query": HOSTILE, "termination": HOSTILE}
            record["turns"][0] |= {"reply": HOSTILE, "name": HOSTILE, "pictures": [HOSTILE, 3, "../../config.json"]}
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    page = read(write_training_page(run))
    names = [name for name, _ in page.elements]
    assert names.count("script") == 1
    assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on")]
    assert [each for name, each in page.elements if name == "img" and each["src"] == "x"] == []
    assert "alert(1)" in page.text
    source = (run / "index.html").read_text(encoding="utf-8")
    assert "\u202e" not in source
    assert "\x00" not in source


@pytest.mark.parametrize("content", ["", "[]", '{"policies": {"trained": []}}', "[" * 9999])
def test_files_of_something_else_break_nothing(tmp_path, content):
    write(tmp_path)
    for name in ("config.json", "curve.jsonl", "evaluation.json"):
        (tmp_path / name).write_text(content)
    for side in ("before", "after"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "trajectories.jsonl").write_text(content)
    assert "Training" in read(write_training_page(tmp_path)).text


STRANGE = [None, float("nan"), -1e300, 10**400, "x", True, [[1, 2]], {"a": {"b": None}}]


@pytest.mark.parametrize("strange", STRANGE, ids=lambda strange: repr(strange)[:12])
def test_values_of_other_types_break_nothing(run, strange):
    judged = evaluation()
    judged["policies"] = {
        "random": dict.fromkeys(result(0, 0), strange),
        "single": result(0.5, 1.0) | {"interval": [strange, 0.5], "calls_by_turn": [strange, {"Answer": strange}]},
        "scripted": result(0.5, 1.0) | {"metrics": {"gIoU": strange, "T_acc": 0.5, "T_acc_failed": strange}},
        "trained": strange,
    }
    judged |= {"gap_closed": strange, "by_difficulty": {"0": strange, "1": result(0.5, 1.0)}}
    lines = [{**line, key: strange} for line in rollouts(2) for key in line]
    write(run, curve=[strange, *lines], judged=judged, config={**CONFIG, "env": strange, "seed": strange})
    for side, key in (("before", "turns"), ("after", "metrics")):
        path = run / side / "trajectories.jsonl"
        records = [json.loads(line) | {key: strange} for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert "Evaluation on val" in read(write_training_page(run)).text


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries({}, optional={key: JSON_VALUES for key in ("policies", "headline", "interval", "metrics")})
)
def test_whatever_is_read_is_figures_or_nothing(tmp_path_factory, values):
    folder = tmp_path_factory.getbasetemp() / "any"
    write(
        folder,
        curve=[values | {"steps": 1}],
        judged={"policies": {"trained": values, "random": values.get("policies")}},
    )
    loaded = TrainingRun.load(folder)
    for each in loaded.evaluation.policies.values():
        assert all(figure(value) == value for value in each.metrics.values())
        assert each.interval is None or each.interval[0] <= each.interval[1]
    assert [point.steps for point in loaded.curve] == [1.0]


def test_large_pictures_are_made_small(run):
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    for side in ("before", "after"):
        Image.fromarray(noise).save(run / side / "pictures" / "noise.jpg", quality=95)
        path = run / side / "trajectories.jsonl"
        record = json.loads(path.read_text().splitlines()[0])
        record["turns"][0] |= {"pictures": ["pictures/noise.jpg"] * 100, "shown": ["img_0"] * 100}
        lines = [json.dumps(record | {"sample_id": f"squares/{index}"}) for index in range(MOST_SAMPLES + 3)]
        path.write_text("\n".join(lines))
    path = write_training_page(run)
    page = read(path)
    samples = len([1 for _, attributes in page.elements if attributes.get("class") == "sample"])
    assert 1 <= samples < MOST_SAMPLES
    assert f"And {MOST_SAMPLES + 3 - samples} more." in page.text
    assert path.stat().st_size < 3_000_000


def test_a_folder_without_a_training_run(tmp_path):
    with pytest.raises(InvalidData, match=r"config\.json"):
        write_training_page(tmp_path)


def test_a_page_that_cannot_be_written(tmp_path):
    (write(tmp_path, curve=[]) / "index.html.partial").mkdir()
    with pytest.raises(InvalidData, match="Cannot write the page"):
        write_training_page(tmp_path)


def test_without_matplotlib_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependency, match=r"visenv\[train\]"):
        write_training_page(write(tmp_path))


def test_tools_beyond_the_colours_are_shown_together():
    own = [f"Tool{index}" for index in range(OWN_TOOLS + 3)]
    palette = Palette([*TOOLS, "other", *own])
    assert palette.labels[-3:] == ("other", "Answer", "malformed")
    assert len({palette.variable(label) for label in palette.labels}) == len(palette.labels)
    amounts = dict(zip(palette.labels, palette.amounts({"Answer": 1.0, **dict.fromkeys(own, 2.0)}), strict=True))
    assert amounts["other"] == 6.0
    assert amounts["Tool0"] == 2.0
    assert sum(amounts.values()) == 1.0 + 2.0 * len(own)


def test_bars_are_as_high_as_their_shares():
    drawn = turns_plot("bars", Palette(["Answer", "MergeBoxMask"]), [{"MergeBoxMask": 3, "Answer": 1}], "words")
    heights = []
    for path in re.findall(r'class="tip">.*?<path d="([^"]+)"', drawn):
        ys = [float(y) for y in re.findall(r"[ML] [-\d.]+ ([-\d.]+)", path)]
        heights.append(max(ys) - min(ys))
    assert heights[0] == pytest.approx(3 * heights[1], rel=1e-3)
