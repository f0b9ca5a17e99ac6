"""PPO of RLlib, its new API stack, on batched environments, with masks on what is chosen.

    pip install -e ".[rllib]" && python examples/rllib_ppo.py

RLlib pins Gymnasium, so it may need an environment of its own. `--iterations 1 --envs 2 --batch 32 --experts oracle`
takes seconds. It prints a line an iteration, and then:

    ... iterations: reward ..., gIoU ...
"""

from __future__ import annotations

import argparse

import ray
import torch
from ray.rllib.algorithms.ppo import PPOConfig

from visenv.adapters.rllib import BATCHED, drop_invalid, log_metrics, module_spec, register


def main() -> None:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--iterations", type=int, default=60, help="updates")
    parser.add_argument("--envs", type=int, default=16, help="environments side by side")
    parser.add_argument("--batch", type=int, default=512, help="steps between two updates")
    parser.add_argument("--seed", type=int, default=0, help="of weights, samples and actions")
    parser.add_argument("--experts", default="classical", help="who answers the tools")
    args = parser.parse_args()
    torch.set_num_threads(1)
    ray.init(include_dashboard=False, ignore_reinit_error=True)

    name = register("VisHarness/ReasonSeg-v0", obs="features", experts=args.experts)
    config = (
        PPOConfig()
        .environment(name)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=args.envs, **BATCHED)
        .rl_module(rl_module_spec=module_spec())
        .training(train_batch_size_per_learner=args.batch, minibatch_size=min(256, args.batch), num_epochs=6, lr=1e-3)
        .callbacks(on_episode_end=log_metrics, on_sample_end=drop_invalid)
        .debugging(seed=args.seed)
    )
    algorithm = config.build_algo()
    figures = ""
    for iteration in range(args.iterations):
        found = algorithm.train()["env_runners"]
        figures = f"reward {found['episode_return_mean']:+.2f}, gIoU {found['metrics'].get('gIoU', 0.0):.3f}"
        print(f"{iteration + 1:4d}: {figures}")
    algorithm.stop()
    print(f"{args.iterations} iteration{'s' * (args.iterations != 1)}: {figures}")


if __name__ == "__main__":
    main()
