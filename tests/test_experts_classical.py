"""The expert set ``classical``: what it finds, what it misses and by which mechanism, and what it survives."""

import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visenv.capabilities import Expert, GroundPhrase, PointPhrase, Prompt, SegmentPrompts, Upscale, View
from visenv.datasets.scenes.dataset import ScenesDataset
from visenv.datasets.scenes.kinds import COLOURS, KINDS, PATTERNS, draw_object
from visenv.errors import InvalidData, InvalidImage
from visenv.experts.classical import make
from visenv.experts.classical.colour import NAMES, name_probabilities, to_lab
from visenv.experts.classical.foreground import fit_background, working_size
from visenv.experts.classical.lexicon import noun_at
from visenv.experts.classical.perception import Perceiver, perceive, working_side
from visenv.experts.classical.shape import ANGLES, RINGS, correlate, load_banks, polar_map
from visenv.experts.classical.upscaler import upscale
from visenv.images import Provenance, RootPixels


def view_of(pixels):
    return View(pixels, Provenance(RootPixels(pixels)), sample_id="none")


def scene(*objects, size=(200, 200), grey=170, noise=0.0):
    """A picture of (kind, side, x, y, colour, pattern) on plain grey, and each object's mask."""
    image = np.full((size[1], size[0], 3), grey, dtype=float)
    masks = np.zeros((len(objects), size[1], size[0]), dtype=bool)
    for index, (kind, side, x, y, colour, pattern) in enumerate(objects):
        drawing = draw_object(kind, side, 0.0, colour, pattern)
        h, w = drawing.mask.shape
        alpha = drawing.rgba[..., 3:] / 255
        image[y : y + h, x : x + w] = drawing.rgba[..., :3] * alpha + image[y : y + h, x : x + w] * (1 - alpha)
        masks[:, y : y + h, x : x + w] &= ~drawing.mask
        masks[index, y : y + h, x : x + w] = drawing.mask
    image += np.random.default_rng(0).normal(0, 1, image.shape) * noise
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), masks


def ask(pixels, *phrases, kind=GroundPhrase):
    (expert,) = make()
    view = view_of(pixels)
    return expert.run([kind(view, phrase) for phrase in phrases])


TWO_CARS = scene(
    ("car", 70, 10, 20, "red", "plain"), ("car", 60, 110, 110, "blue", "plain"), ("tree", 60, 120, 15, "red", "plain")
)


def test_follows_the_contract():
    (expert,) = make()
    assert isinstance(expert, Expert)
    assert set(expert.capabilities) == {"GroundPhrase", "PointPhrase", "SegmentPrompts", "Upscale"}
    assert not expert.per_sample


# --- grounding ----------------------------------------------------------------------------------------------------


def test_grounds_a_noun_and_a_colour_with_a_noun():
    pixels, masks = TWO_CARS
    cars, red_car, trees, boats = ask(pixels, "cars", "red car", "tree", "boat")
    assert len(cars) == 2
    assert len(boats) == 0
    for found, truth in ((red_car, masks[0]), (trees, masks[2])):
        assert len(found) == 1
        mask = found.masks.to_dense()[0]
        assert (mask & truth).sum() / (mask | truth).sum() > 0.9
        assert 0.4 <= found.scores[0] <= 1


def test_what_goes_beyond_a_colour_and_a_noun_is_not_understood():
    pixels, _ = TWO_CARS
    (found,) = ask(pixels, "the car below the red tree")
    assert len(found) == 2


def test_small_things_need_a_patch_or_upscaling():
    pixels, _ = scene(("star", 9, 60, 60, "red", "plain"), size=(640, 480))
    (whole,) = ask(pixels, "star")
    patch = np.ascontiguousarray(pixels[40:104, 40:104])
    (alone,) = ask(patch, "star")
    (enlarged,) = ask(upscale(patch, 4), "star")
    assert len(whole) == 0
    assert len(alone) == 0
    assert len(enlarged) == 1


def test_an_enlargement_is_looked_at_no_closer_than_its_root_can_show():
    pixels, _ = scene(("star", 9, 20, 30, "red", "plain"), size=(60, 60))
    large = upscale(pixels, 4)
    provenance = Provenance(RootPixels(pixels))
    to_root = np.diag([0.25, 0.25, 1])
    view = View(large, provenance.then("x4"), to_root=to_root)
    assert working_side(view) == 120
    assert working_side(View(pixels, provenance)) == working_side(View(large, provenance)) > 120
    (expert,) = make()
    small, found = expert.run([GroundPhrase(View(pixels, provenance), "star"), GroundPhrase(view, "star")])
    assert len(small) == 0
    assert len(found) == 1
    assert found.masks.shape == large.shape[:2]
    assert np.abs(found.boxes[0] / 4 - (20, 30, 29, 39)).max() <= 1


def test_noise_that_breaks_outlines_costs_detections():
    objects = [
        (kind, 30, 10 + 48 * (i % 4), 10 + 48 * (i // 4), "green", "plain")
        for i, kind in enumerate(["mug", "key", "fish", "hat", "anchor", "kite", "bell", "chair"])
    ]
    found = {
        noise: sum(map(len, ask(scene(*objects, noise=noise)[0], *[each[0] for each in objects]))) for noise in (0, 45)
    }
    assert found[0] >= 7
    assert found[45] < found[0]


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_is_recognised_large_and_clean(kind):
    pixels, _ = scene((kind, 90, 50, 50, "purple", "plain"))
    (percept,) = [p for p in perceive(pixels).percepts if p.area > 100]
    (name,), _ = noun_at(kind.split(), 0)
    assert max(percept.kinds, key=percept.kinds.get) == name
    assert percept.kinds[name] > 0.5


@pytest.mark.parametrize("colour", list(COLOURS))
def test_every_colour_is_named(colour):
    pixels, _ = scene(("bell", 60, 50, 50, colour, "plain"))
    percept = max(perceive(pixels).percepts, key=lambda p: p.area)
    assert max(percept.colours, key=percept.colours.get) == {"cyan": "teal"}.get(colour, colour)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_are_told_apart(pattern):
    right = 0
    for kind in ("mug", "bell", "shirt", "balloon", "house", "fish"):
        pixels, _ = scene((kind, 90, 50, 50, "blue", pattern))
        percept = max(perceive(pixels).percepts, key=lambda p: p.area)
        right += max(percept.patterns, key=percept.patterns.get) == pattern
    assert right >= 4


def test_touching_objects_of_two_colours_are_parted():
    pixels, masks = scene(("house", 80, 20, 60, "yellow", "plain"), ("star", 70, 80, 70, "blue", "plain"))
    for phrase, truth in zip(("house", "star"), masks, strict=True):
        (points,) = ask(pixels, phrase, kind=PointPhrase)
        assert len(points.points) == 1
        x, y = np.floor(points.points[0]).astype(int)
        assert truth[y, x]


def test_touching_objects_of_one_colour_are_parted():
    pixels, _ = scene(("apple", 70, 20, 60, "red", "plain"), ("star", 70, 84, 64, "red", "plain"))
    apples, stars = ask(pixels, "apple", "star", kind=PointPhrase)
    assert len(apples.points) == len(stars.points) == 1


@pytest.mark.parametrize(
    ("radius", "inside", "filled"),
    [
        (12, "background", False),
        (3, "background", True),
        (12, "dark", True),
        (12, "something", False),
    ],
)
def test_a_hole_is_one_where_the_background_shows_or_something_lies_in_it(radius, inside, filled):
    pixels = np.full((120, 120, 3), 170, np.uint8)
    ys, xs = np.mgrid[:120, :120] - 60
    pixels[xs**2 + ys**2 < 35**2] = (200, 30, 30)
    hole = xs**2 + ys**2 < radius**2
    # Dark enough to be no background, near enough to it not to stand out.
    pixels[hole] = 150 if inside == "dark" else 170
    if inside == "something":
        pixels[xs**2 + ys**2 < 7**2] = (30, 60, 200)
    perception = perceive(pixels)
    ring = int(np.argmax(perception.masks.areas))
    mask = perception.masks[[ring]].to_dense()[0]
    rim = hole & (xs**2 + ys**2 >= 8**2) if radius > 8 else hole
    assert mask[rim].all() if filled else not mask[rim].any()
    assert len(perception.percepts) == (2 if inside == "something" else 1)


# --- pointing -----------------------------------------------------------------------------------------------------


def test_points_at_what_a_relation_refers_to():
    pixels, masks = TWO_CARS
    below, nothing = ask(pixels, "the car below the red tree", "the car left of the boat", kind=PointPhrase)
    assert len(below.points) == 1
    x, y = np.floor(below.points[0]).astype(int)
    assert masks[1, y, x]
    assert len(nothing.points) == 0


@pytest.mark.parametrize(("difficulty", "least"), [(0, 0.85), (1, 0.6)])
def test_points_and_masks_find_the_targets_of_scenes(difficulty, least):
    data = ScenesDataset("reasonseg", "val", difficulty)
    (expert,) = make()
    ious = []
    for index in range(16):
        sample = data.get(index)
        if sample.truth.is_null:
            continue
        view = view_of(sample.image)
        (points,) = expert.run([PointPhrase(view, sample.query)])
        prompts = tuple(Prompt(points=point[None]) for point in points.points)
        (result,) = expert.run([SegmentPrompts(view, prompts)])
        union = np.zeros(sample.image.shape[:2], dtype=bool)
        for masks, scores in zip(result.masks, result.scores, strict=True):
            union |= masks[[int(np.argmax(scores))]].to_dense()[0]
        truth = sample.truth.target.union().to_dense()[0]
        ious.append((union & truth).sum() / (union | truth).sum())
    assert np.mean(ious) > least


# --- upscaling ----------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 4))
def test_upscaling_multiplies_the_sides(height, width, factor):
    pixels = np.random.default_rng(height * 31 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    large = upscale(pixels, factor)
    assert large.shape == (height * factor, width * factor, 3)
    assert large.dtype == np.uint8


def test_upscaling_keeps_the_mean_and_refuses_the_absurd():
    pixels, _ = TWO_CARS
    assert abs(upscale(pixels, 4).mean() - pixels.mean()) < 1
    for factor in (0, 10_000):
        with pytest.raises(InvalidImage, match="Expected"):
            upscale(pixels, factor)


# --- the same bytes, whatever the order ---------------------------------------------------------------------------


def answers(expert, requests):
    out = []
    for result in expert.run(requests):
        for name in ("boxes", "scores", "points", "pixels"):
            if isinstance(getattr(result, name, None), np.ndarray):
                out.append(getattr(result, name).tobytes())
        for masks in result.masks if isinstance(getattr(result, "masks", None), tuple) else ():
            out.append(masks.to_dense().tobytes())
    return out


def test_batches_orders_and_memory_change_nothing():
    pixels, _ = TWO_CARS
    noise = np.random.default_rng(1).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    requests = []
    for image in (pixels, noise):
        view = view_of(image)
        requests += [
            GroundPhrase(view, "car"),
            PointPhrase(view, "the largest car"),
            SegmentPrompts(
                view, (Prompt(points=np.array([[30.0, 40.0]])), Prompt(box=np.array([5.0, 5.0, 60.0, 60.0])))
            ),
            Upscale(view, 2),
        ]
    together = answers(make()[0], requests)
    single = [part for request in requests for part in answers(make()[0], [request])]
    (expert,) = make()
    again = [part for request in requests for part in answers(expert, [request])]
    backwards = [answers(make()[0], [request]) for request in reversed(requests)][::-1]
    assert together == single == again == [part for parts in backwards for part in parts]


def test_a_view_is_perceived_once_and_memory_is_bounded_in_bytes():
    views = [view_of(np.full((20, 20, 3), value, np.uint8)) for value in (10, 20, 30)]
    perceiver = Perceiver(memory_bytes=2 * perceive(views[0].pixels).nbytes)
    first, second = perceiver(views[0]), perceiver(views[1])
    assert perceiver(view_of(views[0].pixels.copy())) is first
    perceiver(views[2])
    assert len(perceiver) == 2
    assert perceiver(views[0]) is first
    assert perceiver(views[1]) is not second


def test_the_latest_perception_is_remembered_however_large():
    views = [view_of(np.full((20, 20, 3), value, np.uint8)) for value in (10, 20)]
    perceiver = Perceiver(memory_bytes=0)
    for view in views:
        assert perceiver(view) is perceiver(view)
    assert len(perceiver) == 1
    with pytest.raises(InvalidData, match="at least 0"):
        Perceiver(memory_bytes=-1)


def test_a_perception_takes_about_as_much_memory_as_it_says():
    pixels = ScenesDataset("reasonseg", "val", 1).get(0).image
    perceive(pixels)
    tracemalloc.start()
    try:
        perceptions = [perceive(pixels) for _ in range(3)]
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken == pytest.approx(sum(each.nbytes for each in perceptions), rel=0.5)


def test_copies_of_the_expert_start_without_what_it_remembers():
    (expert,) = make()
    expert.run([GroundPhrase(view_of(TWO_CARS[0]), "car")])
    copied = pickle.loads(pickle.dumps(expert))
    assert len(expert.perceive) == 1
    assert len(copied.perceive) == 0
    assert copied.perceive.memory_bytes == expert.perceive.memory_bytes


def test_pixels_are_left_alone():
    pixels, _ = TWO_CARS
    before = pixels.copy()
    pixels.flags.writeable = False
    (expert,) = make()
    view = view_of(pixels)
    prompts = (Prompt(points=np.array([[30.0, 40.0]])), Prompt(points=np.array([[2.0, 190.0]])))
    expert.run([GroundPhrase(view, "car"), PointPhrase(view, "car"), SegmentPrompts(view, prompts), Upscale(view)])
    np.testing.assert_array_equal(pixels, before)


# --- odd input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 400), (17, 13), (33, 1), (1500, 2100)])
@pytest.mark.parametrize("fill", ["flat", "noise", "black"])
def test_any_size_is_answered(shape, fill):
    rng = np.random.default_rng(0)
    pixels = np.zeros((*shape, 3), np.uint8)
    if fill == "noise" and shape[0] < 1000:
        pixels = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    elif fill == "flat":
        pixels[:] = (90, 120, 30)
    view = view_of(pixels)
    (expert,) = make()
    prompts = (
        Prompt(points=np.array([[0.0, 0.0]])),
        Prompt(points=np.array([[1e9, -4.0]])),
        Prompt(box=np.array([0.0, 0.0, 1e6, 1e6])),
        Prompt(),
    )
    found, points, candidates = expert.run(
        [GroundPhrase(view, "red car"), PointPhrase(view, "everything that is not red"), SegmentPrompts(view, prompts)]
    )
    assert found.masks.shape == shape
    assert np.isfinite(points.points).all()
    assert [len(masks) for masks in candidates.masks] == [3] * 4
    assert all(masks.shape == shape for masks in candidates.masks)
    assert not candidates.scores[3].any()


@pytest.mark.parametrize(
    "phrase", ["", " ", "\x00", "the " * 200_000, "красный дом", "🚗🚗", "\ud800", "a" * 1_000_000]
)
def test_any_phrase_is_answered(phrase):
    pixels, _ = TWO_CARS
    for kind in (GroundPhrase, PointPhrase):
        (result,) = ask(pixels, phrase, kind=kind)
        assert len(result.boxes if kind is GroundPhrase else result.points) == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_pictures_give_valid_results(seed):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (int(rng.integers(1, 9)), int(rng.integers(1, 9)), 3), dtype=np.uint8)
    pixels = coarse.repeat(int(rng.integers(1, 30)), axis=0).repeat(int(rng.integers(1, 30)), axis=1)
    perception = perceive(pixels)
    assert perception.masks.shape == pixels.shape[:2]
    assert len(perception.masks) == len(perception.percepts)
    for percept in perception.percepts:
        assert 0 <= percept.known <= 1
        for probabilities in (percept.kinds, percept.colours, percept.patterns):
            assert sum(probabilities.values()) <= 1 + 1e-6
            assert all(value >= 0 for value in probabilities.values())


# --- the parts ----------------------------------------------------------------------------------------------------


def test_colour_probabilities_sum_to_one():
    lab = to_lab(np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8))
    probabilities = name_probabilities(lab)
    assert probabilities.shape == (5, 7, len(NAMES))
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1)


def test_background_fit_recovers_a_quadratic_under_objects():
    ys, xs = np.mgrid[-1:1:100j, -1:1:120j]
    truth = np.stack([60 + 8 * xs - 5 * ys * ys, 3 + 2 * xs * ys, -4 + 3 * ys], axis=-1)
    lab = truth + np.random.default_rng(0).normal(0, 1, truth.shape)
    lab[20:50, 30:60] = (40, 60, 40)
    surface = fit_background(lab.astype(np.float32))
    assert np.abs(surface.levels(120, 100) - truth).mean() < 0.6
    assert surface.explained == pytest.approx(1 - 900 / 12000, abs=0.03)


def test_working_size_never_enlarges():
    assert working_size(300, 100) == (300, 100)
    assert max(working_size(3000, 1000)) < 400


def test_a_turn_shifts_the_polar_map():
    mask = draw_object("key", 80).mask
    turned = np.rot90(mask, -1)
    shifted = np.roll(polar_map(mask), ANGLES // 4, axis=1)
    assert polar_map(mask).shape == (RINGS, ANGLES)
    assert np.abs(shifted - polar_map(turned)).mean() < 0.03


def test_correlation_of_a_drawing_with_its_kind_is_one():
    bank = load_banks().whole
    scores = correlate(polar_map(draw_object("anchor", 64).mask)[None], bank)[0]
    assert bank.names[int(scores.argmax())] == "anchor"
    assert scores.max() == pytest.approx(1, abs=0.02)
    assert (scores >= -1.001).all()


def test_free_kinds_are_known_at_any_turn_and_upright_ones_are_not():
    bank = load_banks().whole
    keys = np.stack([polar_map(draw_object("key", 64, turn).mask) for turn in (0, 90, 200)])
    assert (correlate(keys, bank)[:, bank.names.index("key")] > 0.95).all()
    house = np.stack([polar_map(draw_object("house", 64, turn).mask) for turn in (0, 180)])
    upright, upside_down = correlate(house, bank)[:, bank.names.index("house")]
    assert upright > 0.97 > upside_down
