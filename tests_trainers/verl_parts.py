"""What the tests of verl's adapter share: a tiny model's folder, verl's configuration, and a server that says lines."""

import asyncio
import json
import threading
from itertools import groupby
from pathlib import Path

import gymnasium as gym
import hydra
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from stubs import BrokenExpert, SquareDataset
from tiny_qwen import tiny_model, tiny_processor
from verl.experimental.agent_loop.agent_loop import AgentLoopWorker, DictConfigWrap, _agent_loop_registry
from verl.protocol import DataProto
from verl.trainer.ppo.reward import load_reward_manager
from verl.workers.rollout.replica import TokenOutput

from visenv.adapters.blocks import with_pillow
from visenv.adapters.making import make_env
from visenv.adapters.verl.data import ground_truth
from visenv.tools.toolsets import make_toolset

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "verl"
SQUARES = "VerlTest/Squares-v0"
TOOLS = ("PhraseToBoxMask", "MergeBoxMask")
"""Two of them: the tiny tokenizer spells every letter of what a model is told."""

TEMPLATE = """\
{%- macro show(content) -%}
{%- if content is string %}{{ content }}{% else %}{% for part in content -%}
{%- if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif -%}
{%- endfor %}{% endif -%}
{%- endmacro -%}
{%- set first = show(messages[0].content) if messages[0].role == 'system' else '' -%}
{%- if tools %}
{{- '<|im_start|>system\\n' + first + '\\n\\n<tools>' }}
{%- for tool in tools %}{{ '\\n' + (tool | tojson) }}{% endfor %}
{{- '\\n</tools><|im_end|>\\n' }}
{%- elif first %}
{{- '<|im_start|>system\\n' + first + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
{{- '\\n<tool_response>\\n' + show(message.content) + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}
{%- elif message.role != 'system' or not loop.first %}
{{- '<|im_start|>' + message.role + '\\n' + show(message.content) }}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call>\\n' + (call.function | tojson) + '\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' + ('<think>\\n' if enable_thinking else '') }}
{%- endif %}"""
"""The template of Qwen3-VL, but for thoughts of the past and videos."""


def call(name, thought="I look.", **arguments):
    """A turn that calls a tool, as Qwen3-VL writes one."""
    return f"<think>{thought}</think>\n<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


FIND = call("PhraseToBoxMask", images=["img_0"], phrase="square")
FAIL = call("PhraseToBoxMask", images=["img_0"], phrase="fail")
MERGE = call("MergeBoxMask", images=["img_0"])
ANSWER = "<think>It is there.</think>\n<answer>It is marked.</answer>"
GOOD = (FIND, MERGE, ANSWER)


class Watched(BrokenExpert):
    """Fails when it is asked for ``fail``, and remembers on which threads it worked."""

    def __init__(self):
        super().__init__()
        self.threads = set()

    def run(self, requests):
        self.threads.add(threading.current_thread().name)
        return super().run(requests)


def register_env():
    """An id over the squares."""
    if SQUARES not in gym.registry:
        toolset = tuple(tool for name, tool in make_toolset("visharness").items() if name in TOOLS)
        kwargs = {"dataset": SquareDataset(), "experts": Watched(), "toolset": toolset}
        gym.register(SQUARES, entry_point="visenv.envs.refseg:RefSegEnv", kwargs=kwargs)


def make_model(folder, template_of=str):
    """A folder with all of a tiny Qwen3-VL but its weights, which the tests need not.

    Args:
        folder: to write to.
        template_of: what becomes of the chat template.
    """
    processor = tiny_processor(chat_template=template_of(TEMPLATE))
    model = tiny_model(processor)
    model.config.architectures = [type(model).__name__]
    processor.save_pretrained(folder)
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    return folder


def make_config(model, *overrides):
    """verl's configuration: the example's, on top of verl's own, with a tiny model."""
    with initialize_config_dir(str(EXAMPLES), version_base=None):
        return compose(
            "grpo",
            overrides=[
                f"actor_rollout_ref.model.path={model}",
                f"actor_rollout_ref.rollout.agent.agent_loop_config_path={EXAMPLES / 'agent_loops.yaml'}",
                "data.max_prompt_length=8192",
                "data.max_response_length=8192",
                "actor_rollout_ref.rollout.max_model_len=null",
                "data.mm_processor_kwargs={}",
                "data.filter_overlong_prompts_workers=1",
                *overrides,
            ],
        )


class ScriptedServer:
    """Stands where verl asks its servers: says the lines of a trajectory, one a turn, as token ids.

    Args:
        tokenizer: of the model.
        scripts: one a trajectory, in the order in which they ask, over and over: what is said in each turn, a text or
            token ids. A trajectory that has no line left says nothing.
        stop: why a turn ends, by its number.
        together: how many trajectories must have asked before the first is answered.
    """

    def __init__(self, tokenizer, scripts, stop=None, together=0):
        self.tokenizer, self.scripts, self.stop = tokenizer, scripts, stop or {}
        self.together, self.all_here = together, asyncio.Event()
        self.pad = tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self.turns, self.asked = {}, []

    async def generate(self, request_id, *, prompt_ids, sampling_params, image_data=None, **kwargs):
        number = list(self.turns).index(request_id) if request_id in self.turns else len(self.turns)
        turn = self.turns[request_id] = self.turns.get(request_id, -1) + 1
        spans = sum(token == self.pad for token, _ in groupby(prompt_ids))
        assert spans == len(image_data or []), "One picture for each span of image tokens, every time."
        self.asked.append({"prompt_ids": list(prompt_ids), "sampling_params": dict(sampling_params), **kwargs})
        if len(self.turns) >= self.together:
            self.all_here.set()
        await self.all_here.wait()
        lines = self.scripts[number % len(self.scripts)]
        line = lines[turn] if turn < len(lines) else ""
        tokens = self.ids(line) if isinstance(line, str) else list(line)
        tokens = tokens[: sampling_params["max_tokens"]] if "max_tokens" in sampling_params else tokens
        return TokenOutput(
            token_ids=tokens,
            log_probs=[-0.5] * len(tokens) if sampling_params.get("logprobs") else None,
            stop_reason=self.stop.get(turn, "completed"),
            extra_fields={"min_global_steps": 7 + turn, "max_global_steps": 7 + turn},
        )

    def ids(self, line):
        """A turn as the model's tokens, with the one that ends it."""
        return self.tokenizer.encode(line + "<|im_end|>", add_special_tokens=False)


def objects(values):
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


TRUTH = json.dumps(ground_truth(SquareDataset().get(0).truth))


def batch_of(rows, agent_name="visenv"):
    return DataProto.from_dict(
        tensors={"dummy_tensor": torch.zeros(len(rows), 1, dtype=torch.uint8)},
        non_tensors={
            "raw_prompt": objects([[{"role": "user", "content": "?"}] for _ in rows]),
            "extra_info": objects(rows),
            "agent_name": objects([agent_name] * len(rows)),
            "tools_kwargs": objects([row.get("tools_kwargs", {}) for row in rows]),
            "data_source": objects(["squares"] * len(rows)),
            "reward_model": objects([{"ground_truth": TRUTH}] * len(rows)),
        },
    )


class Scorer:
    """verl's reward manager, asked as if it were another process."""

    def __init__(self, config, tokenizer):
        manager = load_reward_manager(config, tokenizer)

        class Remote:
            async def remote(self, data):
                return await manager.run_single(data)

        self.compute_score = Remote()


class Run:
    """A batch that verl's worker has played, and what there is to look at.

    Args:
        config: verl's.
        *scripts: what the model says; see ``ScriptedServer``.
        rows: the ``extra_info`` of each row.
        stop: see ``ScriptedServer``.
        batch: in place of ``rows``.
        agent_name: who plays.
        scored: whether verl's reward manager is asked for scores.
        together: see ``ScriptedServer``.
    """

    def __init__(
        self,
        config,
        *scripts,
        rows=({"index": 0},),
        stop=None,
        batch=None,
        agent_name="visenv",
        scored=False,
        together=0,
    ):
        async def run():
            self.worker = AgentLoopWorker(config, None)
            self.worker.llm_client = self.server = ScriptedServer(self.worker.tokenizer, scripts, stop, together)
            if scored:
                self.worker.reward_loop_worker_handles = [Scorer(config, self.worker.tokenizer)]
            return await self.worker.generate_sequences(batch or batch_of(list(rows), agent_name))

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


def outputs_of(config, *scripts, row=None, stop=None):
    """What an agent loop itself returns for a row, as the workers of both trainers get it."""

    async def run():
        worker = AgentLoopWorker(config, None)
        loop = hydra.utils.instantiate(
            _agent_loop_registry["visenv"],
            trainer_config=DictConfigWrap(config),
            server_manager=ScriptedServer(worker.tokenizer, scripts, stop),
            tokenizer=worker.tokenizer,
            processor=worker.processor,
            hf_model_type=worker.hf_model_type,
            dataset_cls=worker.dataset_cls,
            data_config=DictConfigWrap(config.data),
        )
        return await loop.run({"logprobs": True}, extra_info=row or {"index": 0}), loop

    return asyncio.run(run())


def encoded(processor, messages, **template):
    """A whole conversation, encoded at once by the model's processor."""
    messages = [{**message, "content": with_pillow(message["content"])} for message in messages]
    pictures = [part["image"] for message in messages for part in message["content"] if part["type"] == "image"]
    text = processor.apply_chat_template(messages, tokenize=False, **template)
    return processor(text=[text], images=pictures or None)["input_ids"][0]


def replayed(lines, **keywords):
    """The episode that these turns make, played without verl."""
    env = make_env(SQUARES, {"memory": "keep_all", "action_mode": "text", "obs": "features", **keywords})
    env.reset(options={"index": 0})
    for line in lines:
        env.step(line)
    return env.episode
