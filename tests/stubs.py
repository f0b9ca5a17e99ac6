"""A tiny data set, experts and a reward, for tests of the core alone."""

import numpy as np

from visenv.capabilities import Candidates, GroundPhrase, PointPhrase, Points, Ran, RunCode, SegmentPrompts, Upscaled
from visenv.masks import Masks
from visenv.types import Detections, MaskTruth, Sample

ALL = ("GroundPhrase", "PointPhrase", "SegmentPrompts", "Upscale")


class SquareDataset:
    """Three pictures, each with one bright square that is the target."""

    name = "squares"
    split = "train"
    vocabulary = ("square", "red square", "circle", "blue circle", "line", "dot", "star", "ring")
    size = 3

    def __init__(self, width=96, height=64):
        self.width, self.height = width, height

    def get(self, index):
        if not 0 <= index < self.size:
            raise IndexError(index)
        pixels = np.random.default_rng(index).integers(0, 60, (self.height, self.width, 3), dtype=np.uint8)
        box = np.array([[10.0 + index, 10, 30 + index, 30]])
        pixels[10:30, 10 + index : 30 + index] = 220
        truth = MaskTruth(Masks.from_boxes(box, (self.height, self.width)))
        return Sample(f"squares/{index}", (pixels,), "the bright square on the left", truth)

    def find(self, sample_id):
        return self.get(int(sample_id.rpartition("/")[2]))

    def draw(self, rng):
        return self.get(int(rng.integers(self.size)))


class FewSamples:
    """The first few samples of another data set, kept."""

    def __init__(self, dataset, count):
        self.name, self.split, self.vocabulary, self.size = dataset.name, dataset.split, dataset.vocabulary, count
        self.samples = [dataset.get(index) for index in range(count)]

    def get(self, index):
        return self.samples[index]

    def find(self, sample_id):
        return next(sample for sample in self.samples if sample.sample_id == sample_id)

    def draw(self, rng):
        return self.samples[int(rng.integers(self.size))]


class BrightExpert:
    """Finds what is brighter than 128; costs next to nothing."""

    name = "bright"
    fingerprint = "bright-1"
    capabilities = ALL
    max_batch = 4
    per_sample = False

    def __init__(self):
        self.batches = []

    def run(self, requests):
        self.batches.append(len(requests))
        return [self.answer(request) for request in requests]

    def answer(self, request):
        bright = request.view.pixels.max(axis=2) > 128
        masks = Masks.from_dense(bright[None]) if bright.any() else Masks.empty(bright.shape)
        if isinstance(request, GroundPhrase):
            return Detections(masks.boxes, masks, np.full(len(masks), 0.9))
        if isinstance(request, PointPhrase):
            centres = (masks.boxes[:, :2] + masks.boxes[:, 2:]) / 2
            return Points(centres, np.full(len(masks), 0.8))
        if isinstance(request, SegmentPrompts):
            height, width = bright.shape
            sizes = [[[0, 0, side, side]] for side in (max(1, width // 8), max(1, width // 4), max(1, width // 2))]
            three = Masks.concatenate([Masks.from_boxes(np.array(box, float), (height, width)) for box in sizes])
            return Candidates(
                tuple(three for _ in request.prompts), tuple(np.array([0.5, 0.9, 0.7]) for _ in request.prompts)
            )
        pixels = request.view.pixels.repeat(request.factor, axis=0).repeat(request.factor, axis=1)
        return Upscaled(pixels, self.fingerprint)


class CornerExpert(BrightExpert):
    """Finds the top left quarter of everything, without looking; programs do nothing but cut out a corner."""

    name = "corner"
    capabilities = (*ALL, "RunCode")

    def answer(self, request):
        height, width = request.view.pixels.shape[:2]
        masks = Masks.from_boxes(np.array([[0.0, 0, max(1, width // 2), max(1, height // 2)]]), (height, width))
        if isinstance(request, GroundPhrase):
            return Detections(masks.boxes, masks, np.array([0.9]))
        if isinstance(request, PointPhrase):
            return Points(np.array([[width / 4, height / 4]]), np.array([0.8]))
        if isinstance(request, SegmentPrompts):
            return Candidates(tuple(masks for _ in request.prompts), tuple(np.array([0.5]) for _ in request.prompts))
        if isinstance(request, RunCode):
            return Ran(request.view.pixels[:8, :8].repeat(8, axis=0), "a corner")
        return Upscaled(np.zeros((request.factor * height, request.factor * width, 3), np.uint8), self.fingerprint)


class BrokenExpert(BrightExpert):
    """Fails on every request whose phrase says so."""

    name = "broken"

    def run(self, requests):
        self.batches.append(len(requests))
        if any(getattr(request, "phrase", "") == "fail" for request in requests):
            raise RuntimeError("no more memory")
        return [self.answer(request) for request in requests]


class CountingReward:
    """Pays 1 at the end if there is a result, and takes 0.25 a turn."""

    bounds = (-100.0, 1.0)

    def turn(self, turn):
        return {"cost": -0.25}

    def final(self, outcome, truth):
        return {"found": float(outcome.detections is not None)}
