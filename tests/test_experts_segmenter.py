"""From prompts to masks: part, whole and smooth, on drawings and on photographs."""

import cv2
import numpy as np
import pytest

from visenv.capabilities import Prompt
from visenv.datasets.scenes.kinds import draw_object
from visenv.experts.classical.grabcut import cut_out, grow
from visenv.experts.classical.perception import perceive
from visenv.experts.classical.segmenter import segment


def mushroom():
    """A mushroom on grey, its mask, and the masks of its parts."""
    drawing = draw_object("mushroom", 100, 0.0, "red", "plain")
    h, w = drawing.mask.shape
    image = np.full((160, 160, 3), 150, dtype=float)
    alpha = drawing.rgba[..., 3:] / 255
    image[30 : 30 + h, 20 : 20 + w] = drawing.rgba[..., :3] * alpha + image[30 : 30 + h, 20 : 20 + w] * (1 - alpha)
    margins = ((30, 130 - h), (20, 140 - w))
    parts = {name: np.pad(mask, margins) for name, mask in drawing.parts.items()}
    return np.rint(image).astype(np.uint8), np.pad(drawing.mask, margins), parts


def photograph():
    """A textured disc on a background of two textures: nothing that a smooth surface explains."""
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.normal(size=(150, 200, 3)), (0, 0), 1.5) * 60
    ys, xs = np.mgrid[:150, :200]
    image = np.where((xs > 100)[..., None], (60, 90, 140), (120, 110, 40)) + noise
    disc = (xs - 95) ** 2 + (ys - 70) ** 2 < 35**2
    image[disc] = np.array((200, 80, 70)) + noise[disc] * 0.6
    return np.clip(image, 0, 255).astype(np.uint8), disc


def iou(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


def candidates(pixels, prompt):
    result = segment(pixels, perceive(pixels), (prompt,))
    return result.masks[0].to_dense(), result.scores[0]


def at(x, y, *others, labels=None):
    return Prompt(points=np.array([(x, y), *others], dtype=float), labels=None if labels is None else np.array(labels))


def test_a_point_means_a_part_the_whole_or_the_smoothed_whole():
    pixels, truth, parts = mushroom()
    ys, xs = np.nonzero(parts["stem"])
    x, y = int(np.median(xs)), int(np.median(ys))
    (part, whole, smooth), scores = candidates(pixels, at(x, y))
    assert iou(whole, truth) > 0.95
    assert iou(smooth, truth) > 0.9
    assert iou(part, parts["stem"]) > 0.6
    assert not (part & ~whole).any()
    assert part.sum() < 0.5 * whole.sum()
    assert scores.argmax() == 1
    assert ((scores > 0) & (scores <= 1)).all()


def test_a_point_beside_a_thing_still_means_it():
    pixels, truth, _ = mushroom()
    x = int(np.nonzero(truth.any(axis=0))[0][0]) - 2
    y = int(np.nonzero(truth[:, x + 2])[0][0])
    (_, whole, _), _ = candidates(pixels, at(x, y))
    assert iou(whole, truth) > 0.95


def test_a_box_means_what_fills_it():
    pixels, truth, _ = mushroom()
    ys, xs = np.nonzero(truth)
    box = np.array([xs.min() - 4, ys.min() - 2, xs.max() + 3, ys.max() + 5], dtype=float)
    (_, whole, _), _ = candidates(pixels, Prompt(box=box))
    assert iou(whole, truth) > 0.95


def test_a_negative_point_takes_its_part_away():
    pixels, truth, parts = mushroom()
    cap, stem = (tuple(int(np.median(v)) for v in np.nonzero(parts[n])[::-1]) for n in ("cap", "stem"))
    (_, whole, _), _ = candidates(pixels, at(*cap, stem, labels=[1, 0]))
    assert not whole[stem[1], stem[0]]
    assert whole[cap[1], cap[0]]
    assert (whole & parts["cap"]).sum() > 0.8 * parts["cap"].sum()


@pytest.mark.parametrize("prompt", [at(95, 70), Prompt(box=np.array([58.0, 33.0, 132.0, 107.0]))])
def test_photographs_are_cut_by_grabcut(prompt):
    pixels, disc = photograph()
    (_, whole, smooth), scores = candidates(pixels, prompt)
    assert iou(whole, disc) > 0.8
    assert iou(smooth, disc) > 0.8
    assert scores.argmax() in (1, 2)


def test_negative_points_hold_on_photographs():
    pixels, _ = photograph()
    (part, whole, smooth), _ = candidates(pixels, at(95, 70, (30, 30), labels=[1, 0]))
    assert not whole[30, 30]
    assert not smooth[30, 30]
    assert part[70, 95]


def test_cutting_does_not_depend_on_the_global_random_numbers_of_opencv():
    pixels, disc = photograph()
    trimap = np.where(cv2.dilate(disc.astype(np.uint8), np.ones((25, 25))) > 0, cv2.GC_PR_FGD, cv2.GC_BGD)
    results = []
    for seed in (1, 2, 3):
        cv2.setRNGSeed(seed)
        results.append(cut_out(pixels, trimap.astype(np.uint8)))
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])
    assert iou(results[0], disc) > 0.8


def test_a_trimap_without_one_side_is_given_back():
    pixels, _ = photograph()
    everything = np.full(pixels.shape[:2], cv2.GC_PR_FGD, dtype=np.uint8)
    assert cut_out(pixels, everything).all()


def test_growing_stops_at_edges():
    lab = np.zeros((20, 20, 3), dtype=np.float32)
    lab[:, 10:] = 40
    region = grow(lab, 3, 5, 10.0)
    assert region[:, :10].all()
    assert not region[:, 10:].any()
