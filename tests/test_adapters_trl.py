"""TRL: its own GRPOTrainer plays the environments, with pictures, on a tiny model."""

import json
import math
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import trl
from stubs import BrightExpert, BrokenExpert, SquareDataset
from tiny_qwen import tiny_model, tiny_processor
from transformers.utils import get_json_schema

from visenv.adapters.blocks import check_chat_template
from visenv.adapters.trl import FINISHED, environment_class, episode_reward, reward_funcs, to_hf_dataset
from visenv.errors import InvalidData
from visenv.masks import Masks
from visenv.tools.visharness import MergeBoxMask, PhraseToBoxMask
from visenv.types import MaskTruth

ENV_ID = "VisHarness/RefSeg-v0"
RULES = {"dataset": SquareDataset(), "experts": BrightExpert()}


def call(name, **arguments):
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


FIND = call("PhraseToBoxMask", images=["img_0"], phrase="square")
MERGE = call("MergeBoxMask", images=["img_0"])
ANSWER = call("Answer", text="There it is.")
EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "grpo_trl.py"
TEMPLATE = (Path(trl.__file__).parent / "chat_templates" / "qwen3_vl.jinja").read_text("utf-8")


@pytest.fixture(scope="module")
def processor():
    return tiny_processor([FIND, MERGE, ANSWER], TEMPLATE)


def text(blocks):
    return "".join(block.get("text", "") for block in blocks)


def test_an_episode_is_played_by_methods():
    env = environment_class(ENV_ID, **RULES)()
    task = env.reset(prompt=[], index=1)
    assert [block["type"] for block in task] == ["text", "text", "image"]
    assert task[2]["image"].size == (96, 64)
    assert "bright square" in text(task)
    found = env.PhraseToBoxMask(images=["img_0"], phrase="square")
    assert "1 box with a mask" in text(found)
    assert [block["type"] for block in found].count("image") == 1
    assert "tool_response" not in text(found), "TRL's chat template wraps replies itself."
    env.MergeBoxMask(images=["img_0"])
    assert "ended: answer" in text(env.Answer(text="done"))
    assert env.get_reward() == 5.0
    assert env.MergeBoxMask(images=["img_0"]) == [{"type": "text", "text": FINISHED}]
    assert env.get_reward() == 5.0, "What comes after the end changes nothing."


def test_nothing_else_is_public():
    kind = environment_class(ENV_ID, **RULES)
    tools = {tool.name for tool in kind()._env.specs}
    assert {name for name in dir(kind) if not name.startswith("_")} == {*tools, "Answer", "reset", "get_reward"}
    assert kind.__name__ == "RefSeg"
    assert "get_reward" not in dir(environment_class(ENV_ID, owns_reward=False, **RULES))


def test_the_schemas_that_transformers_reads_are_those_of_the_tools():
    env = environment_class(ENV_ID, **RULES)()
    for spec in env._env.specs:
        function = get_json_schema(getattr(env, spec.name))["function"]
        assert function["description"] == spec.description
        assert function["parameters"]["required"] == [argument.name for argument in spec.arguments]
        for argument in spec.arguments:
            assert function["parameters"]["properties"][argument.name]["description"] == argument.description
    mode = get_json_schema(env.PointToBoxMask)["function"]["parameters"]["properties"]["mode"]
    assert mode["enum"] == ["confidence", "area"]


def test_a_bad_call_is_a_turn():
    env = environment_class(ENV_ID, **RULES)()
    env.reset(index=0)
    for arguments in ({"nonsense": 1}, {}, {"images": "img_0", "phrase": "x"}, {"images": ["img_9"], "phrase": "x"}):
        assert "Error" in text(env.PhraseToBoxMask(**arguments))
    assert env._env.episode.turns == 4


def test_an_episode_that_just_stops_is_scored_and_silence_is_no_answer():
    class Nothing(SquareDataset):
        def get(self, index):
            sample = super().get(index)
            return replace(sample, truth=MaskTruth(Masks.empty((self.height, self.width))))

    env = environment_class(ENV_ID, **RULES)()
    env.reset(index=0)
    env.PhraseToBoxMask(images=["img_0"], phrase="square")
    env.MergeBoxMask(images=["img_0"])
    assert env.get_reward() == 5.0
    null = environment_class(ENV_ID, **(RULES | {"dataset": Nothing()}))()
    null.reset(index=0)
    assert null.get_reward() == -3.0
    null.reset(index=0)
    null.Answer(text="There is none.")
    assert null.get_reward() == 5.0


def test_the_last_text_is_the_answer_for_reward_functions():
    kind = environment_class(ENV_ID, owns_reward=False, **RULES)
    envs = [kind(), kind()]
    for env in envs:
        env.reset(index=0)
        env.PhraseToBoxMask(images=["img_0"], phrase="square")
        env.MergeBoxMask(images=["img_0"])
    completions = [[{"role": "assistant", "content": "Done."}], [{"role": "tool", "name": "x", "content": "y"}]]
    assert episode_reward(completions, envs) == [5.0, 5.0]
    assert [env._env.episode.outcome.answer for env in envs] == ["Done.", None]
    assert reward_funcs() == [episode_reward]


def test_an_expert_that_fails_is_not_the_policys_fault():
    env = environment_class(ENV_ID, dataset=SquareDataset(), experts=BrokenExpert())()
    env.reset(index=0)
    env.PhraseToBoxMask(images=["img_0"], phrase="fail")
    assert env.get_reward() is None


def test_instances_share_data_experts_and_what_the_pool_remembers():
    expert = BrightExpert()
    kind = environment_class(ENV_ID, dataset=SquareDataset(), experts=expert)
    for env in (kind(), kind(), kind()):
        env.reset(sample_id="squares/2")
        env.PhraseToBoxMask(images=["img_0"], phrase="square")
    assert expert.batches == [1]


def test_a_data_set_holds_prompts_and_names_samples():
    rows = to_hf_dataset(ENV_ID, **RULES)
    assert rows["sample_id"][:] == ["squares/0", "squares/1", "squares/2"]
    assert [message["role"] for message in rows[0]["prompt"]] == ["system", "user"]
    with pytest.raises(InvalidData, match="never ends"):
        to_hf_dataset(ENV_ID)
    with pytest.raises(InvalidData, match="at most 3 samples"):
        to_hf_dataset(ENV_ID, size=4, **RULES)


def test_a_template_that_drops_pictures_is_refused_before_training(processor):
    check_chat_template(processor)
    blind = TEMPLATE.replace('message.role == "tool"', 'message.role == "tool" and false')
    with pytest.raises(InvalidData, match="drops them"):
        check_chat_template(tiny_processor(chat_template=blind))
    start = TEMPLATE.index('message.role == "tool"')
    deaf = TEMPLATE[:start] + TEMPLATE[start:].replace("<|vision_start|><|image_pad|><|vision_end|>", "", 1)
    with pytest.raises(InvalidData, match="trained blind"):
        check_chat_template(tiny_processor(chat_template=deaf))


def test_grpo_trains_on_pictures_and_tool_calls(processor, tmp_path):
    torch.set_num_threads(1)
    model = tiny_model(processor, {FIND: 14.0, MERGE: 14.0, ANSWER: 14.0, "<|im_end|>": 14.0})
    before = [parameter.detach().clone() for parameter in model.parameters()]
    example = runpy.run_path(str(EXAMPLE), run_name="grpo_trl")
    trainer = example["make_trainer"](
        model,
        processor,
        str(tmp_path),
        env_id=ENV_ID,
        # Two tools: the tiny tokenizer spells every letter of their schemas.
        env={"toolset": (PhraseToBoxMask, MergeBoxMask), **RULES},
        max_steps=2,
        per_device_train_batch_size=4,
        num_generations=4,
        gradient_accumulation_steps=1,
        max_completion_length=400,
        max_tool_calling_iterations=3,
        learning_rate=1e-4,
        use_cpu=True,
        bf16=False,
        seed=4,
        save_strategy="no",
    )
    trainer.train()
    logs = [line for line in trainer.state.log_history if "loss" in line]
    assert len(logs) == 2
    assert all(math.isfinite(line["loss"]) for line in logs)
    assert all(line["tools/call_frequency"] > 0 for line in logs)
    assert all(line["tools/failure_frequency"] == 0 for line in logs)
    assert all(-3 <= line["rewards/RefSeg/mean"] <= 5 for line in logs)
    assert sum(4 * line["tools/call_frequency"] for line in logs) > 4
    assert any(len(env._env.episode.pictures()) > 1 for env in trainer.environments), "Replies hold pictures."
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
