"""Experts in processes of their own: which pixels these hold, and what they look at before they are asked."""

import pickle
import time
from dataclasses import replace

import numpy as np
import pytest
from process_stubs import ForeseeingExpert, MeetingExpert
from stubs import BrightExpert
from worker_stubs import asked, eight_views, failures, processes, worker_experts

import visenv  # noqa: F401 - registers the ids
from visenv.capabilities import ExpertFailure, GroundPhrase, PointPhrase, Upscale, View
from visenv.experts_making import make_experts
from visenv.experts_pool import ExpertPool
from visenv.experts_workers import WorkerExpert
from visenv.worker_pixels import Ledger, hold, made, unpack
from visenv.workspace import Workspace


@pytest.fixture(scope="module")
def views():
    return eight_views()


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def obedient(log):
    """Makes obedient experts in processes, and ends these."""
    with worker_experts(log) as make:
        yield make


# --- looking ahead ----------------------------------------------------------------------------------------------------


def ahead(log, count):
    """What was looked at ahead, once it is so much."""
    for _ in range(100):
        lines = [line.split() for line in log.read_text().splitlines() if " ahead " in line]
        if len(lines) >= count:
            break
        time.sleep(0.05)
    return [(int(line[0]), *map(float, line[2:])) for line in lines]


def test_processes_look_at_images_before_they_are_asked_about(obedient, views, log):
    expert = obedient(MeetingExpert, workers=2)
    pool = ExpertPool(make_experts(expert, None))
    pool.answer([PointPhrase(view, "a") for view in views[:2]])
    pool.foresee(views[:6])
    pool.answer([PointPhrase(views[0], "b")])
    looked = ahead(log, 4)
    assert sorted(line[2] for line in looked) == [40, 60, 80, 100], "not those that are known already"
    assert len({line[0] for line in looked}) == 2
    owners = {line[2]: line[0] for line in looked}
    asked_later = processes(pool.answer([PointPhrase(view, "c") for view in views[2:6]]))
    assert asked_later == [owners[brightness] for brightness in (40, 60, 80, 100)]


def test_images_that_nobody_holds_any_more_are_not_looked_at(obedient, views, log):
    expert = obedient(ForeseeingExpert, workers=1)
    pool = ExpertPool(make_experts(expert, None))
    pool.foresee([Workspace((np.full((32, 48, 3), 7, np.uint8),)).view("img_0", "")])
    pool.foresee(views[1:2])
    pool.answer([PointPhrase(views[0], "a")])
    assert [line[2] for line in ahead(log, 1)] == [20]


def test_a_process_looks_at_what_it_has_enlarged(obedient, views, log):
    expert = obedient(ForeseeingExpert, workers=2)
    enlarged = expert.run([Upscale(views[3], 2)])[0]
    ((pid, width, brightness, to_root),) = ahead(log, 1)
    assert (width, brightness, to_root) == (96, 60, 0.5)
    image = Workspace((views[3].pixels,)).root.upscaled("big", enlarged.pixels, 2, enlarged.fingerprint, 1)
    again = expert.run([PointPhrase(View(image.pixels, image.provenance), "a")])
    assert processes(again) == [pid]


def test_an_expert_that_fails_at_looking_ahead_still_answers(views):
    expert = WorkerExpert(Blind(), workers=1)
    pool = ExpertPool(make_experts(expert, None))
    pool.foresee(views)
    try:
        for view in views[:4]:
            assert not isinstance(pool.answer([GroundPhrase(view, "a")])[0], ExpertFailure)
        assert expert.processes.replaced == 0
    finally:
        expert.close()


class Blind(BrightExpert):
    def foresee(self, views):
        raise RuntimeError("cannot look ahead")


def test_a_request_is_not_blamed_for_what_may_have_been_a_look_ahead(obedient, views, log):
    expert = obedient(ForeseeingExpert, workers=1)
    pool = ExpertPool(make_experts(expert, None))
    answers = pool.answer([PointPhrase(views[0], "die")])
    assert failures(answers) == ["its process died (exit code 3)"]
    assert sum("die" in batch for batch in asked(log)) == 2


# --- pixels -----------------------------------------------------------------------------------------------------------


def test_only_the_crop_is_sent_and_only_once():
    whole = Workspace((np.zeros((1080, 1920, 3), np.uint8),)).view("img_0", "")
    crop = replace(whole, pixels=whole.pixels[:100, :100], provenance=whole.provenance.then("crop"))
    ledger, held = Ledger(), {}
    first = ledger.parcel([PointPhrase(crop, "a"), PointPhrase(crop, "b")])
    assert 30_000 <= len(pickle.dumps(first)) < 40_000, "100 x 100 pixels"
    again = ledger.parcel([PointPhrase(crop, "c")])
    assert len(pickle.dumps(again)) < 2_000
    for parcel in (first, again):
        for request in unpack(parcel, held):
            assert request.view.provenance.key == crop.provenance.key
            assert np.array_equal(request.view.pixels, crop.pixels)
            assert not request.view.pixels.flags.writeable


def test_what_a_process_made_is_not_sent_back_to_it(views):
    ledger, held = Ledger(), {}
    enlarge = [Upscale(views[1], 2)]
    answers = BrightExpert().run(unpack(ledger.parcel(enlarge), held))
    ledger.note(enlarge, answers)
    hold(made(enlarge, answers), held)
    image = Workspace((views[1].pixels,)).root.upscaled("big", answers[0].pixels, 2, answers[0].fingerprint, 1)
    parcel = ledger.parcel([PointPhrase(View(image.pixels, image.provenance), "a")])
    assert parcel.pixels == {}
    assert np.array_equal(unpack(parcel, held)[0].view.pixels, answers[0].pixels)


def test_a_process_holds_so_much_and_the_ledger_knows_what(views):
    size = views[0].pixels.nbytes
    ledger, held = Ledger(limit=3 * size), {}
    rng = np.random.default_rng(0)
    for _ in range(100):
        some = [PointPhrase(views[index], "a") for index in rng.choice(8, rng.integers(1, 5), replace=False)]
        for request, wanted in zip(unpack(ledger.parcel(some), held), some, strict=True):
            assert np.array_equal(request.view.pixels, wanted.view.pixels)
        assert set(held) == {key for key in held if key in ledger} | set(ledger._forgotten)
        assert sum(pixels.nbytes for pixels in held.values()) <= 7 * size
