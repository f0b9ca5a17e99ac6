"""verl: its own agent loop worker plays the environments; only the model's server is a stand-in."""

import importlib

import pytest
import torch
from hydra.errors import InstantiationException
from verl.experimental.agent_loop.agent_loop import _agent_loop_registry
from verl.trainer.ppo.metric_utils import process_validation_metrics
from verl_parts import (
    ANSWER,
    FAIL,
    FIND,
    GOOD,
    SQUARES,
    Run,
    call,
    encoded,
    make_config,
    make_model,
    outputs_of,
    replayed,
)

from visenv.adapters.verl import loop as loop_module
from visenv.adapters.verl.sharing import shared_env
from visenv.errors import InvalidData

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def good(model, write_loops):
    """An episode that goes well, with a line that comes too late."""
    return Run(make_config(model, write_loops("good")), [*GOOD, "more"])


def said(episode, line):
    """A conversation with its last turn, to which nothing is replied any more."""
    messages = episode.messages()
    assert messages[-2]["content"][0]["text"] == line
    return messages[:-1]


def test_an_episode_becomes_one_sample_and_really_ends(good):
    run = good
    assert run.spoken() == [f"{line}<|im_end|>" for line in GOOD], "Exactly what the model has written is trained on."
    assert len(run.server.asked) == 3, "After the answer nobody is asked any more."
    ids, mask, logprobs = run.response()
    assert logprobs == [-0.5 if counts else 0.0 for counts in mask]
    rewards = run.out.batch["rm_scores"][0]
    assert rewards.sum() == 5.0
    assert rewards[len(ids) - 1] == 5.0
    assert run.fields("trajectory_invalid") == [False]
    assert run.fields("termination") == ["answer"]
    assert run.fields("turn_scores") == [[0.0, 0.0, 5.0]]
    assert run.fields("gIoU") == [1.0]
    assert run.fields("__num_turns__") == [6]
    assert (run.fields("min_global_steps"), run.fields("max_global_steps")) == ([7], [9])


def test_no_token_has_drifted(good):
    run = good
    whole = encoded(run.processor, said(replayed(GOOD), ANSWER))
    assert run.tokenizer.decode(whole[-2:]) == "<|im_end|>\n"
    assert run.tokens() == whole[:-1], "The template's last line break is the only token that nobody has read."


def test_pictures_stand_where_the_tokens_are(good):
    run = good
    (inputs,) = run.fields("multi_modal_inputs")
    pad = run.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    grids = inputs["image_grid_thw"]
    pictures = [shown.picture.pixels for shown in replayed(GOOD).pictures()]
    alone = run.processor.image_processor(images=[picture for picture in pictures], return_tensors="pt")
    assert len(pictures) == 2, "The input, and what was found on it."
    assert torch.equal(inputs["pixel_values"], alone["pixel_values"])
    assert run.tokens().count(pad) == int((grids.prod(dim=1) // 4).sum())
    assert run.out.batch["position_ids"].shape[1] == 4
    text = run.tokenizer.decode(run.response()[0])
    assert text.count("<|vision_start|>") == 1, "The tool's picture is in the response."


def test_bad_turns_are_turns_and_nothing_drifts(model, loops):
    lines = ["What?", call("Teleport"), call("MergeBoxMask", images=["img_9"]), call("PhraseToBoxMask"), *GOOD]
    run = Run(make_config(model, loops()), lines)
    assert run.spoken() == [f"{line}<|im_end|>" for line in lines]
    assert run.tokens() == encoded(run.processor, said(replayed(lines), ANSWER))[:-1]
    assert (run.fields("errors"), run.fields("trajectory_invalid")) == ([4.0], [False])
    assert run.out.batch["rm_scores"].sum() == 5.0


def test_the_turn_limit_ends_an_episode(model, loops):
    run = Run(make_config(model, loops(env={"max_turns": 2})), GOOD)
    assert run.fields("termination") == ["max_turns"]
    assert len(run.server.asked) == 2
    assert run.out.batch["rm_scores"].sum() == 5.0, "What was merged last counts."


def test_a_turn_without_an_end_is_cut_and_ended_by_the_template(model, loops):
    ramble = "<think>" + "la" * 200
    run = Run(make_config(model, loops(max_turn_tokens=300)), [ramble, *GOOD])
    assert run.server.asked[0]["sampling_params"]["max_tokens"] == 300
    assert run.spoken() == [ramble[:300], *(f"{line}<|im_end|>" for line in GOOD)]
    assert run.fields("errors") == [1.0]
    text = run.tokenizer.decode(run.response()[0])
    assert text[300:].startswith("<|im_end|>\n<|im_start|>user\n<tool_response>\nError (cut)")
    assert run.out.batch["rm_scores"].sum() == 5.0


def test_tokens_of_pictures_that_the_model_makes_up_are_left_out(model, loops):
    lines = ["Look: <|vision_start|><|image_pad|><|image_pad|>.", *GOOD]
    run = Run(make_config(model, loops()), lines)
    assert run.spoken()[0] == "Look: "
    assert run.tokens() == encoded(run.processor, said(replayed(["Look: ", *GOOD]), ANSWER))[:-1]
    assert len(run.fields("multi_modal_inputs")[0]["image_grid_thw"]) == 2
    assert run.fields("errors") == [1.0]
    assert run.out.batch["rm_scores"].sum() == 5.0


def test_a_model_that_says_nothing_takes_its_turns(model, loops):
    run = Run(make_config(model, loops(env={"max_turns": 3})), [[], [], []])
    assert run.fields("termination") == ["max_turns"]
    assert run.out.batch["response_mask"].sum() == 0
    run = Run(make_config(model, loops()), [[], *GOOD])
    assert run.tokens() == encoded(run.processor, said(replayed(["", *GOOD]), ANSWER))[:-1]


def test_a_server_that_says_that_it_has_cut_a_turn_is_believed(model, loops):
    unended = "<think>I look.</think>\n<answer>It is"
    config = make_config(model, loops())
    tokens = Run(config, [ANSWER]).tokenizer.encode(unended, add_special_tokens=False)
    run = Run(config, [tokens, *GOOD], stop={0: "length"})
    assert "Error (cut)" in run.tokenizer.decode(run.response()[0])
    assert run.fields("trajectory_invalid") == [False]


def test_a_thought_that_the_template_begins_is_read_as_one(model, loops):
    config = make_config(model, loops(), "+data.apply_chat_template_kwargs.enable_thinking=true")
    lines = [line.removeprefix("<think>") for line in GOOD]
    run = Run(config, lines)
    assert run.spoken() == [f"{line}<|im_end|>" for line in lines]
    assert run.fields("errors") == [0.0]
    assert run.out.batch["rm_scores"].sum() == 5.0


@pytest.mark.parametrize(
    ("override", "reason", "asked"),
    [
        ("data.max_prompt_length=1000", "prompt_length", 0),
        ("data.max_response_length=350", "response_length", 2),
        ("data.max_response_length=60", "response_length", 1),
        ("actor_rollout_ref.rollout.max_model_len=1000", "max_model_len", 0),
        ("actor_rollout_ref.rollout.max_model_len=3000", "max_model_len", 3),
    ],
)
def test_what_overflows_is_invalid_and_teaches_nothing(model, loops, override, reason, asked):
    run = Run(make_config(model, loops(), override), GOOD)
    assert run.fields("trajectory_invalid") == [True]
    assert run.fields("invalid_reason")[0].startswith(reason)
    assert run.out.batch["response_mask"].sum() == 0
    assert run.out.batch["rm_scores"].sum() == 0
    assert run.out.batch["attention_mask"][0, run.out.batch["prompts"].shape[1] :].sum() > 0
    assert len(run.server.asked) == asked


def test_an_experts_failure_is_not_the_policys(model, loops):
    rows = [{"index": 0}, {"index": 1}, {"index": 2}]
    run = Run(make_config(model, loops()), GOOD, [FAIL, *GOOD], GOOD, rows=rows)
    assert sorted(run.fields("trajectory_invalid")) == [False, False, True]
    bad = run.fields("trajectory_invalid").index(True)
    assert run.fields("invalid_reason")[bad].startswith("expert: ")
    assert run.fields("invalid") == [float(row == bad) for row in range(3)]
    scores, trained = run.out.batch["rm_scores"].sum(dim=1), run.out.batch["response_mask"].sum(dim=1)
    assert scores.tolist() == [0.0 if row == bad else 5.0 for row in range(3)]
    assert [bool(count) for count in trained] == [row != bad for row in range(3)]
    figures = {name: run.fields(name) for name in run.out.meta_info["reward_extra_keys"]}
    means = process_validation_metrics(["squares"] * 3, ["a", "b", "c"], figures)["squares"]
    assert means["invalid"]["mean@1"] == pytest.approx(1 / 3)
    assert means["gIoU"]["mean@1"] == pytest.approx(2 / 3), "What failed counts as a miss."


def test_what_a_server_breaks_off_is_invalid(model, loops):
    run = Run(make_config(model, loops()), GOOD, stop={1: "aborted"})
    assert run.fields("invalid_reason")[0].startswith("aborted")
    assert run.out.batch["response_mask"].sum() == 0


def test_rollouts_at_once_share_the_batches_of_their_experts(model, loops):
    config = make_config(model, loops(env={"max_turns": 4}, expert_window=60))
    run = Run(config, GOOD, rows=[{"index": index} for index in range(3)], together=3)
    assert run.out.batch["rm_scores"].sum(dim=1).tolist() == [5.0] * 3
    pool = shared_env(SQUARES, {"max_turns": 4}, 60).env().pool
    expert = pool.experts["GroundPhrase"]
    assert expert.batches == [3], "Three rollouts, one batch: as soon as all of them wait."
    assert all(name.startswith("visenv-experts") for name in expert.threads), "Never on the event loop's thread."
    again = Run(config, GOOD, rows=[{"index": index % 3} for index in range(12)])
    assert again.out.batch["rm_scores"].sum(dim=1).tolist() == [5.0] * 12
    assert (pool.counters.requests, sum(expert.batches)) == (15, 3), "What is known is not asked again."


def test_the_same_samples_and_turns_are_the_same_tokens(good, model, loops):
    assert Run(make_config(model, loops()), GOOD).tokens() == good.tokens()


def test_a_template_that_drops_pictures_is_refused(model, loops, tmp_path):
    blind = make_model(tmp_path / "blind", template_of=lambda text: text.replace("<|image_pad|>", "", 1))
    with pytest.raises(InvalidData, match="each of 1 pictures once, but it shows 0"):
        Run(make_config(blind, loops()), GOOD)


def test_a_row_has_to_name_its_sample(model, loops):
    with pytest.raises(InvalidData, match="name a sample"):
        Run(make_config(model, loops()), GOOD, rows=[{"answer": 42}])


@pytest.mark.parametrize(
    ("settings", "overrides", "message"),
    [
        ({"env": {"memory": "latest"}}, ["trainer.use_v1=false"], "use_v1"),
        ({"drop_invalid": True}, ["trainer.use_v1=false"], "use_v1"),
        ({"max_turn_tokens": 0}, [], "max_turn_tokens"),
        ({"env": ["scenes"]}, [], "keywords of an environment"),
        ({"expert_window": -1}, [], "expert_window"),
        ({"drop_invalid": "yes"}, [], "drop_invalid"),
        ({"max_turn_token": 5}, [], "Unknown settings of the agent loop 'visenv': max_turn_token"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(model, loops, settings, overrides, message):
    with pytest.raises(InstantiationException, match=message):
        Run(make_config(model, loops(**settings), *overrides), GOOD)


def test_what_a_file_says_of_the_name_stands():
    # verl reads the file before it imports the module that the file names.
    told = {"_target_": "visenv.adapters.verl.loop.VisenvAgentLoop", "env_id": SQUARES}
    _agent_loop_registry["visenv"] = told
    importlib.reload(loop_module)
    assert _agent_loop_registry.pop("visenv") is told
    importlib.reload(loop_module)
    assert _agent_loop_registry["visenv"]["_target_"] == "visenv.adapters.verl.loop.VisenvAgentLoop"


# --- pictures archived: one sample a turn -----------------------------------------------------------------------------


def test_with_archived_pictures_each_turn_is_a_sample(model, loops):
    outputs, loop = outputs_of(make_config(model, loops(env={"memory": "latest"})), GOOD)
    assert len(outputs) == 3
    for number, (output, line) in enumerate(zip(outputs, GOOD, strict=True)):
        seen = replayed(GOOD[:number], memory="latest").messages()
        prompt = encoded(loop.processor, seen, add_generation_prompt=True)
        assert output.prompt_ids == prompt, "Exactly what the turn saw, archived pictures as notes."
        assert loop.tokenizer.decode(output.response_ids) == f"{line}<|im_end|>"
        assert set(output.response_mask) == {1}
        assert output.reward_score == 5.0
        assert len(output.multi_modal_data.get("images", [])) == (1, 1, 0)[number]
    assert "has been archived" in loop.tokenizer.decode(outputs[1].prompt_ids)


def test_a_turn_has_the_whole_response_length_where_each_is_a_sample(model, loops):
    config = make_config(model, loops(env={"memory": "latest"}), f"data.max_response_length={len(FIND) + 1}")
    assert [output.reward_score for output in outputs_of(config, GOOD)[0]] == [5.0] * 3
    ramble = "<think>" + "la" * 200
    outputs, _ = outputs_of(config, [ramble, *GOOD])
    assert (len(outputs), len(outputs[0].response_ids)) == (4, len(FIND) + 1), "A long turn is cut, and no more."


def test_an_overflow_late_in_an_episode_makes_all_of_its_turns_invalid(model, loops):
    config = make_config(model, loops(env={"memory": "latest"}), "data.max_prompt_length=2600")
    outputs, _ = outputs_of(config, GOOD)
    assert outputs[0].extra_fields["invalid_reason"].startswith("prompt_length")
    assert [sum(output.response_mask) for output in outputs] == [0] * len(outputs)
    assert len(outputs[0].response_ids) == len(FIND) + 1, "What was said is kept, for who looks at it."


def test_invalid_episodes_are_left_out_of_training_alone(model, loops):
    config = make_config(model, loops(drop_invalid=True))
    assert outputs_of(config, [FAIL], row={"index": 0, "split": "train"})[0] == []
    kept, _ = outputs_of(config, [FAIL], row={"index": 0, "split": "val"})
    assert kept.extra_fields["trajectory_invalid"]
    assert outputs_of(config, GOOD, row={"index": 0, "split": "train"})[0].reward_score == 5.0
