"""A reward of your own: the IoU of the result, with a price for every turn and a bonus for precision.

    python examples/own_reward.py

A reward pays terms by name: `turn` for each turn, of which it sees what was done and what came back, and `final` once
at the end, where it sees the truth. It can be passed as an object, or by name once it is registered. Below is what the
turns of a short, of a roundabout and of a hasty episode pay, and then the short one with dear turns. It prints:

    thrifty, from -1.20 to 1.48
      PhraseToPoint   {'step': -0.02}
      PointToBoxMask  {'step': -0.02}
      MergeBoxMask    {'step': -0.02}
      Answer          {'step': -0.02, 'iou': 1.0, 'precise': 0.5}
      in all          1.42
      MergeBoxMask    {'step': -0.02, 'fault': -0.1}
      PhraseToPoint   {'step': -0.02}
      PhraseToPoint   {'step': -0.02}
      PointToBoxMask  {'step': -0.02}
      MergeBoxMask    {'step': -0.02}
      Answer          {'step': -0.02, 'iou': 1.0, 'precise': 0.5}
      in all          1.28
      Answer          {'step': -0.02}
      in all          -0.02
    dear turns, from -3.00 to 1.30
      PhraseToPoint   {'step': -0.2}
      PointToBoxMask  {'step': -0.2}
      MergeBoxMask    {'step': -0.2}
      Answer          {'step': -0.2, 'iou': 1.0, 'precise': 0.5}
      in all          0.70
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from visenv import registration
from visenv.rewards.functional import mask_iou
from visenv.types import MaskTruth, Outcome, Truth, Turn


class Thrifty:
    """Pays the IoU and 0.5 for a precise result; every turn costs, and one that could not be carried out costs more.

    Args:
        step_cost: of a turn.
        fault_cost: of a turn that was an error, beside the step cost.
        max_turns: as of the environment; the bounds follow from it.
    """

    def __init__(self, step_cost: float = 0.02, fault_cost: float = 0.1, max_turns: int = 10) -> None:
        self.step_cost, self.fault_cost = step_cost, fault_cost
        self.bounds = (-max_turns * (step_cost + fault_cost), 1.5 - step_cost)

    def turn(self, turn: Turn) -> dict[str, float]:
        return {"step": -self.step_cost, "fault": -self.fault_cost if turn.error else 0.0}

    def final(self, outcome: Outcome, truth: Truth) -> dict[str, float]:
        if not isinstance(truth, MaskTruth):
            raise TypeError(f"Expected a region to find, but got a {type(truth).__name__}.")
        if outcome.detections is None:
            # "Nothing is there" has to be said: an episode that ran out of turns has found nothing, and earns nothing.
            iou = float(truth.is_null and outcome.termination == "answer")
        else:
            iou = mask_iou(outcome.detections.masks, truth.target, ignore=truth.ignore)
        return {"iou": iou, "precise": 0.5 if iou >= 0.9 else 0.0}


POINT = {"name": "PhraseToPoint", "arguments": {"images": ["img_0"], "phrase": "the red lamp left of the tree"}}
SEGMENT = {"name": "PointToBoxMask", "arguments": {"images": ["img_0"], "mode": "confidence"}}
MERGE = {"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}}
ANSWER = {"name": "Answer", "arguments": {"text": "This one."}}


def play(env: gym.Env[Any, Any], calls: list[dict[str, Any]]) -> float:
    """The sum of an episode's rewards, each turn's terms printed."""
    env.reset(options={"index": 4})
    total = 0.0
    for call in calls:
        _, reward, _, _, info = env.step(call)
        total += float(reward)
        print(f"  {call['name']:15}", {name: round(value, 2) for name, value in info["reward_terms"].items() if value})
    print(f"  in all          {total:.2f}")
    return total


def main() -> None:
    registration.rewards.register("thrifty", f"{__name__}:Thrifty", summary="IoU, less what the turns cost")
    env = gym.make("VisHarness/ReasonSeg-v0", split="val", reward="thrifty")
    print("thrifty, from {:.2f} to {:.2f}".format(*Thrifty().bounds))
    play(env, [POINT, SEGMENT, MERGE, ANSWER])
    play(env, [MERGE, POINT, POINT, SEGMENT, MERGE, ANSWER])
    play(env, [ANSWER])

    dear = Thrifty(step_cost=0.2)
    env = gym.make("VisHarness/ReasonSeg-v0", split="val", reward=dear)
    print("dear turns, from {:.2f} to {:.2f}".format(*dear.bounds))
    play(env, [POINT, SEGMENT, MERGE, ANSWER])


if __name__ == "__main__":
    main()
