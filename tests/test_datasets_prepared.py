"""Prepared copies hold the same samples; checks say what is missing or broken."""

import io
import json
import pickle
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from scripts.make_fixtures import write
from visenv.cli import app
from visenv.datasets import prepared
from visenv.datasets.checking import check
from visenv.datasets.making import make_dataset
from visenv.datasets.prepared import Prepared
from visenv.datasets.preparing import prepare
from visenv.errors import DatasetError, InvalidData
from visenv.records import truth_record

NAMES = ("reasonseg", "grefcoco", "coco", "cocojson", "rec8k", "dense200")


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fixtures")
    write(folder, NAMES)
    return folder


@pytest.fixture
def copied(fixtures, tmp_path):
    """A folder of fixtures that may be broken."""
    return lambda name: shutil.copytree(fixtures / name, tmp_path / name)


@pytest.fixture
def cli():
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def opened(value, family, split="val"):
    return make_dataset(value, family=family, split=split, difficulty=1)


def same(one, other, exact=True):
    assert (one.sample_id, one.query, one.task) == (other.sample_id, other.query, other.task)
    assert dict(one.metadata) == dict(other.metadata)
    assert truth_record(one.truth) == truth_record(other.truth)
    assert one.image.shape == other.image.shape
    if exact:
        np.testing.assert_array_equal(one.image, other.image)
    else:
        assert np.abs(one.image.astype(int) - other.image).mean() < 6


# --- copies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "family", "split"),
    [
        ("grefcoco", "grefseg", "val"),
        ("coco", "grefseg", "train"),
        ("coco", "densedet", "train"),
        ("cocojson", "refseg", "train"),
        ("rec8k", "refcount", "val"),
        ("dense200", "densedet", "test"),
        ("reasonseg", "reasonseg", "val"),
    ],
)
def test_a_copy_has_the_same_samples(name, family, split, fixtures, tmp_path):
    original = opened(f"{name}:{fixtures}/{name}", family, split)
    report = prepare(original, tmp_path / family / split, encoding="png", shard_bytes=200_000, source="here")
    copy = opened(f"prepared:{tmp_path}", family, split)
    assert report.samples == copy.size == original.size
    assert copy.sample_ids == original.sample_ids
    assert copy.vocabulary == original.vocabulary
    assert (copy.name, copy.split, copy.source) == (original.name, split, "here")
    for index in range(original.size):
        same(original.get(index), copy.get(index))
    same(original.find(original.sample_ids[-1]), copy.find(original.sample_ids[-1]))
    drawn = [data.draw(np.random.default_rng(5)).sample_id for data in (original, copy)]
    assert drawn[0] == drawn[1]
    same(pickle.loads(pickle.dumps(copy)).get(0), original.get(0))
    assert max(copy.get(0).image.shape[:2]) <= 1920


def test_shards_part_the_samples_among_readers(fixtures, tmp_path):
    original = opened(f"grefcoco:{fixtures}/grefcoco", "grefseg", "train")
    report = prepare(original, tmp_path / "copy", shard_bytes=1)
    copy = Prepared(tmp_path / "copy")
    assert report.shards == copy.shards == original.size
    assert report.pictures == original.size
    read = [[sample.sample_id for sample in copy.read(part, 3)] for part in range(3)]
    assert read == [list(original.sample_ids[part::3]) for part in range(3)]
    assert [sample.sample_id for sample in copy.read()] == list(original.sample_ids)
    with pytest.raises(InvalidData, match="part from 0 to 2"):
        next(copy.read(3, 3))


def test_a_picture_of_several_samples_is_stored_once(fixtures, tmp_path):
    original = opened(f"grefcoco:{fixtures}/grefcoco", "grefseg", "train")
    report = prepare(original, tmp_path / "copy")
    assert (report.samples, report.pictures, report.shards) == (original.size, original.counts["pictures"], 1)
    assert report.pictures < report.samples
    copy = Prepared(tmp_path / "copy")
    for index in range(original.size):
        same(original.get(index), copy.get(index), exact=False)


def test_every_text_of_a_picture_becomes_a_sample(fixtures, tmp_path):
    original = opened(f"reasonseg:{fixtures}/reasonseg", "reasonseg", "train")
    prepare(original, tmp_path / "copy", encoding="png")
    copy = Prepared(tmp_path / "copy")
    assert copy.size > original.size
    assert copy.sample_ids == original.every_id()
    assert {"train/train_0#0", "train/train_0#1"} <= set(copy.sample_ids)
    for name in copy.sample_ids:
        same(original.find(name), copy.find(name))


def test_what_is_broken_is_left_out_and_listed(copied, tmp_path):
    folder = copied("rec8k")
    broken = next((folder / "rec-8k").glob("val-scene-0.jpg"))
    broken.write_bytes(broken.read_bytes()[:100])
    report = prepare(opened(f"rec8k:{folder}", "refcount"), tmp_path / "copy")
    assert len(report.left_out) == 1
    assert "val-scene-0.jpg" in report.left_out[0][1]
    manifest = json.loads((tmp_path / "copy" / prepared.MANIFEST).read_text())
    assert manifest["left_out"][0]["error"] == report.left_out[0][1]
    assert Prepared(tmp_path / "copy").size == report.samples == opened(f"rec8k:{folder}", "refcount").size - 1


def test_a_copy_appears_only_when_it_is_whole(fixtures, tmp_path):
    original = opened(f"rec8k:{fixtures}/rec8k", "refcount")

    def stop(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(original, tmp_path / "copy", progress=stop)
    assert not (tmp_path / "copy").exists()
    prepare(original, tmp_path / "copy")
    with pytest.raises(DatasetError, match="already"):
        prepare(original, tmp_path / "copy")
    prepare(original, tmp_path / "copy", encoding="png", overwrite=True)
    same(Prepared(tmp_path / "copy").get(0), original.get(0))
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
    with pytest.raises(InvalidData, match="does not end"):
        prepare(opened("scenes", "refseg", "train"), tmp_path / "other")
    with pytest.raises(InvalidData, match="jpeg or png"):
        prepare(original, tmp_path / "other", encoding="gif")


@pytest.mark.parametrize("what", ["manifest", "format", "samples", "pictures", "cut", "link"])
def test_a_broken_copy_is_said(what, fixtures, tmp_path):
    prepare(opened(f"rec8k:{fixtures}/rec8k", "refcount"), tmp_path / "copy")
    manifest = tmp_path / "copy" / prepared.MANIFEST
    if what == "manifest":
        manifest.write_text("{")
    elif what == "format":
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 99}))
    elif what in ("samples", "pictures"):
        (tmp_path / "copy" / f"00000.{what}.parquet").unlink()
    elif what == "cut":
        file = tmp_path / "copy" / "00000.samples.parquet"
        file.write_bytes(file.read_bytes()[:-9])
    else:
        (tmp_path / "copy" / "00000.samples.parquet").rename(tmp_path / "outside.parquet")
        (tmp_path / "copy" / "00000.samples.parquet").symlink_to(tmp_path / "outside.parquet")
    with pytest.raises(DatasetError):
        Prepared(tmp_path / "copy")


def test_what_there_are_copies_of_is_said(fixtures, tmp_path):
    prepare(opened(f"rec8k:{fixtures}/rec8k", "refcount"), tmp_path / "refcount" / "val")
    with pytest.raises(DatasetError, match="no prepared copy of refcount/test .* there is refcount/val"):
        opened(f"prepared:{tmp_path}", "refcount", "test")


# --- checks ---------------------------------------------------------------------------------------------------------


def test_counts_are_compared_with_the_published_ones(fixtures):
    reports = {report.split: report for report in check(f"reasonseg:{fixtures}/reasonseg")}
    assert {split: report.published["samples"] for split, report in reports.items()} == {
        "train": 239,
        "val": 200,
        "test": 779,
    }
    assert {report.state for report in reports.values()} == {"incomplete"}
    assert reports["val"].looked_at == reports["val"].counts["samples"]
    assert "2308.00692" in reports["val"].source


def test_a_whole_split_is_whole(fixtures, monkeypatch):
    from visenv.datasets import published

    sizes = {"val": published.Size({"pictures": 3}, "here")}
    monkeypatch.setitem(published.SIZES, ("coco", ""), sizes)
    (report,) = check(f"coco:{fixtures}/coco", splits=["val"])
    assert report.state == "whole"
    assert not report.differs


def test_what_is_missing_or_broken_is_listed(copied):
    folder = copied("grefcoco")
    pictures = sorted((folder / "images" / "train2014").iterdir())
    pictures[0].unlink()
    pictures[1].write_bytes(b"")
    document = json.loads((folder / "grefcoco" / "grefs(unc).json").read_text())
    kept = [each for each in document if each["split"] != "testB"]
    (folder / "grefcoco" / "grefs(unc).json").write_text(json.dumps(kept))
    reports = {report.split: report for report in check(f"grefcoco:{folder}")}
    assert {split: report.state for split, report in reports.items()} == {
        "train": "broken",
        "val": "broken",
        "testA": "sound",
        "testB": "missing",
    }
    assert all("no picture" in error for _, error in reports["train"].broken)
    assert all("is empty" in error for _, error in reports["val"].broken)
    assert "testB" in reports["testB"].error
    assert all(name.startswith("train/") for name, _ in reports["train"].broken)


def test_a_few_samples_are_enough_for_a_first_look(fixtures):
    seen = []
    reports = list(
        check(
            f"rec8k:{fixtures}/rec8k", samples=2, progress=lambda split, done, total: seen.append((split, done, total))
        )
    )
    assert [report.looked_at for report in reports] == [2, 2, 2]
    assert seen[:2] == [("train", 0, 2), ("train", 2, 2)]
    assert [report.looked_at for report in check(f"rec8k:{fixtures}/rec8k", samples=0)] == [0, 0, 0]


# --- the command line -----------------------------------------------------------------------------------------------


def test_check_on_the_command_line(cli, fixtures, copied):
    shown = cli("data", "check", "grefcoco", fixtures / "grefcoco")
    assert shown.exit_code == 0, shown.output
    assert "testB" in shown.stdout
    assert "sound" in shown.stdout
    folder = copied("rec8k")
    (folder / "rec-8k" / "val-scene-1.jpg").unlink()
    broken = cli("data", "check", "rec8k", folder, "--split", "val")
    assert broken.exit_code == 1
    assert "no picture 'val-scene-1.jpg'" in " ".join(broken.stdout.split())
    document = json.loads(cli("data", "check", "rec8k", folder, "--json").stdout)
    assert not document["good"]
    states = {split["split"]: split["state"] for split in document["splits"]}
    assert states == {"train": "sound", "val": "broken", "test": "sound"}
    (fault,) = document["splits"][1]["broken"]
    assert fault["sample"].startswith("val/val-scene-1.jpg|")
    missing = cli("data", "check", "rec8k", folder / "none")
    assert missing.exit_code == 1
    assert "no folder" in missing.stdout
    assert cli("data", "check", "rec9k", folder).exit_code == 2


def test_convert_on_the_command_line(cli, fixtures, tmp_path):
    out = tmp_path / "out"
    done = cli("data", "convert", f"cocojson:{fixtures}/cocojson", out, "--family", "refseg", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert [split["split"] for split in document["splits"]] == ["train", "val"]
    copy = opened(f"prepared:{out}", "refseg", "train")
    original = opened(f"cocojson:{fixtures}/cocojson", "refseg", "train")
    for index in range(original.size):
        same(original.get(index), copy.get(index), exact=False)
    checked = cli("data", "check", "prepared", out, "--json")
    assert checked.exit_code == 0, checked.output
    assert [split["split"] for split in json.loads(checked.stdout)["splits"]] == ["train", "val"]
    again = cli("data", "convert", f"cocojson:{fixtures}/cocojson", out, "--family", "refseg", "--split", "val")
    assert again.exit_code == 2
    assert "already" in again.stderr
    shown = cli("data", "convert", f"rec8k:{fixtures}/rec8k", out, "--split", "val")
    assert shown.exit_code == 0, shown.output
    assert f'dataset="prepared:{out}"' in shown.stdout.replace("\n", "")
    assert cli("data", "convert", f"rec8k:{fixtures}/none", out).exit_code == 2


def test_large_pictures_are_bounded(fixtures, tmp_path):
    original = opened(f"cocojson:{fixtures}/cocojson", "densedet", "train")
    assert any(min(sample.metadata["original_size"]) > 1080 for sample in map(original.get, range(original.size)))
    prepare(original, tmp_path / "copy")
    for file in (tmp_path / "copy").glob("*.pictures.parquet"):
        for data in pq.read_table(file).column("bytes").to_pylist():
            width, height = Image.open(io.BytesIO(data)).size
            assert (max(width, height), min(width, height)) <= (1920, 1080)


def test_a_family_that_a_data_set_does_not_have_is_said(cli, fixtures, tmp_path):
    refused = cli("data", "convert", f"rec8k:{fixtures}/rec8k", tmp_path, "--family", "refseg")
    assert refused.exit_code == 2
    assert "annotated for" in refused.stderr
