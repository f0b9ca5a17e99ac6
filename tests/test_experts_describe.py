"""Images in words: tiny vision-language models with random weights, and planted answers."""

import pickle

import numpy as np
import pytest
import torch
from tiny_models import view
from tiny_vlms import QWEN_TEMPLATE, gemma3, llava, molmo2, qwen3_vl

from visenv.capabilities import Describe, Embed
from visenv.errors import InvalidData, MissingWeights
from visenv.experts.describe import FOCUS, MAX_IMAGES, PROMPTS, DescribeExpert
from visenv.experts_checks import check_result
from visenv.experts_pool import ExpertPool

MAKERS = {"qwen3_vl": qwen3_vl, "molmo2": molmo2, "llava": llava, "gemma3": gemma3}
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in MAKERS.items()}


@pytest.fixture(scope="module")
def experts(folders):
    return {name: DescribeExpert(folder, device="cpu", max_new_tokens=8) for name, folder in folders.items()}


REQUESTS = (
    Describe(view(40, 30)),
    Describe(view(61, 97), focus="the small red car"),
    Describe(view(1, 1), "visual_prompt"),
    Describe(view(50, 60), "compare", others=(view(60, 50, seed=1), view(3, 200))),
    Describe(view(50, 60), "compare", "the cat", (view(60, 50, seed=2),)),
)


@pytest.mark.parametrize("name", MAKERS)
def test_a_batch_of_all_tasks_is_as_many_of_one(experts, name):
    together = ExpertPool({"Describe": experts[name]}).answer(REQUESTS)
    for request, found in zip(REQUESTS, together, strict=True):
        check_result(request, found)
        assert found == experts[name].run([request])[0]
        assert found.text == found.text.strip()
    texts = {found.text for found in together}
    assert len(texts) > 1 or name == "gemma3"  # whose random weights say one thing


def planted(monkeypatch, expert, text):
    model, processor = expert.load()
    asked = []

    def generate(**inputs):
        asked.append(inputs)
        answer = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return torch.cat([inputs["input_ids"], torch.tensor([answer] * len(inputs["input_ids"]))], dim=1)

    monkeypatch.setattr(model, "generate", generate)
    return asked


def test_each_image_is_shown_as_one_of_its_own(experts, monkeypatch):
    expert = experts["qwen3_vl"]
    asked = planted(monkeypatch, expert, "words")
    sizes = ((64, 48), (48, 80), (32, 32))
    first, *others = (view(*size) for size in sizes)
    expert.run([Describe(first, "compare", others=tuple(others))])
    (inputs,) = asked
    assert [(columns * 8, rows * 8) for _, rows, columns in inputs["image_grid_thw"].tolist()] == list(sizes)
    prompt = expert.processor.tokenizer.decode(inputs["input_ids"][0])
    order = [prompt.index(part) for part in ("Image 1:", "Image 2:", "Image 3:", "Compare these images")]
    assert order == sorted(order)
    assert prompt.count("<|vision_start|>") == 3
    marks = expert.processor.tokenizer.get_vocab()["<|image_pad|>"]
    assert (inputs["input_ids"] == marks).sum() == sum(width * height // 256 for width, height in sizes)


@pytest.mark.parametrize("task", PROMPTS)
def test_the_task_and_the_focus_are_put_in_words(experts, monkeypatch, task):
    expert = experts["qwen3_vl"]
    asked = planted(monkeypatch, expert, "words")
    others = (view(seed=1),) if task == "compare" else ()
    expert.run([Describe(view(), task, others=others), Describe(view(), task, "the {focus} cat.", others)])
    plain, focused = expert.processor.tokenizer.batch_decode(asked[0]["input_ids"])
    assert PROMPTS[task].replace("{focus}", "") in plain
    assert FOCUS.replace("{focus}", "the {focus} cat") in focused
    assert "Pay attention" not in plain


def test_answers_are_stripped_of_blanks_and_thoughts_and_bounded(experts, monkeypatch):
    expert = experts["qwen3_vl"]
    for text, expected in (
        ("  a cat \n", "a cat"),
        ("<think>hm, a dog?</think>\n\na cat", "a cat"),
        ("hm, a dog?</think> a cat", "a cat"),
        ("<think>hm, never", ""),
        ("", ""),
    ):
        planted(monkeypatch, expert, text)
        assert expert.run([Describe(view())])[0].text == expected
    monkeypatch.undo()
    tokens = expert.processor.tokenizer(expert.run([Describe(view())])[0].text)["input_ids"]
    assert len(tokens) <= 3 * 8  # eight tokens are at most eight bytes, each up to three where it is no whole letter


def test_words_of_ones_own(folders, monkeypatch):
    expert = DescribeExpert(folders["qwen3_vl"], device="cpu", prompts={"caption": "What? {focus}"})
    asked = planted(monkeypatch, expert, "words")
    expert.run([Describe(view())])
    assert "What? <|im_end|>" in expert.processor.tokenizer.decode(asked[0]["input_ids"][0])
    assert expert.fingerprint != DescribeExpert(folders["qwen3_vl"], device="cpu").fingerprint
    with pytest.raises(InvalidData, match="Expected prompts for caption, compare, visual_prompt, but got captoin"):
        DescribeExpert(folders["qwen3_vl"], prompts={"captoin": "What?"})


def test_copies_and_given_models_answer_alike(experts):
    expert = experts["molmo2"]
    expected = expert.run([REQUESTS[1]])
    given = DescribeExpert(expert.load(), device="cpu", max_new_tokens=8)
    for other in (given, pickle.loads(pickle.dumps(expert)), pickle.loads(pickle.dumps(given))):
        assert other.run([REQUESTS[1]]) == expected
        other.unload()
        assert other.run([REQUESTS[1]]) == expected


def test_a_template_that_loses_images_and_files_that_are_missing_are_said_at_once(tmp_path):
    lost = QWEN_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "")
    with pytest.raises(InvalidData, match="chat template in .* images in a chat"):
        DescribeExpert(qwen3_vl(tmp_path, template=lost))
    with pytest.raises(MissingWeights, match="hf download Qwen/Qwen3-VL-4B-Instruct"):
        DescribeExpert("Qwen/Qwen3-VL-4B-Instruct")


def test_an_image_processor_alone_is_not_enough(experts):
    model, processor = experts["qwen3_vl"].load()
    with pytest.raises(InvalidData, match="Expected a processor of images and texts"):
        DescribeExpert((model, processor.image_processor))


def test_other_requests_and_too_many_images_are_refused(experts):
    expert = experts["qwen3_vl"]
    with pytest.raises(InvalidData, match="describe does not answer Embed"):
        expert.run([Embed(view())])
    many = Describe(view(), "compare", others=tuple(view(seed=seed) for seed in range(MAX_IMAGES)))
    with pytest.raises(InvalidData, match="Expected at most 8 images to compare, but got 9"):
        expert.run([many])
    expert.warm_up()


def test_large_images_are_shown_small(folders, monkeypatch):
    expert = DescribeExpert(folders["molmo2"], device="cpu", max_new_tokens=2)
    request = Describe(view(7680, 4320))
    check_result(request, expert.run([request])[0])
    assert np.prod(request.view.size) > expert.max_pixels


def test_a_preset_names_it(folders):
    from visenv.experts.presets import load_preset

    spec = {"expert": "describe", "model": str(folders["llava"]), "device": "cpu", "max_new_tokens": 3}
    (expert,) = load_preset({"experts": [spec]}).make()
    assert isinstance(expert, DescribeExpert)
    assert expert.max_new_tokens == 3
