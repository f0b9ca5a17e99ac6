"""Models that find what a phrase names, chained with one that outlines it."""

import gymnasium as gym
import numpy as np
import pytest
import tiny_sam2
import torch
import yaml
from stubs import BrightExpert
from tiny_grounding import replace_output, saved
from tiny_models import view

from visenv.capabilities import Candidates, ExpertFailure, GroundPhrase, Prompt, SegmentPrompts
from visenv.errors import InvalidData
from visenv.experts.classical import Classical
from visenv.experts.grounding import GroundingExpert
from visenv.experts.presets import load_preset, preset_text
from visenv.experts_checks import check_result
from visenv.experts_pool import ExpertPool
from visenv.masks import Masks

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return saved(tmp_path_factory)


@pytest.fixture(scope="module")
def sam2_files(tmp_path_factory):
    return tiny_sam2.saved(tmp_path_factory.mktemp("sam2"))


# --- masks ------------------------------------------------------------------------------------------------------------


class Outliner(BrightExpert):
    """Three candidates a box: the second is the best, and fills the left half of the box."""

    capabilities, max_batch, fingerprint = ("SegmentPrompts",), 16, "outliner-1"

    def answer(self, request):
        assert isinstance(request, SegmentPrompts)
        shape = request.view.size[::-1]
        masks = []
        for prompt in request.prompts:
            x0, y0, x1, y1 = prompt.box
            three = [[x0, y0, x1, y1], [x0, y0, (x0 + x1) / 2, y1], [0, 0, 1, 1]]
            masks.append(Masks.from_boxes(np.array(three), shape))
        return Candidates(tuple(masks), tuple(np.array([0.5, 0.9, 0.1]) for _ in masks))


def plant_boxes(expert):
    """Let Grounding DINO find the upper left and the lower right quarter of images that are not higher than wide."""

    def planted(module, args, keywords, outputs):
        boxes = torch.tensor([0.25, 0.25, 0.5, 0.5]).expand_as(outputs.pred_boxes).clone()
        boxes[:, 1] = 0.75
        boxes[:, 1, 2:] = 0.5
        logits = torch.full_like(outputs.logits, -50.0)
        if keywords["pixel_values"].shape[-1] >= keywords["pixel_values"].shape[-2]:
            logits[:, 0, 1], logits[:, 1, 1] = 2.0, 1.0
        return replace_output(outputs, pred_boxes=boxes, logits=logits)

    expert.load().model.register_forward_hook(planted, with_kwargs=True)
    return expert


def test_without_a_segmenter_boxes_are_filled(folders):
    expert = plant_boxes(GroundingExpert(folders["grounding-dino"]))
    (found, nothing) = expert.run([GroundPhrase(view(40, 30), "cat"), GroundPhrase(view(30, 40), "cat")])
    np.testing.assert_array_equal(found.masks.boxes, [[0, 0, 20, 15], [20, 15, 40, 30]])
    assert found.masks.areas.tolist() == [300, 300]
    assert (len(nothing), nothing.masks.shape) == (0, (40, 30))


def test_a_segmenter_is_called_once_and_its_best_candidate_taken(folders):
    outliner = Outliner()
    expert = plant_boxes(GroundingExpert(folders["grounding-dino"], outliner))
    requests = [GroundPhrase(view(*size), "cat") for size in ((40, 30), (30, 40), (80, 20), (40, 31))]
    first, nothing, third, _ = expert.run(requests)
    assert outliner.batches == [3]
    np.testing.assert_array_equal(first.masks.boxes, [[0, 0, 10, 15], [20, 15, 30, 30]])
    np.testing.assert_array_equal(first.boxes, [[0, 0, 20, 15], [20, 15, 40, 30]])
    np.testing.assert_array_equal(third.masks.boxes[0], [0, 0, 20, 10])
    assert len(nothing) == len(nothing.masks) == 0
    outliner.max_batch = 2
    expert.run(requests)
    assert outliner.batches == [3, 2, 1]


def test_what_a_segmenter_fails_on_fails_alone(folders):
    class Failing(Outliner):
        def answer(self, request):
            return ExpertFailure("outliner", "too wide") if request.view.size[0] > 60 else super().answer(request)

    expert = plant_boxes(GroundingExpert(folders["grounding-dino"], Failing()))
    pool = ExpertPool({"GroundPhrase": expert})
    good, bad = pool.answer([GroundPhrase(view(40, 30), "cat"), GroundPhrase(view(80, 20), "cat")])
    assert len(good) == 2
    assert bad.message == "too wide"


def test_the_segmenter_is_part_of_what_the_expert_is(folders):
    class PerSample(Outliner):
        per_sample = True

    folder = folders["owlv2"]
    other = Outliner()
    other.fingerprint = "outliner-2"
    prints = {GroundingExpert(folder, segmenter).fingerprint for segmenter in (None, Outliner(), other)}
    assert len(prints) == 3
    assert GroundingExpert(folder, PerSample()).per_sample
    assert not GroundingExpert(folder, Outliner()).per_sample
    with pytest.raises(InvalidData, match="Expected segmenter to be an expert that answers SegmentPrompts"):
        GroundingExpert(folder, GroundingExpert(folder))


# --- in an environment ------------------------------------------------------------------------------------------------


def play(env):
    env.reset(seed=0)
    *_, info = env.step({"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "red square"}})
    assert info["error"] is None, info["error"]
    *_, info = env.step({"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}})
    assert info["error"] is None, info["error"]
    return env.unwrapped.episode.outcome.detections


def test_an_episode_is_played_with_boxes_outlined_by_the_classical_segmenter(folders):
    expert = plant_boxes(GroundingExpert(folders["grounding-dino"], segmenter=Classical()))
    env = gym.make("VisHarness/ReasonSeg-v0", experts={"*": "classical", "GroundPhrase": expert})
    assert len(play(env)) >= 1


def test_the_preset_chains_sam2(folders, sam2_files):
    content = yaml.safe_load(preset_text("grounded-sam2"))
    sam2, grounding = content["experts"]
    assert (grounding["segmenter"], grounding["score_threshold"]) == ("sam2", 0.35)
    sam2["model"], sam2["config"] = (str(file) for file in sam2_files)
    grounding["model"] = str(folders["grounding-dino"])
    experts = load_preset(content).using(device="cpu").make()
    assert experts[1].segmenter is experts[0]
    plant_boxes(experts[1])
    asked = GroundPhrase(view(80, 48), "cat")
    (found,) = experts[1].run([asked])
    check_result(asked, found)
    (outlined,) = experts[0].run([SegmentPrompts(asked.view, tuple(Prompt(box=box) for box in found.boxes))])
    for mask, masks, scores in zip(found.masks, outlined.masks, outlined.scores, strict=True):
        assert float(mask.iou(masks)[0, int(np.argmax(scores))]) == 1 or mask.areas[0] == 0


def test_the_preset_plays_an_episode_with_another_segmenter(folders):
    content = yaml.safe_load(preset_text("grounded-sam2"))
    grounding = {**content["experts"][1], "model": str(folders["grounding-dino"]), "segmenter": "classical"}
    experts = load_preset({"experts": [grounding], "rest": "classical"}).using(device="cpu").make()
    assert isinstance(experts[0].segmenter, Classical)
    plant_boxes(experts[0])
    assert len(play(gym.make("VisHarness/ReasonSeg-v0", experts=experts))) >= 1
