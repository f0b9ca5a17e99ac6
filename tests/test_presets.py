"""Presets: small files that say which experts answer what."""

import gymnasium as gym
import pytest
import yaml
from stubs import BrightExpert, SquareDataset

import visenv  # noqa: F401 - registers the ids
from visenv.builtin import PRESETS
from visenv.capabilities import CAPABILITIES
from visenv.errors import InvalidData, UnknownName
from visenv.experts.presets import load_preset, preset_names, preset_text
from visenv.experts_making import make_experts


class Thresholded(BrightExpert):
    """What a preset may name: a class with keywords."""

    def __init__(self, threshold=128, device="auto"):
        super().__init__()
        self.threshold, self.device = threshold, device


class Outlined(BrightExpert):
    """One that takes a segmenter."""

    capabilities = ("GroundPhrase",)

    def __init__(self, segmenter=None):
        super().__init__()
        self.segmenter = segmenter


THRESHOLDED, OUTLINED = f"{__name__}:Thresholded", f"{__name__}:Outlined"


def test_every_preset_that_ships_is_registered_with_its_own_summary_and_reads():
    assert preset_names() == sorted(PRESETS)
    for name in preset_names():
        preset = load_preset(name)
        assert preset.summary == PRESETS[name]
        for spec in preset.experts:
            assert set(spec.capabilities or ()) <= set(CAPABILITIES)
            assert {"model", "device", "precision"} <= set(spec.keywords)


def test_a_copied_and_changed_file_makes_the_experts_of_an_environment(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"experts:\n- expert: {THRESHOLDED}\n  capabilities: [GroundPhrase]\n  threshold: 200\nrest: classical\n"
    )
    env = gym.make("VisHarness/RefSeg-v0", dataset=SquareDataset(), experts=str(file)).unwrapped
    experts = env.pool.experts
    assert (experts["GroundPhrase"].name, experts["GroundPhrase"].threshold) == ("bright", 200)
    assert experts["SegmentPrompts"].name == "classical"


def test_the_text_of_a_preset_is_one():
    assert load_preset(yaml.safe_load(preset_text("grounded-sam2"))).experts == load_preset("grounded-sam2").experts


def test_a_segmenter_is_the_expert_named_before_or_a_set():
    preset = load_preset({"experts": [{"expert": THRESHOLDED}, {"expert": OUTLINED, "segmenter": THRESHOLDED}]})
    first, second = preset.make()
    assert second.segmenter is first
    alone = load_preset({"experts": [{"expert": OUTLINED, "segmenter": "classical"}]})
    assert alone.make()[0].segmenter.name == "classical"


def test_using_changes_the_keywords_of_those_that_take_them():
    preset = load_preset({"experts": [{"expert": THRESHOLDED}, {"expert": OUTLINED}]}).using(device="cpu")
    assert [dict(spec.keywords) for spec in preset.experts] == [{"device": "cpu"}, {}]
    assert preset.make()[0].device == "cpu"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"experts": []}, "Expected a mapping with a list of experts"),
        ([1], "Expected a mapping with a list of experts"),
        ({"experts": [{"model": "x"}]}, "Expected mappings with 'expert'"),
        ({"experts": [{"expert": THRESHOLDED}], "rset": "classical"}, "but got rset"),
        ({"experts": [{"expert": THRESHOLDED, "capabilities": ["Ground"]}]}, "Expected a list of capabilities"),
        ({"experts": [{"expert": THRESHOLDED, "serve": 3}]}, "Expected a mapping as 'serve'"),
        ({"experts": [{"expert": THRESHOLDED, "treshold": 3}]}, "Did you mean 'threshold'"),
        ({"experts": [{"expert": THRESHOLDED, "segmenter": "classical"}]}, "Expected a segmenter only for experts"),
        ({"experts": [{"expert": OUTLINED, "capabilities": ["Upscale"]}]}, "Expected capabilities that"),
        ({"experts": [{"expert": OUTLINED}], "rest": "oracle"}, "reads the truth"),
    ],
)
def test_mistakes_say_what_was_expected(content, message, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(InvalidData, match=message):
        load_preset(file).make()


@pytest.mark.parametrize(("name", "message"), [("sam22", "Did you mean 'sam2'"), ("nothing.yaml", "no such file")])
def test_a_preset_that_is_not_there_is_named(name, message):
    with pytest.raises((UnknownName, InvalidData), match=message):
        load_preset(name)


def test_a_family_that_is_not_there_is_named():
    with pytest.raises(UnknownName, match="Did you mean 'sam2'"):
        load_preset({"experts": [{"expert": "sam22"}]}).make()


def test_a_file_that_is_no_yaml_is_refused(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("experts: [")
    with pytest.raises(InvalidData, match="cannot be read"):
        make_experts(str(file), find=None)


def test_a_file_does_not_make_python_objects(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("experts: !!python/object/apply:os.system ['true']")
    with pytest.raises(InvalidData, match="cannot be read"):
        make_experts(str(file), find=None)
