"""What every loader of a folder promises, on small data sets in the exact published layouts."""

import json
import pickle

import gymnasium as gym
import numpy as np
import pytest

import visenv  # noqa: F401 - registers the ids
from scripts.make_fixtures import WRITERS, write
from visenv.builtin import FOLDERS
from visenv.datasets.base import Dataset
from visenv.datasets.making import make_dataset
from visenv.errors import DatasetError, UnknownName
from visenv.types import MaskTruth

ENVIRONMENTS = {
    "reasonseg": "ReasonSeg",
    "grefseg": "GRefSeg",
    "refseg": "RefSeg",
    "densedet": "DenseDet",
    "refcount": "RefCount",
}
UNC = ("train", "val", "testA", "testB")
CASES = [
    ("reasonseg:{}/reasonseg", ("train", "val", "test")),
    ("refcoco:{}/refcoco", UNC),
    ("refcoco:{}/refcoco?by=google", ("train", "val", "test")),
    ("refcoco+:{}/refcoco+", UNC),
    ("refcocog:{}/refcocog", ("train", "val", "test")),
    ("refcocog:{}/refcocog?by=google", ("train", "val")),
    ("grefcoco:{}/grefcoco", UNC),
    ("coco:{}/coco", ("train", "val")),
    ("cocojson:{}/cocojson", ("train", "val")),
    ("rec8k:{}/rec8k", ("train", "val", "test")),
    ("fsc147:{}/fsc147", ("train", "val", "test", "val_coco")),
    ("visdrone:{}/visdrone", ("train", "val", "test")),
    ("visdrone:{}/visdrone-lines", ("test",)),
    ("dense200:{}/dense200", ("test",)),
    ("hf:{}/hf", ("train", "val")),
    ("visharness:{}/visharness", ("train", "val")),
]
SAMPLES = 4


def families(value):
    """What a fixture has samples for: that of a table has masks alone."""
    name = value.partition(":")[0]
    return ("reasonseg", "grefseg", "refseg") if name == "hf" else FOLDERS[name][2]


def opened(value, fixtures, split, family=None):
    return make_dataset(value.format(fixtures), family=family or families(value)[-1], split=split, difficulty=1)


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fixtures")
    write(folder)
    return folder


def test_every_registered_folder_has_a_case():
    written = {value.partition(":")[0] for value, _ in CASES}
    found = {name for name, (*_, families) in FOLDERS.items() if set(families) & set(ENVIRONMENTS)}
    assert written == found - {"prepared"}, "Questions are tested with their environments."
    assert {value.rpartition("/")[2].partition("?")[0] for value, _ in CASES} == set(WRITERS)


@pytest.mark.parametrize(("value", "split"), [(value, split) for value, splits in CASES for split in splits])
def test_the_oracle_scores_the_maximum(value, split, fixtures):
    for family in families(value)[-2:]:
        env = gym.make(
            f"VisHarness/{ENVIRONMENTS[family]}-v0", dataset=value.format(fixtures), split=split, experts="oracle"
        )
        highest = env.unwrapped.config.reward.bounds[1]
        size = env.unwrapped.dataset.size
        for index in sorted({*range(min(size, SAMPLES)), size - 1}):
            _, info = env.reset(options={"index": index})
            env.step({"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": info["query"]}})
            if env.unwrapped.episode.workspace.detections:
                env.step({"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}})
            step = env.step({"name": "Answer", "arguments": {"text": "done"}})
            assert step[1] == pytest.approx(highest), step[4]["sample_id"]


@pytest.mark.parametrize(("value", "splits"), CASES)
def test_samples_are_found_by_number_by_name_and_after_pickling(value, splits, fixtures):
    data = opened(value, fixtures, splits[-1])
    assert isinstance(data, Dataset)
    assert data.size == len(data.sample_ids) == len(set(data.sample_ids)) == data.counts["samples"]
    assert len(data.vocabulary) >= 8
    assert all(0 < len(phrase.split()) <= 3 for phrase in data.vocabulary)
    twin = pickle.loads(pickle.dumps(data))
    for index in (0, data.size - 1):
        sample = data.get(index)
        assert sample.sample_id == data.sample_ids[index]
        assert sample.sample_id.startswith(f"{splits[-1]}/")
        json.dumps(dict(sample.metadata))
        for again in (data.find(sample.sample_id), twin.get(index)):
            assert again.query == sample.query
            assert again.metadata == sample.metadata
            np.testing.assert_array_equal(again.image, sample.image)
            if isinstance(sample.truth, MaskTruth):
                assert again.truth == sample.truth
    assert data.draw(np.random.default_rng(3)).sample_id == twin.draw(np.random.default_rng(3)).sample_id
    with pytest.raises(DatasetError, match="no sample"):
        data.find(f"{splits[-1]}/none")
    with pytest.raises(IndexError):
        data.get(data.size)


@pytest.mark.parametrize("value", [value for value, _ in CASES])
def test_what_a_data_set_does_not_have_is_said(value, fixtures, tmp_path):
    name = value.partition(":")[0]
    with pytest.raises(DatasetError, match="night"):
        opened(value, fixtures, "night")
    other = next(family for family in ENVIRONMENTS if family not in families(value))
    with pytest.raises(DatasetError, match="annotated for|a column of boxes"):
        opened(value, fixtures, "train" if "hf" in value else "val", other)
    for place, message in (("", "needs a folder"), (f":{tmp_path}/none", "no folder"), (f":{tmp_path}", "There is no")):
        with pytest.raises(DatasetError, match=message):
            make_dataset(name + place, family=families(value)[0], split="val", difficulty=1)


@pytest.mark.parametrize("env_id", ["RefSeg", "GRefSeg"])
def test_vector_environments_with_workers_take_them(env_id, fixtures):
    dataset = f"grefcoco:{fixtures}/grefcoco"
    envs = gym.make_vec(
        f"VisHarness/{env_id}-v0", num_envs=2, dataset=dataset, split="testA", experts="oracle", expert_workers=1
    )
    envs.reset(seed=1)
    queries = [episode.query for episode in envs.unwrapped.episodes]
    calls = [{"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": query}} for query in queries]
    infos = envs.step(calls)[4]
    envs.close()
    assert all(error is None for error in infos["error"])


# --- names of one's own ---------------------------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path, monkeypatch):
    def write_places(value, file=tmp_path / "datasets.json"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
        return file

    monkeypatch.setenv("VISENV_DATASETS", str(tmp_path / "datasets.json"))
    return write_places


def make(name, family="refseg", split="val"):
    return make_dataset(name, family=family, split=split, difficulty=1)


def test_a_file_of_ones_own_says_where_data_sets_lie(fixtures, places):
    places({"refcoco": str(fixtures / "refcoco"), "ours": f"refcoco:{fixtures}/refcoco?by=google", "toy": "scenes"})
    unc, google = make(f"refcoco:{fixtures}/refcoco"), make(f"refcoco:{fixtures}/refcoco?by=google")
    assert unc.sample_ids != google.sample_ids
    assert make("refcoco").sample_ids == unc.sample_ids
    assert make("ours").sample_ids == google.sample_ids
    assert make("toy", split="val").name == "scenes"
    env = gym.make("VisHarness/Mixed-v0", dataset="ours", split="val", experts="oracle")
    assert set(env.unwrapped.dataset.parts) == {"reasonseg", "grefseg", "refseg"}


def test_paths_may_be_relative_to_the_file(fixtures, places, monkeypatch):
    places({"refcoco": "refcoco", "mine": "cocojson:cocojson"}, fixtures / "datasets.json")
    monkeypatch.setenv("VISENV_DATASETS", str(fixtures / "datasets.json"))
    assert make("refcoco").name == "refcoco"
    assert make("mine").name == "cocojson"


def test_the_file_is_looked_for_in_the_configuration_folder(fixtures, places, tmp_path, monkeypatch):
    monkeypatch.delenv("VISENV_DATASETS")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with pytest.raises(UnknownName):
        make("ours")
    places({"ours": f"refcoco:{fixtures}/refcoco"}, tmp_path / "config" / "visenv" / "datasets.json")
    assert make("ours").name == "refcoco"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "broken"),
        ("[]", "Expected a dict"),
        ('{"ours": 3}', "Expected a str"),
        ('{"ours": "/data/x"}', "name before the path"),
        (None, "no file"),
    ],
)
def test_a_broken_file_of_names_is_said(content, message, places):
    if content is not None:
        places(content)
    with pytest.raises(DatasetError, match=message):
        make("ours")


def test_options_are_checked(fixtures):
    for value, message in (
        ("refcoco:{}/refcoco?by=unc&by=google", "each once"),
        ("refcoco:{}/refcoco?size=3", "by, images"),
        ("coco:{}/coco?year=1999", "instances_val1999"),
        ("refcoco:{}/refcoco?by=umd", "refs.google..p, refs.unc..p: choose"),
    ):
        with pytest.raises(DatasetError, match=message):
            make(value.format(fixtures))
    assert make(f"refcoco:{fixtures}/refcoco?images={fixtures}/refcoco/images/train2014").get(0)
