"""verl: its own agent loop worker plays the environments; only the model's server is a stand-in."""

import asyncio
import json

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
from verl.protocol import DataProto
from verl.trainer.ppo.metric_utils import process_validation_metrics
from verl_parts import (
    ANSWER,
    FAIL,
    GOOD,
    SQUARES,
    ScriptedServer,
    call,
    make_config,
    make_model,
    register_env,
)

from visenv.adapters.blocks import with_pillow
from visenv.adapters.making import make_env
from visenv.adapters.verl.sharing import shared_env
from visenv.errors import InvalidData

torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def _env():
    register_env()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def loops(tmp_path):
    """Writes a file of agent loops and gives the override that names it."""

    def write(**settings):
        path = tmp_path / "loops.yaml"
        entry = {"name": "visenv", "_target_": "visenv.adapters.verl.loop.VisenvAgentLoop", "env_id": SQUARES}
        path.write_text(json.dumps([{**entry, **settings}]), "utf-8")
        return f"actor_rollout_ref.rollout.agent.agent_loop_config_path={path}"

    return write


def objects(values):
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def batch_of(rows, agent_name="visenv"):
    return DataProto.from_dict(
        tensors={"dummy_tensor": torch.zeros(len(rows), 1, dtype=torch.uint8)},
        non_tensors={
            "raw_prompt": objects([[{"role": "user", "content": "?"}] for _ in rows]),
            "extra_info": objects(rows),
            "agent_name": objects([agent_name] * len(rows)),
        },
    )


class Run:
    """A batch that verl's worker has played, and what there is to look at."""

    def __init__(self, config, *scripts, rows=({"index": 0},), stop=None, batch=None):
        async def run():
            self.worker = AgentLoopWorker(config, None)
            self.worker.llm_client = self.server = ScriptedServer(self.worker.tokenizer, scripts, stop)
            return await self.worker.generate_sequences(batch or batch_of(list(rows)))

        self.out = asyncio.run(run())
        self.tokenizer, self.processor = self.worker.tokenizer, self.worker.processor

    def fields(self, name):
        return list(self.out.non_tensor_batch[name])

    def response(self, row=0):
        """Token ids, the mask, and the log-probabilities of a row's response, without padding."""
        batch = self.out.batch
        width = batch["responses"].shape[1]
        there = batch["attention_mask"][row, -width:].bool()
        return [batch[name][row][there].tolist() for name in ("responses", "response_mask", "rollout_log_probs")]

    def tokens(self, row=0):
        there = self.out.batch["attention_mask"][row].bool()
        return self.out.batch["input_ids"][row][there].tolist()

    def spoken(self, row=0):
        """The stretches of a response that are trained on, as text."""
        ids, mask, _ = self.response(row)
        stretches, last = [], 0
        for token, counts in zip(ids, mask, strict=True):
            if counts and not last:
                stretches.append([])
            if counts:
                stretches[-1].append(token)
            last = counts
        return [self.tokenizer.decode(stretch) for stretch in stretches]


def encoded(run, messages):
    """A whole conversation, encoded at once by the model's processor."""
    messages = [{**message, "content": with_pillow(message["content"])} for message in messages]
    pictures = [part["image"] for message in messages for part in message["content"] if part["type"] == "image"]
    text = run.processor.apply_chat_template(messages, tokenize=False)
    return run.processor(text=[text], images=pictures)["input_ids"][0]


def replayed(lines, **keywords):
    """The episode that these turns make, played without verl."""
    env = make_env(SQUARES, {"memory": "keep_all", "action_mode": "text", "obs": "features", **keywords})
    env.reset(options={"index": 0})
    for line in lines:
        env.step(line)
    return env.episode


def said(episode, line):
    """A conversation with its last turn, to which nothing is replied any more."""
    messages = episode.messages()
    assert messages[-2]["content"][0]["text"] == line
    return messages[:-1]


def test_an_episode_becomes_one_sample_and_really_ends(model, loops):
    run = Run(make_config(model, loops()), [*GOOD, "more"])
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


def test_no_token_has_drifted(model, loops):
    run = Run(make_config(model, loops()), GOOD)
    whole = encoded(run, said(replayed(GOOD), ANSWER))
    assert run.tokenizer.decode(whole[-2:]) == "<|im_end|>\n"
    assert run.tokens() == whole[:-1], "The template's last line break is the only token that nobody has read."


def test_pictures_stand_where_the_tokens_are(model, loops):
    run = Run(make_config(model, loops()), GOOD)
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
    assert run.tokens() == encoded(run, said(replayed(lines), ANSWER))[:-1]
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
    run = Run(make_config(model, loops()), ["Look: <|vision_start|><|image_pad|><|image_pad|>.", *GOOD])
    assert run.spoken()[0] == "Look: <|vision_start|>"
    assert len(run.fields("multi_modal_inputs")[0]["image_grid_thw"]) == 2
    assert run.fields("errors") == [1.0]
    assert run.out.batch["rm_scores"].sum() == 5.0


def test_a_model_that_says_nothing_takes_its_turns(model, loops):
    run = Run(make_config(model, loops(env={"max_turns": 3})), [[], [], []])
    assert run.fields("termination") == ["max_turns"]
    assert run.out.batch["response_mask"].sum() == 0


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
    env = {"max_turns": 4}
    rows = [{"index": index % 3} for index in range(12)]
    run = Run(make_config(model, loops(env=env)), GOOD, rows=rows)
    pool = shared_env(SQUARES, env).env().pool
    expert = pool.experts["GroundPhrase"]
    assert pool.counters.requests == 12
    assert expert.batches == [3], "Twelve rollouts of three samples are three requests, in one batch."
    assert all(name.startswith("visenv-experts") for name in expert.threads), "Never on the event loop's thread."
    assert run.out.batch["rm_scores"].sum(dim=1).tolist() == [5.0] * 12


def test_the_same_samples_and_turns_are_the_same_tokens(model, loops):
    first, second = (Run(make_config(model, loops()), GOOD) for _ in range(2))
    assert first.tokens() == second.tokens()


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
    ],
)
def test_settings_that_do_not_go_together_are_refused(model, loops, settings, overrides, message):
    with pytest.raises(InstantiationException, match=message):
        Run(make_config(model, loops(**settings), *overrides), GOOD)
