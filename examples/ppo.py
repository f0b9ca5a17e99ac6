"""PPO in one file, on batched environments, with nothing but torch: to read, to change, to copy.

    pip install torch && python examples/ppo.py --steps 32768

An agent that sees numbers only learns which tool to call on what, and when to answer. Of the episodes that ended in
each rollout it prints reward and gIoU. `--steps 256 --envs 4 --rollout 32 --experts oracle --workers 0` takes seconds.
It prints:

    step     128   episodes   ...   reward ...   gIoU ...
    step     256   episodes   ...   reward ...   gIoU ...

The loop is CleanRL's in style; the hyperparameters are those of `visenv train`.
"""

from __future__ import annotations

import argparse
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import visenv  # noqa: F401 - registers the ids
from visenv.spaces import PHRASES, VOCABULARY

GAMMA, LAMBDA = 0.99, 0.95
EPOCHS, BATCH, RATE = 6, 256, 1e-3
CLIP, ENTROPY, CRITIC, MOST_GRADIENT = 0.2, 0.01, 0.5, 0.5
NUMBERS = ("memory_state", "detections", "calls", "progress")
Tensors = dict[str, torch.Tensor]


class Agent(nn.Module):
    """Actions and values for flat observations: words are embedded and averaged, numbers are taken as they are.

    Args:
        observations: with `obs="features"`.
        actions: with `action_mode="discrete"`.
        width: of the hidden layers.
    """

    def __init__(self, observations: gym.spaces.Dict, actions: gym.spaces.MultiDiscrete, width: int = 128) -> None:
        super().__init__()
        numbers = sum(gym.spaces.flatdim(observations[name]) for name in NUMBERS)
        self.words = nn.Embedding(VOCABULARY, 16)
        # Words are many and say nothing yet: by their size they would drown the numbers.
        nn.init.normal_(self.words.weight, std=0.05)
        self.body = nn.Sequential(
            linear(numbers + 16 * (1 + PHRASES), width), nn.Tanh(), linear(width, width), nn.Tanh()
        )
        self.parts = actions.nvec.tolist()
        self.actor, self.critic = linear(width, sum(self.parts), gain=0.01), linear(width, 1, gain=1.0)

    def forward(self, seen: Tensors) -> tuple[list[Categorical], torch.Tensor]:
        """A distribution for each part of the action, and the value (n,)."""
        texts = [self.read(seen["query"]), self.read(seen["phrases"]).flatten(1)]
        hidden = self.body(torch.cat([seen[name].flatten(1) for name in NUMBERS] + texts, dim=1))
        logits = self.actor(hidden).split(self.parts, dim=1)
        return [Categorical(logits=each) for each in logits], self.critic(hidden).squeeze(1)

    def read(self, ids: torch.Tensor) -> torch.Tensor:
        """The mean of the embedded words of texts (…, length); 0 is no word."""
        there = (ids > 0).unsqueeze(-1)
        return (self.words(ids) * there).sum(dim=-2) / there.sum(dim=-2).clamp(min=1)


def linear(ins: int, outs: int, gain: float = 2**0.5) -> nn.Linear:
    """A layer with orthogonal weights, as PPO likes it; a small gain makes the first policy nearly uniform."""
    layer = nn.Linear(ins, outs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def log_prob(heads: list[Categorical], actions: torch.Tensor) -> torch.Tensor:
    """(n,) of actions (n, parts), whose parts are drawn independently."""
    return torch.stack([head.log_prob(part) for head, part in zip(heads, actions.T, strict=True)]).sum(dim=0)


def tensors(observation: dict[str, np.ndarray]) -> Tensors:
    return {name: torch.as_tensor(values) for name, values in observation.items()}


def last_values(agent: Agent, observations: np.ndarray, which: np.ndarray) -> torch.Tensor:
    """Of what some episodes showed last: `same_step` has put the first observation of the next episode in its place."""
    chosen = observations[which]
    return agent(tensors({name: np.stack([each[name] for each in chosen]) for name in chosen[0]}))[1]


def advantages(rewards: torch.Tensor, values: torch.Tensor, ended: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Generalised advantage estimates (steps, envs), of which none looks beyond the end of its episode.

    Args:
        rewards: (steps, envs); a truncated episode's last one holds the value of what would have come.
        values: (steps, envs), of what was seen before each step.
        ended: (steps, envs), 1 where an episode ended with the step.
        after: (envs,), the value of what was seen after the last step.
    """
    found, carried = torch.zeros_like(rewards), torch.zeros_like(after)
    for step in reversed(range(len(rewards))):
        alive = 1 - ended[step]
        carried = rewards[step] + GAMMA * alive * after - values[step] + GAMMA * LAMBDA * alive * carried
        found[step], after = carried, values[step]
    return found


class Collector:
    """Steps the environments with an agent, and remembers where it stopped."""

    def __init__(self, envs: gym.vector.VectorEnv, agent: Agent, seed: int) -> None:
        self.envs, self.agent = envs, agent
        self.observation = tensors(envs.reset(seed=seed)[0])
        self.so_far = np.zeros(envs.num_envs)

    @torch.no_grad()
    def collect(self, steps: int) -> tuple[Tensors, Tensors, list[float], list[float]]:
        """What was observed and what came of it, (steps * envs, …), and reward and gIoU of the episodes that ended."""
        seen: list[Tensors] = []
        rows: list[Tensors] = []
        returns: list[float] = []
        scores: list[float] = []
        for _ in range(steps):
            heads, values = self.agent(self.observation)
            actions = torch.stack([head.sample() for head in heads], dim=1)
            observation, rewards, terminated, truncated, infos = self.envs.step(actions.numpy())
            self.so_far += rewards
            if (ended := terminated | truncated).any():
                if (metrics := infos["final_info"].get("metrics")) is not None:
                    scores += metrics["gIoU"][metrics["_gIoU"]].tolist()
                returns += self.so_far[ended].tolist()
                self.so_far[ended] = 0
            # An episode that was cut off would have gone on: its last step also pays what would have come.
            if (cut := truncated & ~terminated).any():
                rewards[cut] += GAMMA * last_values(self.agent, infos["final_obs"], cut).numpy()
            row = {"actions": actions, "log_probs": log_prob(heads, actions), "values": values}
            rows.append({**row, "rewards": torch.tensor(rewards).float(), "ended": torch.tensor(ended).float()})
            seen.append(self.observation)
            self.observation = tensors(observation)
        batch = stack(rows)
        after = self.agent(self.observation)[1]
        batch["advantages"] = advantages(batch["rewards"], batch["values"], batch["ended"], after)
        batch["returns"] = batch["advantages"] + batch["values"]
        return flat(stack(seen)), flat(batch), returns, scores


def stack(rows: list[Tensors]) -> Tensors:
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def flat(batch: Tensors) -> Tensors:
    return {name: values.flatten(0, 1) for name, values in batch.items()}


def learn(agent: Agent, optimizer: torch.optim.Optimizer, seen: Tensors, batch: Tensors) -> None:
    """Some epochs over one rollout."""
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(batch["actions"])).split(BATCH):
            part = {name: values[rows] for name, values in batch.items()}
            heads, values = agent({name: each[rows] for name, each in seen.items()})
            gain = (part["advantages"] - part["advantages"].mean()) / (part["advantages"].std(correction=0) + 1e-8)
            ratio = (log_prob(heads, part["actions"]) - part["log_probs"]).exp()
            actor_loss = -torch.min(gain * ratio, gain * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()
            critic_loss = (values - part["returns"]).square().mean()
            entropy = torch.stack([head.entropy() for head in heads]).sum(dim=0).mean()
            optimizer.zero_grad()
            (actor_loss + CRITIC * critic_loss - ENTROPY * entropy).backward()
            nn.utils.clip_grad_norm_(agent.parameters(), MOST_GRADIENT)
            optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--steps", type=int, default=32_768, help="of all environments together")
    parser.add_argument("--envs", type=int, default=16, help="environments side by side")
    parser.add_argument("--rollout", type=int, default=64, help="steps of each environment between updates")
    parser.add_argument("--seed", type=int, default=0, help="of weights, samples and actions")
    parser.add_argument("--experts", default="classical", help="who answers the tools")
    parser.add_argument("--workers", type=int, default=2, help="processes that run the experts; 0 for none")
    args = parser.parse_args()
    # Network and pictures are small: more threads wait spinning for each other, and the experts need the cores.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.manual_seed(args.seed)
    envs: Any = gym.make_vec(
        "VisHarness/ReasonSeg-v0",
        num_envs=args.envs,
        action_mode="discrete",
        obs="features",
        autoreset_mode="same_step",
        experts=args.experts,
        expert_workers=args.workers,
    )
    agent = Agent(envs.single_observation_space, envs.single_action_space)
    optimizer = torch.optim.Adam(agent.parameters(), lr=RATE, eps=1e-5)
    collector = Collector(envs, agent, args.seed)
    each = args.envs * args.rollout
    for steps in range(each, args.steps + each, each):
        seen, batch, returns, scores = collector.collect(args.rollout)
        learn(agent, optimizer, seen, batch)
        reward, score = (np.mean(values or [np.nan]) for values in (returns, scores))
        print(f"step {steps:7d}   episodes {len(returns):4d}   reward {reward:+.2f}   gIoU {score:.3f}", flush=True)
    envs.close()


if __name__ == "__main__":
    main()
