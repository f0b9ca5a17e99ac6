"""One call and a merge: what using the tools well is compared with."""

from __future__ import annotations

from visenv.episode import Episode
from visenv.policies.base import Plan, PlannedPolicy
from visenv.types import MAX_PHRASE, Answer, ToolCall


class SingleCallPolicy(PlannedPolicy):
    """Asks for the whole query once on the whole image, merges what is found, and answers.

    Example:
        >>> import gymnasium as gym
        >>> from visenv.policies import make_policy, rollout
        >>> env = gym.make("VisHarness/RefSeg-v0", experts="oracle", split="val")
        >>> [end.metrics["gIoU"] for end in rollout(env, make_policy("oracle"), episodes=2, seed=0)]
        [1.0, 1.0]
    """

    name = "single"

    def plan(self, episode: Episode) -> Plan:
        """See ``PlannedPolicy.plan``."""
        yield ToolCall("PhraseToBoxMask", {"images": ["img_0"], "phrase": episode.query[:MAX_PHRASE]})
        if "img_0" in episode.workspace.detections:
            yield ToolCall("MergeBoxMask", {"images": ["img_0"]})
        yield Answer(conclusion(episode))


def conclusion(episode: Episode) -> str:
    """The words of an answer: how many objects the final result holds."""
    final = episode.workspace.final
    if final is None:
        return "There is nothing like that."
    return f"There is {len(final)} of it." if len(final) == 1 else f"There are {len(final)} of them."
