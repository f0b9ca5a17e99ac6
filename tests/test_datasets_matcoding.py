"""Damaged pictures: what is damaged and asked, and the data set of the publication."""

import json

import gymnasium as gym
import numpy as np
import pytest
from bright_boxes import picture
from stubs import SquareDataset

from visenv.datasets.damage import DAMAGES, damage
from visenv.datasets.damaged_scenes import ANSWERS, DamagedPictures, DamagedScenes
from visenv.datasets.matcoding import MatCoding
from visenv.errors import DatasetError, InvalidData
from visenv.images import to_png_bytes
from visenv.policies.plans.matcoding import diagnose
from visenv.rewards.functional import mending

# --- what is damaged, and asked ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_the_same_from_the_same_seed_and_harms(name):
    clean = DamagedScenes("val", 1).get(0).truth.clean
    for strength in range(4):
        one, two = (damage(clean, (name,), np.random.default_rng(3), strength) for _ in range(2))
        assert np.array_equal(one, two)
        assert mending(one, one, clean) < 0.2
    with pytest.raises(InvalidData, match="a damage out of"):
        damage(clean, ("rust",), np.random.default_rng(0))


@pytest.mark.parametrize("difficulty", range(4))
def test_scenes_are_asked_about_what_they_show(difficulty):
    data, other = DamagedScenes("val", difficulty), DamagedScenes("test", difficulty)
    kinds = set()
    for index in range(12):
        sample = data.get(index)
        again = data.find(sample.sample_id)
        assert np.array_equal(sample.image, again.image)
        assert sample.truth.answers[0] in ANSWERS[sample.metadata["asked"]]
        assert len(sample.truth.damage) <= (1 if difficulty < 2 else 2)
        assert np.array_equal(sample.image, sample.truth.clean) == (not sample.truth.damage)
        assert not np.array_equal(sample.truth.clean, other.get(index).truth.clean)
        kinds |= set(sample.truth.damage)
    assert len(kinds) >= 3
    assert data.size == 500
    assert DamagedScenes("train", difficulty).size is None


def test_what_does_not_exist_is_refused():
    with pytest.raises(DatasetError, match="split out of"):
        DamagedScenes("dev", 1)
    with pytest.raises(DatasetError, match="difficulty"):
        DamagedScenes("val", 4)
    with pytest.raises(IndexError):
        DamagedScenes("val", 1).get(500)
    with pytest.raises(DatasetError, match="identifier"):
        DamagedScenes("val", 1).find("scenes/matcoding/d1/val/500")
    with pytest.raises(DatasetError, match="difficulty"):
        DamagedPictures(SquareDataset(), 7)


def test_pictures_of_other_data_sets_can_be_damaged():
    data = DamagedPictures(SquareDataset(), 3)
    sample = data.get(1)
    assert np.array_equal(data.find(sample.sample_id).image, sample.image)
    assert np.array_equal(sample.truth.clean, SquareDataset().get(1).image)
    assert sample.truth.answers == ()
    assert data.draw(np.random.default_rng(0)).task == "restoration"
    assert data.size == 3


@pytest.mark.parametrize("difficulty", [1, 3])
def test_a_rule_finds_what_is_wrong(difficulty):
    right = 0
    for index in range(20):
        sample = DamagedScenes("val", difficulty).get(index)
        seen = {name for name in sample.truth.damage if not name.startswith("rotation")}
        right += set(diagnose(sample.image)) == seen
    assert right >= 18


# --- the data set of the publication ----------------------------------------------------------------------------------


def folder(tmp_path, **changes):
    for name in ("ori.png", "sub/bad.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(to_png_bytes(picture(len(name))))
    record = {
        "id": 7,
        "question": "What colour?",
        "answers": ["red", "dark red"],
        "ori_image_path": "ori.png",
        "processed_image_path": "sub/bad.png",
        "type": "rotation90+dark",
        "split": "hard",
    }
    records = [record | changes, record | {"id": "b", "split": "simple", "answers": "blue", "type": ["none"]}]
    (tmp_path / "MAT-Coding.json").write_text(json.dumps(records))
    return tmp_path


def test_a_folder_in_the_published_layout_is_read(tmp_path):
    data = MatCoding(folder(tmp_path), split="hard")
    sample = data.get(0)
    assert (data.size, sample.sample_id, sample.query) == (1, "hard/7", "What colour?")
    assert np.array_equal(sample.image, picture(len("sub/bad.png")))
    assert np.array_equal(sample.truth.clean, picture(len("ori.png")))
    assert (sample.truth.damage, sample.truth.answers) == (("rotation90", "dark"), ("red", "dark red"))
    easy = MatCoding(tmp_path, split="simple").get(0).truth
    assert (easy.damage, easy.answers) == ((), ("blue",))
    env = gym.make("VisHarness/MATCoding-v0", dataset=f"matcoding:{tmp_path}", split="hard", experts="oracle")
    assert env.reset(seed=0)[1]["query"] == "What colour?"
    (tmp_path / "MAT-Coding.json").rename(tmp_path / "mat.json")
    assert MatCoding(tmp_path, split="hard").size == 1


@pytest.mark.parametrize("name", ["../out.png", "/etc/passwd", "sub/../../out.png", "link.png", "nothing.png", 5, None])
def test_paths_that_lead_outside_are_refused(tmp_path, name):
    (tmp_path / "out.png").write_bytes(to_png_bytes(picture()))
    inside = tmp_path / "data"
    inside.mkdir()
    (inside / "link.png").symlink_to(tmp_path / "out.png")
    for field in ("ori_image_path", "processed_image_path"):
        data = MatCoding(folder(inside, **{field: name}), split="hard")
        with pytest.raises(DatasetError):
            data.get(0)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "rust"},
        {"type": None},
        {"answers": []},
        {"answers": [""]},
        {"answers": {"a": 1}},
        {"question": " "},
        {"question": ["x"]},
        {"answers": ["x"] * 101},
    ],
)
def test_broken_records_are_refused_when_they_are_asked_for(tmp_path, change):
    data = MatCoding(folder(tmp_path, **change), split="hard")
    with pytest.raises(DatasetError):
        data.get(0)


def test_broken_files_are_refused_at_once(tmp_path):
    with pytest.raises(DatasetError, match="no split 'train': there are 'hard', 'simple'"):
        MatCoding(folder(tmp_path), split="train")
    with pytest.raises(DatasetError, match="there twice"):
        MatCoding(folder(tmp_path, id="b", split="simple"), split="simple")
    for text in ("{}", "[1]", "[{}]", "not JSON", '[{"split": 3}]'):
        (tmp_path / "MAT-Coding.json").write_text(text)
        with pytest.raises(DatasetError):
            MatCoding(tmp_path, split="hard")
    (tmp_path / "MAT-Coding.json").unlink()
    with pytest.raises(DatasetError, match="one other JSON file"):
        MatCoding(tmp_path, split="hard")
