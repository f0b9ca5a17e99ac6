"""Score predictions of your own: rewards and metrics without any environment.

    python examples/score_own_rollouts.py

Whatever made the predictions, each becomes an `Outcome`: the result, or None; the answer, or None; how it ended. Masks
may be dense arrays, COCO run-length encodings (as here) or polygons. It prints:

    cup   reward  4.40, IoU 1.00
    dogs  reward  0.00, IoU 0.50
    cat   reward  4.80, IoU 1.00
    car   reward -3.60, IoU 0.00
    lamp  reward -5.00, IoU 0.00
    {'gIoU': 0.5, 'gIoU_n': 5.0, 'gIoU_failed': 1.0}
    {'cIoU': 0.587, 'cIoU_n': 5.0, 'cIoU_failed': 1.0}
    {'N_acc': 0.5, 'T_acc': 0.667, 'N_acc_n': 2.0, 'N_acc_failed': 0.0, 'T_acc_n': 3.0, 'T_acc_failed': 1.0}
    gIoU from 0.1 to 0.9, with 95 % confidence
    {'score': 5.0, 'iou': 1.0, 'trajectory_reward': 4.4}
"""

from __future__ import annotations

from typing import Any

import numpy as np

from visenv.masks import Masks
from visenv.rewards.metrics import CIoU, GIoU, Metric, NullAccuracy
from visenv.rewards.visharness import VisHarnessReward, compute_score
from visenv.types import Detections, MaskTruth, Outcome, Termination

SIZE = (64, 64)


def rle(*boxes: list[int]) -> list[Any]:
    """Some masks as COCO writes them, in place of a file of predictions."""
    return list(Masks.from_boxes(boxes, SIZE).to_coco_rles())


ROLLOUTS: list[dict[str, Any]] = [
    {"id": "cup", "truth": rle([8, 8, 40, 40]), "masks": rle([8, 8, 40, 40]), "answer": "This one.", "turns": 3},
    {
        "id": "dogs",
        "truth": rle([0, 0, 20, 20], [30, 30, 50, 50]),
        "masks": rle([0, 0, 20, 20]),
        "answer": "",
        "turns": 5,
    },
    {"id": "cat", "truth": [], "masks": [], "answer": "There is no cat.", "turns": 1},
    {"id": "car", "truth": [], "masks": rle([40, 40, 60, 60]), "answer": "This one.", "turns": 3},
    {"id": "lamp", "truth": rle([10, 40, 20, 60]), "masks": [], "answer": None, "turns": 10},
]


def outcome(rollout: dict[str, Any]) -> Outcome:
    """What a rollout ended with. Only an answer without a result says that nothing is there."""
    masks = Masks.from_coco_rles(rollout["masks"], SIZE)
    found = Detections(masks.boxes, masks) if len(masks) else None
    ended: Termination = "max_turns" if rollout["answer"] is None else "answer"
    return Outcome(found, rollout["answer"], ended, rollout["turns"])


def main() -> None:
    reward, giou = VisHarnessReward(step_cost=0.2), GIoU()
    metrics: list[Metric[Any]] = [giou, CIoU(), NullAccuracy()]
    for rollout in ROLLOUTS:
        came, truth = outcome(rollout), MaskTruth(Masks.from_coco_rles(rollout["truth"], SIZE))
        paid = reward.final(came, truth)["task"] - reward.step_cost * came.turns
        for metric in metrics:
            metric.update(came, truth)
        print(f"{rollout['id']:5} reward {paid:5.2f}, IoU {giou.values[-1]:.2f}")

    for metric in metrics:
        print({name: round(value, 3) for name, value in metric.compute().items()})

    # How sure is the mean of so few? Its bootstrap interval says.
    rng = np.random.default_rng(0)
    drawn = [giou.resample(rng.integers(len(giou), size=len(giou))).compute()["gIoU"] for _ in range(1000)]
    print("gIoU from {:.1f} to {:.1f}, with 95 % confidence".format(*np.percentile(drawn, [2.5, 97.5])))

    # The same reward with the signature that verl and its kin call, for the first rollout.
    turn = {"output_format_success": True, "tool_args_success": True, "turn_truncated_by_length": False}
    figures = compute_score(
        data_source="reasonseg",
        solution_str="",
        ground_truth={"type": "gres_rle_mask", "data": ROLLOUTS[0]["truth"][0]},
        extra_info={
            "turn_records": [turn] * ROLLOUTS[0]["turns"],
            "final_results": {"final_bboxes": [[8, 8, 40, 40]], "final_masks": ROLLOUTS[0]["masks"], "count": 1},
            "trajectory_finished": True,
        },
    )
    print({name: figures[name] for name in ("score", "iou", "trajectory_reward")})


if __name__ == "__main__":
    main()
