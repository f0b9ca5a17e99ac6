"""Agents that need no model: baselines, and the loop that runs any agent."""

from visenv.policies.base import Policy, make_policy
from visenv.policies.playing import Finished, rollout

__all__ = ["Finished", "Policy", "make_policy", "rollout"]
