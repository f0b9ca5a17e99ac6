"""Models of transformers are read from folders: whole, of the right family, without network or foreign code."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from tiny_models import owlv2

from visenv.errors import InvalidData, MissingWeights
from visenv.experts.models.transformers_files import (
    channels_first,
    find_model,
    load_model,
    load_processor,
    model_type,
    processor_digest,
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return owlv2(tmp_path_factory.mktemp("owlv2"))


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "owlv2")


def kind():
    from transformers import Owlv2ForObjectDetection

    return Owlv2ForObjectDetection


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_what_was_saved_is_read_back(saved):
    assert find_model(saved, ("owlv2",)) == saved
    assert model_type(saved) == "owlv2"
    model, processor = load_model(kind(), saved, torch.float32), load_processor(saved, ("Owlv2Processor",))
    inputs = processor(
        images=[channels_first(np.zeros((3, 3, 3), np.uint8))],
        text=["a cat"],
        input_data_format="channels_first",
        return_tensors="pt",
    )
    assert model(**inputs).pred_boxes.shape == (1, 16, 4)
    assert load_model(kind(), saved, torch.bfloat16).dtype is torch.bfloat16
    assert processor_digest(processor) == processor_digest(load_processor(saved))


def test_weights_as_a_state_dict_are_read_as_tensors_alone(folder):
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert isinstance(load_model(kind(), find_model(folder), torch.float32), kind())

    class Evil:
        def __reduce__(self):
            return (exec, ("raise SystemExit('code of a checkpoint was run')",))

    torch.save({"logit_bias": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(InvalidData, match="Expected weights of Owlv2ForObjectDetection in"):
        load_model(kind(), folder, torch.float32)


def test_another_family_is_refused_before_anything_is_loaded(saved):
    with pytest.raises(InvalidData, match="Expected a model of the type sam3 or sam3_video in .*, but got 'owlv2'"):
        find_model(saved, ("sam3", "sam3_video"))


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("config.json", "Expected config.json in"),
        ("model.safetensors", "Expected model.safetensors in"),
        ("processor_config.json", "Expected preprocessor_config.json or processor_config.json in"),
        ("tokenizer.json", "Expected tokenizer.json or vocab.json or vocab.txt in"),
    ],
)
def test_a_file_that_is_missing_is_named(folder, lost, message):
    (folder / lost).unlink()
    with pytest.raises(MissingWeights, match=message):
        find_model(folder)


def test_every_part_of_weights_in_parts_must_be_there(folder):
    model = load_model(kind(), folder, torch.float32)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    parts = sorted(folder.glob("model-*.safetensors"))
    assert len(parts) > 1
    again = load_model(kind(), find_model(folder), torch.float32)
    assert torch.equal(again.class_head.dense0.weight, model.class_head.dense0.weight)
    parts[1].unlink()
    with pytest.raises(MissingWeights, match=parts[1].name):
        find_model(folder)


def test_weights_that_are_missing_or_of_another_shape_are_an_error_and_never_made_up(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    name = "class_head.dense0.weight"
    save_file({key: value for key, value in weights.items() if key != name}, folder / "model.safetensors")
    with pytest.raises(InvalidData, match=r"1 are missing \(class_head\.dense0\.weight\)"):
        load_model(kind(), folder, torch.float32)
    save_file({**weights, name: torch.zeros(3, 3)}, folder / "model.safetensors")
    with pytest.raises(InvalidData, match=r"class_head\.dense0\.weight|cannot be read"):
        load_model(kind(), folder, torch.float32)
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(InvalidData, match="cannot be read"):
        load_model(kind(), folder, torch.float32)


def test_a_processor_of_another_family_is_refused(folder):
    with pytest.raises(InvalidData, match="Expected a Sam3Processor for the model in .*, but got a Owlv2Processor"):
        load_processor(folder, ("Sam3Processor",))
    change(folder / "processor_config.json", processor_class="NoSuchProcessor")
    change(folder / "tokenizer_config.json", processor_class="NoSuchProcessor")
    with pytest.raises(InvalidData, match="Expected a"):
        load_processor(folder, ("Owlv2Processor",))


def test_code_in_a_folder_is_not_run(folder):
    (folder / "evil.py").write_text("raise SystemExit('code of a checkpoint was run')")
    change(folder / "config.json", model_type="unheard-of", auto_map={"AutoModel": "evil.Evil", "AutoConfig": "evil.E"})
    with pytest.raises(InvalidData, match="cannot be read"):
        load_model(transformers.AutoModel, folder, torch.float32)


def test_broken_settings_are_named(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(InvalidData, match=r"Expected JSON in .*config\.json"):
        find_model(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(InvalidData, match="Expected a JSON object in"):
        find_model(folder)
