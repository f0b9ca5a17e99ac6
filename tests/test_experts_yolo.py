"""YOLO experts: right in every frame, in batches, and with a segmenter."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from stubs import BrightExpert, SquareDataset
from tiny_yolo import KINDS, NAMES, SIDE, VIEWS, assert_same, ground, made_networks, make_network, options, view

import visenv  # noqa: F401 - registers the ids
from visenv.capabilities import ExpertFailure, GroundPhrase, View
from visenv.errors import InvalidData
from visenv.experts.yolo import YoloExpert
from visenv.experts.yolo.frames import Frame
from visenv.experts_checks import check_result
from visenv.images import Provenance, RootPixels
from visenv.masks import Masks
from visenv.types import ToolCall

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def networks():
    return made_networks()


# --- batches and frames -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_a_batch_is_so_many_batches_of_one(name, networks):
    """Within 0.005 pixels and of score: the sums of a batch are added in another order."""
    expert = YoloExpert(networks[name], **options(name))
    requests = [ground(phrase, index) for index in range(len(VIEWS)) for phrase in ("man", "red cars", "hot dog")]
    together = expert.run(requests)
    assert sum(len(each) for each in together) >= 5
    for request, found in zip(requests, together, strict=True):
        check_result(request, found)
        assert_same(found, expert.run([request])[0], 5e-3)


class Planted:
    """What a network says, made by hand: ``rows`` of (x, y, width, height) in the square, a score and a class."""

    def __init__(self, rows, prototypes=None, coefficients=()):
        self.columns = torch.zeros(4 + len(NAMES), len(rows))
        for index, (*box, score, kind) in enumerate(rows):
            self.columns[:4, index] = torch.tensor(box)
            self.columns[4 + kind, index] = score
        if prototypes is not None:
            self.columns = torch.cat([self.columns, torch.tensor(coefficients, dtype=torch.float32).T])
        self.prototypes, self.batches = prototypes, []

    def __call__(self, batch, **keywords):
        self.batches.append(len(batch))
        predicted = self.columns[None].repeat(len(batch), 1, 1)
        if self.prototypes is None:
            return predicted, {}
        return (predicted, self.prototypes[None].repeat(len(batch), 1, 1, 1)), {}


def planted_expert(monkeypatch, rows, name="detect", **keywords):
    network = make_network(name)
    plant = Planted(rows, **{key: keywords.pop(key) for key in ("prototypes", "coefficients") if key in keywords})
    monkeypatch.setattr(network, "forward", plant)
    return YoloExpert(network, **options(name, **keywords)), plant


def test_boxes_lie_in_the_frame_of_the_image(monkeypatch):
    # 100x50 is fitted to 64x32, with 16 rows of grey above: x = x' / 0.64, y = (y' - 16) / 0.64.
    rows = [(32, 32, 32, 16, 0.9, 1), (16, 16, 8, 8, 0.8, 3), (4, 4, 8, 8, 0.7, 3)]
    expert, _ = planted_expert(monkeypatch, rows)
    request = GroundPhrase(view(50, 100), "a car")
    found = expert.run([request])[0]
    np.testing.assert_allclose(found.boxes, [[25, 12.5, 75, 37.5]])
    np.testing.assert_allclose(found.scores, [0.9], rtol=1e-6)
    assert found.labels == ("car",)
    check_result(request, found)
    cut = expert.run([GroundPhrase(view(50, 100), "dogs")])[0]
    np.testing.assert_allclose(cut.boxes, [[18.75, 0, 31.25, 6.25]], err_msg="What lies on the grey is cut off.")


@pytest.mark.parametrize("size", [(1, 1), (300, 1), (7, 333), (61, 97), (7680, 4320)])
def test_a_box_around_everything_is_the_whole_image(size, monkeypatch):
    frame = Frame(*size, SIDE)
    (x, y), (width, height) = frame.corner, frame.fitted
    box = (x + width / 2, y + height / 2, width, height)
    prototypes = torch.ones(32, SIDE // 4, SIDE // 4)
    expert, _ = planted_expert(
        monkeypatch, [(*box, 0.9, 0)], "segment", prototypes=prototypes, coefficients=[[1.0] * 32]
    )
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    found = expert.run([GroundPhrase(View(pixels, Provenance(RootPixels(pixels))), "man")])[0]
    np.testing.assert_allclose(found.boxes, [[0, 0, *size]], atol=1e-3 * max(size))
    assert found.masks.areas.tolist() == [size[0] * size[1]]


def test_letterboxes_are_those_of_ultralytics():
    from ultralytics.data.augment import LetterBox

    for size in [(1, 1), (300, 1), (7, 333), (61, 97), (640, 479), (64, 64)]:
        frame = Frame(*size, SIDE)
        square = LetterBox((SIDE, SIDE), auto=False, padding_value=0)(
            image=np.full((size[1], size[0], 3), 255, np.uint8)
        )
        rows, columns = np.nonzero(square[..., 0])
        corner, fitted = (columns.min(), rows.min()), (np.ptp(columns) + 1, np.ptp(rows) + 1)
        assert (frame.corner, frame.fitted) == (corner, fitted), size


def test_masks_are_those_of_the_prototypes_inside_their_boxes(monkeypatch):
    # The square is 64x64 and a cell of a prototype 4x4; the image, 64x32, begins 16 rows down. The object fills the
    # cells of rows 5 to 9 and columns 2 to 7, and its box is a little too small on the right.
    prototypes = torch.full((32, 16, 16), -1 / 32)
    prototypes[:, 5:10, 2:8] = 1 / 32
    rows = [(18, 30, 20, 20, 0.9, 0)]
    expert, _ = planted_expert(monkeypatch, rows, "segment", prototypes=prototypes, coefficients=[[1.0] * 32])
    found = expert.run([GroundPhrase(view(32, 64), "man")])[0]
    assert found.boxes.tolist() == [[8, 4, 28, 24]]
    # Between cells values are interpolated, which rounds the two corners off that are the object's own.
    expected = Masks.from_boxes([[8, 4, 28, 24]], (32, 64)).to_dense()
    expected[0, [4, 23], 8] = False
    np.testing.assert_array_equal(found.masks.to_dense(), expected)


def test_hundreds_of_objects_in_a_large_picture(monkeypatch):
    rows = [(2 * x + 1, 15 + y, 1.0, 0.6, 0.9 - 0.001 * (x + y), 0) for x in range(32) for y in range(30)]
    expert, _ = planted_expert(monkeypatch, rows, max_detections=1000)
    pixels = np.zeros((4320, 7680, 3), np.uint8)
    found = expert.run([GroundPhrase(View(pixels, Provenance(RootPixels(pixels))), "people")])[0]
    assert len(found) == 960
    assert found.masks.shape == (4320, 7680)
    assert (np.diff(found.scores) <= 0).all()
    np.testing.assert_allclose(found.boxes[0], [60, 32.4 * 2.6, 180, 32.4 * 2.6 + 72], rtol=0.1)


def test_of_two_boxes_of_one_object_the_better_is_kept_whichever_class_is_asked_for(monkeypatch):
    rows = [(32, 32, 30, 30, 0.9, 2), (32, 33, 30, 30, 0.8, 2), (33, 32, 30, 30, 0.7, 1), (10, 10, 8, 8, 0.2, 1)]
    expert, plant = planted_expert(monkeypatch, rows, score_threshold=0.25)
    request = {phrase: GroundPhrase(VIEWS[0], phrase) for phrase in ("truck", "car", "vehicle", "tree")}
    trucks, cars, vehicles, nothing = expert.run(list(request.values()))
    assert [len(each) for each in (trucks, cars, vehicles, nothing)] == [1, 1, 1, 0]
    assert vehicles.labels == ("truck",)
    assert nothing.masks.shape == (48, 64)
    assert plant.batches == [1], "Phrases about one image share one pass."
    expert.run([request["tree"]])
    assert plant.batches == [1], "Where no class is asked for, nothing is computed."


def test_a_batch_is_as_large_as_it_may_be(monkeypatch):
    expert, plant = planted_expert(monkeypatch, [(32, 32, 10, 10, 0.9, 0)], max_batch=2)
    expert.run([ground("man", index) for index in range(5)])
    assert plant.batches == [2, 2, 1]


def test_boxes_without_a_segmenter_are_filled_and_with_one_outlined(monkeypatch):
    rows = [(32, 32, 20, 20, 0.9, 0), (10, 20, 8, 8, 0.8, 0)]
    alone, _ = planted_expert(monkeypatch, rows)
    assert alone.run([ground("man")])[0].masks.areas.tolist() == [400, 64]
    bright = BrightExpert()
    chained, _ = planted_expert(monkeypatch, rows, segmenter=bright)
    found = chained.run([ground("man"), ground("tree"), ground("man", 4)])
    assert found[0].masks.areas.tolist() == [256, 256], "the best-scored of three: a quarter of the image's width"
    assert bright.batches == [2]
    assert len(found[1]) == 0
    assert alone.fingerprint != chained.fingerprint


class FailingSegmenter(BrightExpert):
    def run(self, requests):
        return [
            ExpertFailure(self.name, "no") if request.view is VIEWS[4] else self.answer(request) for request in requests
        ]


def test_what_a_segmenter_fails_on_fails_alone(monkeypatch):
    expert, _ = planted_expert(monkeypatch, [(32, 32, 20, 20, 0.9, 0)], segmenter=FailingSegmenter())
    found = expert.run([ground("man"), ground("man", 4)])
    assert len(found[0]) == 1
    assert found[1] == ExpertFailure("bright", "no")


# --- living with it ---------------------------------------------------------------------------------------------------


def test_in_16_bits_boxes_stay_exact():
    """The head computes in fp32: in bf16, boxes would be multiples of a quarter of a pixel here, and of 4 in 640."""
    exact = YoloExpert(make_network("detect"), **options("detect", iou_threshold=1.0))
    short = YoloExpert(make_network("detect"), **options("detect", iou_threshold=1.0, precision="bf16"))
    network = short.load().network
    assert next(network.model[0].parameters()).dtype is torch.bfloat16
    assert {parameter.dtype for parameter in network.model[-1].parameters()} == {torch.float32}
    asked = max((ground(name) for name in NAMES), key=lambda each: len(exact.run([each])[0]))
    expected, found = exact.run([asked])[0], short.run([asked])[0]
    np.testing.assert_allclose(found.scores[0], expected.scores[0], atol=0.05)
    assert (np.abs(found.boxes * 4 - np.round(found.boxes * 4)) > 1e-3).any(), "finer than bf16 can say"
    twin = pickle.loads(pickle.dumps(short))
    assert_same(twin.run([asked])[0], found, 1e-6)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"score_threshold": 1.5}, "Expected score_threshold to be a number from 0 to 1"),
        ({"iou_threshold": True}, "Expected iou_threshold"),
        ({"image_size": 100}, "Expected image_size to be a positive multiple of 32"),
        ({"max_detections": 0}, "Expected max_detections"),
        ({"segmenter": 3}, "Expected segmenter to be an expert"),
    ],
)
def test_values_out_of_range_are_refused_at_once(keywords, message, networks):
    with pytest.raises(InvalidData, match=message):
        YoloExpert(networks["detect"], **keywords)


def test_an_episode_asks_it(networks):
    network = make_network("detect")
    network.forward = Planted([(32, 32, 40, 30, 0.9, 0)])
    expert = YoloExpert(network, **options("detect"))
    env = gym.make("VisHarness/RefSeg-v0", dataset=SquareDataset(), experts={"*": "classical", "GroundPhrase": expert})
    env.reset(seed=0)
    _, _, _, _, info = env.step(ToolCall("PhraseToBoxMask", {"images": ["img_0"], "phrase": "the people"}))
    assert info["error"] is None
    assert "1" in info["reply"]
    *_, info = env.step(ToolCall("MergeBoxMask", {"images": ["img_0"]}))
    assert info["error"] is None
    # 96x64 is fitted to 64x43, with 10 rows of grey above.
    found = env.unwrapped.episode.workspace.final
    np.testing.assert_allclose(found.boxes, [[18, (17 - 10) / (43 / 64), 78, (47 - 10) / (43 / 64)]], atol=1e-3)
