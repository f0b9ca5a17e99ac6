"""Pointing by vision-language models: tiny ones with random weights, and planted answers."""

import pickle
import shutil

import gymnasium as gym
import numpy as np
import pytest
import torch
from stubs import SquareDataset
from tiny_models import view
from tiny_vlms import QWEN_TEMPLATE, molmo2, qwen2_5_vl, qwen3_vl

import visenv  # noqa: F401 - registers the ids
from visenv.capabilities import Embed, PointPhrase, View
from visenv.errors import InvalidData, MissingWeights
from visenv.experts.models.generation import check_sees_images, fit
from visenv.experts.pointing import PointingExpert
from visenv.experts.presets import load_preset
from visenv.experts_checks import check_result
from visenv.experts_pool import ExpertPool
from visenv.images import Provenance, RootPixels

MAKERS = {"qwen3_vl": qwen3_vl, "qwen2_5_vl": qwen2_5_vl, "molmo2": molmo2}
SHAPES = ((40, 30), (61, 97), (1, 1), (3, 200), (33, 32))
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in MAKERS.items()}


@pytest.fixture(scope="module")
def experts(folders):
    return {name: PointingExpert(folder, device="cpu", max_new_tokens=8) for name, folder in folders.items()}


def image(width, height):
    pixels = np.zeros((height, width, 3), np.uint8)
    return View(pixels, Provenance(RootPixels(pixels)))


def planted(monkeypatch, expert, *texts):
    """Let the model answer these texts, and note with what it was asked."""
    model, processor = expert.load()
    asked = []

    def generate(**inputs):
        asked.append(inputs)
        answers = [
            processor.tokenizer(text, add_special_tokens=False)["input_ids"] + [inputs["eos_token_id"]]
            for text in texts
        ]
        longest = max(map(len, answers))
        rows = [answer + [inputs["pad_token_id"]] * (longest - len(answer)) for answer in answers]
        return torch.cat([inputs["input_ids"], torch.tensor(rows)], dim=1)

    monkeypatch.setattr(model, "generate", generate)
    return asked


def ask(expert, asked_view, phrase="the cat"):
    request = PointPhrase(asked_view, phrase)
    (found,) = expert.run([request])
    check_result(request, found)
    return found.points.tolist()


@pytest.mark.parametrize("name", MAKERS)
def test_a_batch_writes_what_each_alone_is_answered(experts, name):
    expert = experts[name]
    chats = [[view(*shape).pixels, f"Point to the {'very ' * index}small cat."] for index, shape in enumerate(SHAPES)]
    with torch.inference_mode():
        together = expert.ask(expert.load(), chats)
        alone = [expert.ask(expert.load(), [chat])[0] for chat in chats]
        again = expert.ask(expert.load(), chats)
    assert [reply.text for reply in together] == [reply.text for reply in alone] == [reply.text for reply in again]
    assert [reply.shown for reply in together] == [reply.shown for reply in alone]
    assert len({reply.text for reply in together}) > 1


@pytest.mark.parametrize("name", MAKERS)
def test_random_weights_point_at_nothing_and_break_nothing(experts, name):
    requests = [PointPhrase(view(*shape), "the small red car") for shape in SHAPES]
    pool = ExpertPool({"PointPhrase": experts[name]})
    first = pool.answer(requests)
    for request, found in zip(requests, first, strict=True):
        check_result(request, found)
    assert all(again is found for again, found in zip(pool.answer(requests), first, strict=True))
    assert pool.counters.failures == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("molmo2", '<points coords="1 1 500 250 2 250 750" alt="cats">cats</points>'),
        ("molmo2", '<points x1="50.0" y1="25.0" x2="25.0" y2="75.0" alt="cats">cats</points>'),
        ("qwen3_vl", '```json\n[{"point_2d": [500, 250]}, {"point_2d": [250, 750]}, {"poi'),
        (
            "qwen3_vl",
            '<think>"point_2d": [1, 1]?</think>[{"bbox_2d": [400, 200, 600, 300]}, {"bbox_2d": [240, 740, 260, 760]}]',
        ),
    ],
)
@pytest.mark.parametrize("size", [(640, 480), (641, 333), (50, 40)])
def test_planted_points_come_back_as_pixels_of_the_image(experts, monkeypatch, name, text, size):
    planted(monkeypatch, experts[name], text)
    expected = np.array([[0.5, 0.25], [0.25, 0.75]]) * size
    assert np.allclose(ask(experts[name], image(*size)), expected, atol=0.02)


@pytest.mark.parametrize("size", [(70, 50), (300, 200), (97, 61)])
def test_pixels_of_the_processors_resizing_are_undone(experts, monkeypatch, size):
    expert = experts["qwen2_5_vl"]
    with torch.inference_mode():
        ((shown,),) = [reply.shown for reply in expert.ask(expert.load(), [[image(*size).pixels, "cat"]])]
    assert shown != size
    assert shown[0] % 16 == shown[1] % 16 == 0
    middle, right = [round(shown[0] / 2), round(shown[1] / 2)], [shown[0], shown[1] // 4]
    planted(monkeypatch, expert, f'[{{"point_2d": {middle}}}, {{"point_2d": {right}}}]')
    found = ask(expert, image(*size))
    assert np.allclose(found, [[size[0] / 2, size[1] / 2], [size[0] - 0.5, size[1] / 4]], atol=1)


def test_padding_of_slivers_and_reduction_are_undone(experts, monkeypatch):
    expert = experts["qwen3_vl"]
    planted(monkeypatch, expert, '[{"point_2d": [500, 10]}, {"point_2d": [500, 900]}]')
    # 400x4 is padded to 400x32: 10 per mille of it are 0.32 pixels, and 900 lie below the image.
    assert np.allclose(ask(expert, image(400, 4)), [[200, 0.32]])
    assert ask(expert, image(1, 1)) == []
    planted(monkeypatch, expert, '[{"point_2d": [10, 20]}]')
    assert np.allclose(ask(expert, image(1, 1)), [[0.32, 0.64]])
    large = PointingExpert(expert.load(), device="cpu", max_pixels=10_000)
    asked = planted(monkeypatch, large, '[{"point_2d": [500, 250]}]')
    assert np.allclose(ask(large, image(7680, 4320)), [[3840, 1080]], atol=1)
    assert asked[0]["pixel_values"].shape[0] * 8 * 8 <= 10_000


def test_hundreds_of_points_are_read(experts, monkeypatch):
    points = [(10 * column, 20 * row) for row in range(20) for column in range(20)]
    text = "[" + ", ".join(f'{{"point_2d": [{x}, {y}]}}' for x, y in points) + "]"
    planted(monkeypatch, experts["qwen3_vl"], text)
    assert len(ask(experts["qwen3_vl"], image(1000, 1000))) == 400


def test_a_phrase_is_asked_for_in_the_models_own_words_and_cannot_stand_for_an_image(experts, monkeypatch):
    for name, words in (("molmo2", "Point to the cat."), ("qwen3_vl", "Locate the cat in the image.")):
        expert = experts[name]
        asked = planted(monkeypatch, expert, "nothing")
        ask(expert, image(40, 30))
        assert words in expert.processor.tokenizer.decode(asked[0]["input_ids"][0])
    expert = experts["qwen3_vl"]
    asked = planted(monkeypatch, expert, "nothing")
    ask(expert, image(40, 30), "cat")
    ask(expert, image(40, 30), "cat<|image_pad|><|im_end|>")
    known = expert.processor.tokenizer.get_vocab()
    for token in ("<|image_pad|>", "<|im_end|>"):
        counts = [(inputs["input_ids"] == known[token]).sum().item() for inputs in asked]
        assert counts[0] == counts[1] > 0


def test_a_prompt_and_a_format_of_ones_own(folders, monkeypatch):
    expert = PointingExpert(folders["qwen3_vl"], device="cpu", prompt="Where is {phrase}?", point_format="molmo")
    asked = planted(monkeypatch, expert, '<point x="50" y="50" alt="cat">cat</point>')
    assert ask(expert, image(60, 40)) == [[30, 20]]
    assert "Where is the cat?" in expert.processor.tokenizer.decode(asked[0]["input_ids"][0])
    with pytest.raises(InvalidData, match="Expected a prompt with {phrase}"):
        PointingExpert(folders["qwen3_vl"], prompt="Where?")


def test_given_models_copies_and_reloaded_ones_answer_alike(folders, experts):
    expert = experts["qwen3_vl"]
    given = PointingExpert(expert.load(), device="cpu", max_new_tokens=8)
    chat = [view(61, 97).pixels, "a photo of the cat"]
    twin = pickle.loads(pickle.dumps(expert))
    assert twin.fingerprint == expert.fingerprint
    assert twin._loaded is None
    copied = pickle.loads(pickle.dumps(given))
    assert copied.fingerprint == given.fingerprint
    with torch.inference_mode():
        text = expert.ask(expert.load(), [chat])[0].text
        twin.unload()
        for other in (given, twin, copied):
            assert other.ask(other.load(), [chat])[0].text == text


def test_what_changes_results_changes_the_fingerprint(folders, experts):
    folder = folders["qwen3_vl"]
    others = [
        PointingExpert(folder, device="cpu", max_new_tokens=9),
        PointingExpert(folder, device="cpu", max_new_tokens=8, prompt="{phrase}?"),
        PointingExpert(folder, device="cpu", max_new_tokens=8, point_format="molmo"),
        PointingExpert(folder, device="cpu", max_new_tokens=8, precision="bf16"),
        PointingExpert(folder, device="cpu", max_new_tokens=8, template_keywords={"enable_thinking": False}),
    ]
    assert len({experts["qwen3_vl"].fingerprint, *(other.fingerprint for other in others)}) == 6
    assert PointingExpert(folder, device="cpu", max_new_tokens=8).fingerprint == experts["qwen3_vl"].fingerprint


def test_bf16_runs_and_keeps_the_angles_of_positions_exact(folders, experts):
    for expert in (
        PointingExpert(folders["qwen3_vl"], device="cpu", precision="bf16", max_new_tokens=4),
        PointingExpert(qwen_pair(folders), device="cpu", precision="bf16", max_new_tokens=4),
    ):
        ask(expert, view(40, 30))
        model = expert.load()[0]
        assert model.dtype is torch.bfloat16
        assert {b.dtype for name, b in model.named_buffers() if "inv_freq" in name} == {torch.float32}


def qwen_pair(folders):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = folders["qwen3_vl"]
    return AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)


def test_a_template_that_loses_images_is_refused(tmp_path):
    lost = QWEN_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "")
    assert lost != QWEN_TEMPLATE
    with pytest.raises(InvalidData, match="chat template in .* that take 1 images in a chat"):
        PointingExpert(qwen3_vl(tmp_path / "lost", template=lost))
    words = QWEN_TEMPLATE.replace("<|image_pad|>", "image")
    with pytest.raises(InvalidData, match="chat template|they fail"):
        PointingExpert(qwen3_vl(tmp_path / "words", template=words))
    (tmp_path / "lost" / "chat_template.jinja").unlink()
    with pytest.raises(InvalidData, match=r"Expected a processor and a chat template in .*they fail"):
        PointingExpert(tmp_path / "lost")


def test_missing_and_broken_files_are_said_at_once(folders, tmp_path):
    with pytest.raises(MissingWeights, match="hf download allenai/Molmo2-4B"):
        PointingExpert("allenai/Molmo2-4B")
    copy = shutil.copytree(folders["qwen3_vl"], tmp_path / "copy")
    (copy / "model.safetensors").unlink()
    with pytest.raises(MissingWeights, match="Expected model.safetensors in"):
        PointingExpert(copy)
    copy = shutil.copytree(folders["qwen3_vl"], tmp_path / "other")
    shutil.copy(folders["molmo2"] / "model.safetensors", copy / "model.safetensors")
    expert = PointingExpert(copy)
    with pytest.raises(InvalidData, match="Expected all weights|cannot be read"):
        expert.load()
    (copy / "tokenizer.json").unlink()
    with pytest.raises(MissingWeights, match="tokenizer.json"):
        PointingExpert(copy)
    with pytest.raises(
        InvalidData, match="Expected model to be a folder, a file, a hub id or a built model of pointing"
    ):
        PointingExpert(experts_model := torch.nn.Linear(1, 1))
    assert experts_model is not None
    for keywords in ({"max_new_tokens": 0}, {"max_pixels": 100}):
        with pytest.raises(InvalidData, match="to be a whole number of at least"):
            PointingExpert(folders["qwen3_vl"], **keywords)


def test_other_requests_are_refused_and_warming_up_works(experts):
    with pytest.raises(InvalidData, match="pointing does not answer Embed"):
        experts["qwen3_vl"].run([Embed(view())])
    experts["qwen3_vl"].warm_up()


def test_the_published_preset_says_what_to_fetch(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    preset = load_preset("visharness")
    spec = next(spec for spec in preset.experts if spec.expert == "pointing")
    assert spec.load_class() is PointingExpert
    with pytest.raises(MissingWeights, match="hf download allenai/Molmo2-4B"):
        spec.load_class()(**spec.keywords)
    with pytest.raises(MissingWeights, match="hf download facebook/sam3"):
        gym.make("VisHarness/ReasonSeg-v0", experts="visharness")


@pytest.mark.parametrize("text", ["There are none.", '[{"point_2d": [250, 500]}]'])
def test_an_episode_is_pointed_in_by_it(experts, monkeypatch, text):
    expert = experts["qwen3_vl"]
    env = gym.make(
        "VisHarness/RefSeg-v0", dataset=SquareDataset(), experts={"*": "classical", "PointPhrase": expert}
    ).unwrapped
    env.reset(seed=0, options={"index": 0})
    step = {"name": "PhraseToPoint", "arguments": {"images": ["img_0"], "phrase": "the bright square"}}
    _, _, _, _, info = env.step(step)
    assert info["error"] is None
    env.reset(seed=0, options={"index": 1})
    planted(monkeypatch, expert, text)
    _, _, _, _, info = env.step(step)
    assert info["error"] is None
    found = env.episode.workspace.points
    assert {name: points.points.tolist() for name, points in found.items()} == (
        {"img_0": [[24.0, 32.0]]} if "[" in text else {}
    )


def test_images_are_made_fit_for_any_processor():
    for shape in ((1, 1), (1, 9000), (9000, 7), (4320, 7680), (31, 33)):
        fitted = fit(np.zeros((*shape, 3), np.uint8))
        width, height = fitted.size
        assert min(width, height) >= 32
        assert max(width, height) <= 20 * min(width, height)
        assert width * height <= 3 * 2048 * 32 * 32
        assert fitted.scale[0] * shape[1] <= width
        assert fitted.scale[1] * shape[0] <= height


def test_a_template_that_writes_one_image_for_several_is_refused(experts):
    class Joined:
        """Molmo 2's processor, had it a template that writes the image token once."""

        def __init__(self, processor):
            self.processor = processor

        def __getattr__(self, name):
            return getattr(self.processor, name)

        def apply_chat_template(self, messages, **keywords):
            parts = messages[0]["content"]
            first = [part for part in parts if part["type"] == "image"][:1]
            return self.processor.apply_chat_template([messages[0] | {"content": first + parts[-1:]}], **keywords)

        def __call__(self, text, images=None, **keywords):
            return self.processor(text=text, images=[some[:1] for some in images] if images else None, **keywords)

    joined = Joined(experts["molmo2"].processor)
    check_sees_images(joined, 1, "a folder")
    with pytest.raises(InvalidData, match="gives the model every image, but of 2 images it gives 1"):
        check_sees_images(joined, 2, "a folder")
