"""Agents that need no model: baselines, and the loop that runs any agent."""

from visenv.policies.base import Policy, make_policy
from visenv.policies.playing import Finished, rollout, rollout_batch

__all__ = ["Finished", "Policy", "make_policy", "rollout", "rollout_batch"]
