"""What the tests of verl's adapter share: a tiny model's folder, verl's configuration, and a server that says lines."""

import json
import threading
from itertools import groupby
from pathlib import Path

import gymnasium as gym
from hydra import compose, initialize_config_dir
from stubs import BrokenExpert, SquareDataset
from tiny_qwen import tiny_model, tiny_processor
from verl.workers.rollout.replica import TokenOutput

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
    """

    def __init__(self, tokenizer, scripts, stop=None):
        self.tokenizer, self.scripts, self.stop = tokenizer, scripts, stop or {}
        self.pad = tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self.turns, self.asked = {}, []

    async def generate(self, request_id, *, prompt_ids, sampling_params, image_data=None, **kwargs):
        number = list(self.turns).index(request_id) if request_id in self.turns else len(self.turns)
        turn = self.turns[request_id] = self.turns.get(request_id, -1) + 1
        spans = sum(token == self.pad for token, _ in groupby(prompt_ids))
        assert spans == len(image_data or []), "One picture for each span of image tokens, every time."
        self.asked.append({"prompt_ids": list(prompt_ids), "sampling_params": dict(sampling_params), **kwargs})
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
