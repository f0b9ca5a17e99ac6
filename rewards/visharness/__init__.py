"""The reward of VisHarness (arXiv 2605.29894): for its environments, and as the ``compute_score`` of its release.

Both stand on the same scores of one final result (``task``): segmentation pays 8 * IoU - 3, counting
max(-3, 5 - 8 * relative error), "nothing there" 5 where it is right and said explicitly, no result where one is due -3.
"""

from visenv.rewards.visharness.compute import compute_score
from visenv.rewards.visharness.reward import VisHarnessReward
from visenv.rewards.visharness.task import TaskScore

__all__ = ["TaskScore", "VisHarnessReward", "compute_score"]
