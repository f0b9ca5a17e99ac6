"""GRPO of TRL: a vision-language model learns to call the experts.

    pip install -e ".[trl]" && python examples/grpo_trl.py --model /weights/Qwen3-VL-4B-Instruct

It needs a model that calls tools (Qwen3-VL, Qwen2.5-VL and their like) in a folder or in the hub's cache, and GPUs that
hold it; several are used with `accelerate launch examples/grpo_trl.py …`. Each rollout is an episode of
`VisHarness/ReasonSeg-v0`; the tools are methods, their replies hold pictures, and the reward is the environment's own.
`make_trainer` is what the tests run on a CPU, with a tiny model.
"""

from __future__ import annotations

import argparse
from typing import Any

from transformers import AutoModelForImageTextToText, AutoProcessor
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from visenv.adapters.blocks import check_chat_template
from visenv.adapters.trl import environment_class, to_hf_dataset

ENV_ID = "VisHarness/ReasonSeg-v0"


def make_trainer(
    model: Any,
    processor: Any,
    output: str,
    *,
    env_id: str = ENV_ID,
    samples: int | None = None,
    env: dict[str, Any] | None = None,
    **settings: Any,
) -> GRPOTrainer:
    """A trainer that is ready to go.

    Args:
        model: a vision-language model.
        processor: its processor, whose chat template shows the pictures of tool replies.
        output: folder of checkpoints and logs.
        env_id: which task.
        samples: how many of the split are trained on; needed where samples never end.
        env: keywords of the environment.
        **settings: of ``GRPOConfig``, on top of those below.
    """
    check_chat_template(processor)
    config = GRPOConfig(
        output_dir=output,
        **{
            "per_device_train_batch_size": 8,
            "num_generations": 8,
            "gradient_accumulation_steps": 4,
            "max_completion_length": 6144,
            "max_tool_calling_iterations": 10,
            "learning_rate": 1e-6,
            "logging_steps": 1,
            "report_to": [],
            **settings,
        },
    )
    return GRPOTrainer(
        model=model,
        args=config,
        processing_class=processor,
        train_dataset=to_hf_dataset(env_id, size=samples, **(env or {})),
        environment_factory=environment_class(env_id, **(env or {})),
    )


def main() -> None:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder, or a name in the hub's cache")
    parser.add_argument("--experts", default="classical", help="who answers the tools; sam3 or visharness on a GPU")
    parser.add_argument("--dataset", default="scenes", help="such as reasonseg:/data/ReasonSeg")
    parser.add_argument("--samples", type=int, default=2_000, help="how many are trained on")
    parser.add_argument("--steps", type=int, default=500, help="optimizer steps")
    parser.add_argument("--out", default="runs/grpo", help="folder of checkpoints and logs")
    args = parser.parse_args()
    trainer = make_trainer(
        AutoModelForImageTextToText.from_pretrained(args.model, dtype="auto"),
        AutoProcessor.from_pretrained(args.model),
        args.out,
        samples=args.samples,
        env={"experts": args.experts, "dataset": args.dataset},
        max_steps=args.steps,
        bf16=True,
    )
    trainer.train()
    trainer.save_model(args.out)


if __name__ == "__main__":
    main()
