"""Everything that comes with visenv, registered by string: the one place to look for what there is."""

from __future__ import annotations

import gymnasium as gym

from visenv.errors import DuplicateName
from visenv.registration import datasets, expert_sources, experts, policies, rewards, toolsets

ENVIRONMENTS = {
    "VisHarness/ReasonSeg-v0": "visenv.envs.reasonseg:ReasonSegEnv",
    "VisHarness/GRefSeg-v0": "visenv.envs.grefseg:GRefSegEnv",
    "VisHarness/RefSeg-v0": "visenv.envs.refseg:RefSegEnv",
    "VisHarness/DenseDet-v0": "visenv.envs.densedet:DenseDetEnv",
    "VisHarness/RefCount-v0": "visenv.envs.refcount:RefCountEnv",
    "VisHarness/Mixed-v0": "visenv.envs.mixed:MixedEnv",
}
"""Environment id to entry point."""


PRESETS = {
    "sam2": "SAM 2.1 for points and boxes, the classical experts for the rest",
    "sam3": "SAM 3 for phrases, points and boxes, the classical experts for the rest",
    "visharness": "SAM 3, Molmo 2 and Real-ESRGAN, as VisHarness was trained with",
    "grounded-sam2": "Grounding DINO for phrases, outlined by SAM 2.1, the classical experts for the rest",
    "yolo-world": "YOLO-World for phrases, outlined by SAM 2.1, the classical experts for the rest",
}
"""Expert sets that are files in ``experts/presets``, with their summaries."""


def register_all() -> None:
    """Register everything, once.

    Raises:
        DuplicateName: if somebody took one of the ids before.
    """
    for name, entry_point in ENVIRONMENTS.items():
        if name in gym.registry:
            raise DuplicateName(
                f"The environment id {name!r} is registered already, as {gym.registry[name].entry_point!r}."
            )
        gym.register(id=name, entry_point=entry_point, vector_entry_point=entry_point.replace("Env", "VectorEnv"))

    segmentation = ("reasonseg", "grefseg", "refseg")
    datasets.register("scenes", "visenv.datasets.scenes:make", summary="generated scenes, infinite for training")
    datasets.register(
        "photos",
        "visenv.datasets.photos:make",
        summary="annotated photographs that other packages ship",
        families=(*segmentation, "refcount"),
    )
    datasets.register(
        "reasonseg",
        "visenv.datasets.reasonseg:make",
        summary="ReasonSeg from a folder: reasonseg:PATH",
        families=segmentation,
    )
    datasets.register(
        "rec8k", "visenv.datasets.rec8k:make", summary="REC-8K from a folder: rec8k:PATH", families=("refcount",)
    )

    experts.register("classical", "visenv.experts.classical:make", summary="computer vision on the CPU, no weights")
    experts.register(
        "oracle", "visenv.experts.oracle:make", summary="reads the truth: an upper bound", reads_truth=True
    )
    experts.register(
        "noisy", "visenv.experts.noisy:make", summary="the truth plus a stated error model", reads_truth=True
    )

    for preset, summary in PRESETS.items():
        experts.register(preset, "visenv.experts.presets:make", summary=summary, preset=preset)
    expert_sources.register("file", "visenv.experts.presets:make", summary="a preset of one's own")

    rewards.register("visharness", "visenv.rewards.visharness:VisHarnessReward", summary="8 IoU - 3, and its like")

    toolsets.register("visharness", "visenv.tools.toolsets:VISHARNESS", summary="the six tools of VisHarness")
    toolsets.register("full", "visenv.tools.toolsets:FULL", summary="those six and RecallImage")
    toolsets.register("basic", "visenv.tools.toolsets:BASIC", summary="phrases, points, merging and RecallImage")

    policies.register("random", "visenv.policies.random:RandomPolicy", summary="samples the action space")
    policies.register(
        "single", "visenv.policies.single:SingleCallPolicy", summary="the whole query, asked once of the whole image"
    )
    policies.register(
        "scripted", "visenv.policies.scripted:ScriptedPolicy", summary="VisHarness's published strategies"
    )
    policies.register(
        "oracle", "visenv.policies.oracle:OraclePolicy", summary="one call, merged: perfect with oracle experts"
    )
