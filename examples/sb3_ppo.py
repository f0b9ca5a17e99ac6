"""PPO from Stable-Baselines3, also with masks, on batched environments; then the greedy policy on scenes of `val`.

    pip install -e ".[sb3]" && python examples/sb3_ppo.py --steps 32768 --masked

With `--masked`, sb3-contrib's MaskablePPO is told which tools and images make sense. What `visenv train` adds to this
are checkpoints, a curve, other policies to compare with, and a page. `--masked --steps 256 --envs 4 --episodes 4
--experts oracle --workers 0` takes seconds. It prints:

    256 steps of MaskablePPO, then over 4 episodes of val: reward ..., gIoU ...
"""

from __future__ import annotations

import argparse
from typing import Any

import cv2
import numpy as np
import torch
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from stable_baselines3 import PPO

from visenv.adapters.sb3 import POLICY_KEYWORDS, make_vec_env

PPO_KEYWORDS = {"n_steps": 64, "batch_size": 256, "n_epochs": 6, "learning_rate": 1e-3, "ent_coef": 0.01}
"""With SB3's own, 16 environments would take 32,768 steps before the first update."""


def main() -> None:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--steps", type=int, default=32_768, help="of all environments together")
    parser.add_argument("--envs", type=int, default=16, help="environments side by side")
    parser.add_argument("--episodes", type=int, default=200, help="of the evaluation")
    parser.add_argument("--masked", action="store_true", help="MaskablePPO instead of PPO")
    parser.add_argument("--seed", type=int, default=0, help="of weights, samples and actions")
    parser.add_argument("--experts", default="classical", help="who answers the tools")
    parser.add_argument("--workers", type=int, default=2, help="processes that run the experts; 0 for none")
    args = parser.parse_args()
    # Network and pictures are small: more threads wait spinning for each other, and the experts need the cores.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    env: dict[str, Any] = {"obs": "features", "experts": args.experts, "expert_workers": args.workers}

    envs = make_vec_env("VisHarness/ReasonSeg-v0", args.envs, **env)
    algorithm: Any = MaskablePPO if args.masked else PPO
    model = algorithm("MultiInputPolicy", envs, seed=args.seed, policy_kwargs=POLICY_KEYWORDS, **PPO_KEYWORDS)
    model.learn(args.steps)
    envs.close()

    scores: list[float] = []

    def note(local: dict[str, Any], _: dict[str, Any]) -> None:
        if local["done"]:
            scores.append(local["info"]["metrics"]["gIoU"])

    held_out = make_vec_env("VisHarness/ReasonSeg-v0", args.envs, split="val", **env)
    held_out.seed(0)
    evaluation = {"n_eval_episodes": args.episodes, "callback": note, "use_masking": args.masked}
    reward, _ = evaluate_policy(model, held_out, **evaluation)
    held_out.close()
    steps, name = model.num_timesteps, type(model).__name__
    print(f"{steps} steps of {name}, then over {args.episodes} episodes of val:", end=" ")
    print(f"reward {reward:+.2f}, gIoU {np.mean(scores):.3f}")


if __name__ == "__main__":
    main()
