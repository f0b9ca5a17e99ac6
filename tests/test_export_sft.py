"""The round trip: episodes become a training set, TRL's own SFTTrainer learns it, and the model writes the calls."""

import re

import datasets
import gymnasium as gym
import pytest
import torch
from tiny_qwen import tiny_model, tiny_processor
from trl import SFTConfig, SFTTrainer

from visenv.adapters.blocks import with_pillow
from visenv.export import export_run, load_set
from visenv.protocol import parse_turn
from visenv.types import Answer, ToolCall
from visenv.wrappers import RecordTrajectories

datasets.disable_progress_bars()

ENV_ID = "VisHarness/RefSeg-v0"
KEYWORDS = {"dataset": "scenes", "split": "val", "experts": "oracle"}
CALLS = [
    ToolCall("PhraseToBoxMask", {"images": ["img_0"], "phrase": "it"}, "Look."),
    ToolCall("MergeBoxMask", {"images": ["img_0"]}),
    Answer("There."),
]
TEMPLATE = """\
{%- for message in messages %}<|im_start|>{{ message.role + "\n" }}
{%- for block in message.content %}
{%- if block.type == "image" %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ block.text }}{% endif %}
{%- endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The turns of an episode as a training set, with what the model saw before each."""
    folder = tmp_path_factory.mktemp("sft")
    env = gym.make(ENV_ID, obs="features", **KEYWORDS)
    recorder = RecordTrajectories(env, folder / "run", KEYWORDS, pictures=False, page=None)
    recorder.reset(options={"index": 0})
    for call in CALLS:
        recorder.step(call)
    recorder.close()
    return export_run(folder / "run", folder / "set")


def words_of(rows):
    """The words of a set's texts, each to be one token; so is the system prompt, which is the same in all rows."""
    system = rows[0]["prompt"][0]["content"][0]["text"]
    texts = [block["text"] for row in rows for message in row["prompt"][1:] for block in message["content"]]
    texts += [row["completion"][0]["content"][0]["text"] for row in rows]
    return [system, *dict.fromkeys(word for text in texts if text for word in re.findall(r"[a-zA-Z]{2,}", text))]


def test_a_model_that_has_learnt_the_set_calls_the_tools_again(made, tmp_path):
    torch.set_num_threads(1)
    rows = load_set(made["folder"])
    assert [len(row["images"]) for row in rows] == [1, 1, 0]
    processor = tiny_processor(words_of(rows), TEMPLATE)
    model = tiny_model(processor)
    # It is made to write some tokens whatever it reads; here it is to learn.
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for weight in (model.model.language_model.embed_tokens.weight, model.lm_head.weight):
            weight.normal_(std=0.3)
    seen = []
    forward = model.forward
    model.forward = lambda **inputs: seen.append(inputs) or forward(**inputs)
    config = SFTConfig(
        output_dir=str(tmp_path),
        max_steps=60,
        per_device_train_batch_size=3,
        learning_rate=1e-2,
        lr_scheduler_type="linear",
        max_length=None,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        report_to=[],
        logging_steps=10,
        disable_tqdm=True,
        seed=1,
    )
    trainer = SFTTrainer(model=model, args=config, train_dataset=rows, processing_class=processor)
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert losses[-1] < 0.1 < losses[0]
    pad = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    for batch in seen:
        assert len(batch["image_grid_thw"]) == 2
        merged = batch["image_grid_thw"].prod(dim=1) // 4
        assert int((batch["input_ids"] == pad).sum()) == int(merged.sum()), "As many places as pictures have tokens."
        assert not (batch["labels"] == pad).any(), "Nothing that was shown is learned."

    model.eval()
    env = gym.make(ENV_ID, obs="features", action_mode="text", **KEYWORDS).unwrapped
    env.reset(options={"index": 0})
    for call in CALLS:
        messages = [{**each, "content": with_pillow(each["content"])} for each in env.episode.messages()]
        inputs = processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        with torch.no_grad():
            ids = model.generate(**inputs, max_new_tokens=200, do_sample=False)
        written = processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        assert parse_turn(written) == call
        env.step(written)
    assert env.episode.outcome.termination == "answer"
    assert env.metrics()["gIoU"] == 1.0
