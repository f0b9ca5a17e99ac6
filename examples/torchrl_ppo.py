"""PPO of TorchRL on batched environments: its collector, its advantages, its loss, and masks on what is chosen.

    pip install -e ".[torchrl]" && python examples/torchrl_ppo.py

`--steps 256 --envs 4 --frames 64 --experts oracle` takes seconds. It prints:

    256 steps of 4 environments: loss ..., reward of ... episodes ...
"""

from __future__ import annotations

import argparse

import cv2
import torch
from torchrl.collectors import Collector
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from visenv.adapters.torchrl import make_actor_critic, make_env


def main() -> None:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--steps", type=int, default=32_768, help="of all environments together")
    parser.add_argument("--envs", type=int, default=16, help="environments side by side")
    parser.add_argument("--frames", type=int, default=512, help="steps between two updates")
    parser.add_argument("--epochs", type=int, default=6, help="passes over them")
    parser.add_argument("--seed", type=int, default=0, help="of weights, samples and actions")
    parser.add_argument("--experts", default="classical", help="who answers the tools")
    args = parser.parse_args()
    # Network and pictures are small: more threads wait spinning for each other, and the experts need the cores.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.manual_seed(args.seed)

    env = make_env("VisHarness/ReasonSeg-v0", args.envs, obs="features", experts=args.experts)
    actor, critic = make_actor_critic(env)
    advantage = GAE(gamma=0.99, lmbda=0.95, value_network=critic)
    losses = ClipPPOLoss(actor, critic, entropy_coeff=0.01, normalize_advantage=True)
    optimizer = torch.optim.Adam(losses.parameters(), lr=1e-3)
    collector = Collector(env, actor, frames_per_batch=args.frames, total_frames=args.steps)
    collector.set_seed(args.seed)
    steps, loss, rewards = 0, torch.zeros(()), torch.zeros(0)
    for batch in collector:
        steps += batch.numel()
        with torch.no_grad():
            advantage(batch)
        rows = batch.reshape(-1)
        for _ in range(args.epochs):
            for part in torch.randperm(len(rows)).split(256):
                values = losses(rows[part])
                loss = values["loss_objective"] + values["loss_critic"] + values["loss_entropy"]
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(losses.parameters(), 0.5)
                optimizer.step()
        after = batch["next"]
        rewards = after["episode_reward"][after["done"] & ~after["invalid"]]
    collector.shutdown()
    print(f"{steps} steps of {args.envs} environments: loss {loss.item():.3f},", end=" ")
    print(f"reward of {len(rewards)} episodes {rewards.mean().item():+.2f}")


if __name__ == "__main__":
    main()
