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
    "VisHarness/InteractiveSeg-v0": "visenv.envs.interactive:InteractiveSegEnv",
    "VisHarness/MultiImage-v0": "visenv.envs.multiimage:MultiImageEnv",
    "VisHarness/Blink-v0": "visenv.envs.blink:BlinkEnv",
    "VisHarness/MMVP-v0": "visenv.envs.mmvp:MMVPEnv",
    "VisHarness/MATSearch-v0": "visenv.envs.matsearch:MATSearchEnv",
    "VisHarness/MATCoding-v0": "visenv.envs.matcoding:MATCodingEnv",
}
"""Environment id to entry point."""

SEGMENTATION = ("reasonseg", "grefseg", "refseg")
FOLDERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "reasonseg": ("reasonseg:make", "ReasonSeg from a folder", SEGMENTATION),
    "refcoco": ("refcoco:make", "RefCOCO from a folder", SEGMENTATION),
    "refcoco+": ("refcoco:make_plus", "RefCOCO+ from a folder", SEGMENTATION),
    "refcocog": ("refcoco:make_g", "RefCOCOg from a folder", SEGMENTATION),
    "grefcoco": ("grefcoco:make", "gRefCOCO from a folder", SEGMENTATION),
    "coco": ("coco:make", "COCO instances from a folder", (*SEGMENTATION, "densedet")),
    "rec8k": ("rec8k:make", "REC-8K from a folder", ("refcount",)),
    "fsc147": ("fsc147:make", "FSC-147 from a folder", ("refcount",)),
    "visdrone": ("visdrone:make", "VisDrone-DET from a folder", ("densedet",)),
    "dense200": ("dense200:make", "Dense200 from a folder", ("densedet",)),
    "hf": ("hf:make", "a table of Hugging Face datasets", (*SEGMENTATION, "densedet", "refcount")),
    "visharness": ("visharness:make", "VisHarness's training Parquet", (*SEGMENTATION, "refcount")),
    "prepared": ("prepared:make", "a copy that `visenv data convert` wrote", (*SEGMENTATION, "densedet", "refcount")),
    "matsearch": ("matsearch:make", "MAT-Search from a folder", ("matsearch",)),
    "blink": ("blink:make", "BLINK from a folder", ("blink", "multiimage")),
    "mmvp": ("mmvp:make", "MMVP from a folder", ("mmvp",)),
    "matcoding": ("matcoding:make", "MAT-Coding from a folder", ("matcoding",)),
    "cocojson": ("cocojson:make", "a COCO-style JSON of one's own", (*SEGMENTATION, "densedet")),
}
"""Data sets that are read from a path: entry point, summary, and the families of tasks that they have samples for."""

GENERATED: dict[str, str] = {
    "matcoding": "visenv.datasets.damaged_scenes:make",
    "matsearch": "visenv.datasets.lore:make",
    "multiimage": "visenv.datasets.several:make",
    "blink": "visenv.datasets.perceptual:make",
    "mmvp": "visenv.datasets.perceptual:make_pairs",
}
"""Families that ``scenes`` has in modules of their own: entry points of ``make(*, split, difficulty) -> Dataset``."""

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

    datasets.register("scenes", "visenv.datasets.scenes:make", summary="generated scenes, infinite for training")
    datasets.register(
        "photos",
        "visenv.datasets.photos:make",
        summary="annotated photographs that other packages ship",
        families=(*SEGMENTATION, "refcount"),
    )
    for name, (entry_point, summary, families) in FOLDERS.items():
        datasets.register(name, f"visenv.datasets.{entry_point}", summary=f"{summary}: {name}:PATH", families=families)

    experts.register("classical", "visenv.experts.classical:make", summary="computer vision on the CPU, no weights")
    experts.register(
        "oracle", "visenv.experts.oracle:make", summary="reads the truth: an upper bound", reads_truth=True
    )
    experts.register(
        "noisy", "visenv.experts.noisy:make", summary="the truth plus a stated error model", reads_truth=True
    )

    experts.register(
        "search",
        "visenv.experts.search:make",
        summary="a local index of the documents about the invented country of matsearch",
        corpus="visenv.datasets.lore:documents",
    )
    experts.register(
        "sight", "visenv.experts.sight:make", summary="depth, likeness, words and visual prompts on the CPU, no weights"
    )
    experts.register(
        "sight-rapidocr", "visenv.experts.sight:make", summary="the same, with letters by RapidOCR", letters="rapidocr"
    )
    experts.register(
        "sandbox", "visenv.experts.sandbox:make", summary="runs programs, each in a sandbox: bubblewrap or Docker"
    )

    for preset, summary in PRESETS.items():
        experts.register(preset, "visenv.experts.presets:make", summary=summary, preset=preset)
    expert_sources.register("file", "visenv.experts.presets:make", summary="a preset of one's own")
    for scheme in ("http", "https", "ray"):
        expert_sources.register(scheme, "visenv.serve.client:connect", summary="served experts")

    rewards.register("visharness", "visenv.rewards.visharness:VisHarnessReward", summary="8 IoU - 3, and its like")
    rewards.register(
        "rsagent", "visenv.rewards.rsagent:RSAgentReward", summary="final IoU, its improvement by turns, format"
    )
    rewards.register(
        "medsam_agent",
        "visenv.rewards.medsam_agent:MedSAMAgentReward",
        summary="format, and IoU with Dice less what was lost or spent",
    )
    rewards.register(
        "matcoding",
        "visenv.rewards.matcoding:MATCodingReward",
        summary="what programs did to a picture, the answer",
    )
    rewards.register(
        "arft_coding",
        "visenv.rewards.visual_arft:ArftCodingReward",
        summary="as published: 0.9 for any program",
    )

    for reward, entry_point, summary in (
        ("matsearch", "MATSearchReward", "token F1 of the answer, and clean turns as far as it is right"),
        ("arft_search", "ArftSearchReward", "Visual-ARFT's for searching, as published"),
        ("mmsearch_r1", "MMSearchR1Reward", "MMSearch-R1's, as published"),
    ):
        rewards.register(reward, f"visenv.rewards.matsearch:{entry_point}", summary=summary)

    toolsets.register("visharness", "visenv.tools.toolsets:VISHARNESS", summary="the six tools of VisHarness")
    toolsets.register("full", "visenv.tools.toolsets:FULL", summary="those six and RecallImage")
    toolsets.register("basic", "visenv.tools.toolsets:BASIC", summary="phrases, points, merging and RecallImage")
    toolsets.register("matsearch", "visenv.tools.search:MATSEARCH", summary="Search, phrases and RecallImage")

    toolsets.register(
        "interactive", "visenv.tools.toolsets:INTERACTIVE", summary="zoom, prompt, refine and submit candidates"
    )
    toolsets.register("matcoding", "visenv.tools.toolsets:MATCODING", summary="say what is wrong, and run programs")

    toolsets.register(
        "attention", "visenv.tools.attention:ATTENTION", summary="Reflect and Verify alone, which ask no expert"
    )
    toolsets.register(
        "multiimage", "visenv.tools.attention:MULTIIMAGE", summary="Reflect, Verify, zoom, and the vision tools"
    )
    toolsets.register(
        "vipact", "visenv.tools.vipact:VIPACT", summary="specialists that describe, and experts that find and compare"
    )
    rewards.register("answer", "visenv.rewards.answer:AnswerReward", summary="whether the answer is right")
    rewards.register(
        "imagent", "visenv.rewards.imagent:IMAgentReward", summary="the right answer, and what looking again gained"
    )

    policies.register("random", "visenv.policies.random:RandomPolicy", summary="samples the action space")
    policies.register(
        "single", "visenv.policies.single:SingleCallPolicy", summary="the whole query, asked once of the whole image"
    )
    policies.register(
        "varied",
        "visenv.policies.varied:VariedPolicy",
        summary="scripted, its choices changed by chance: varied:noise=0.3",
    )
    policies.register(
        "scripted", "visenv.policies.scripted:ScriptedPolicy", summary="VisHarness's published strategies"
    )
    policies.register(
        "oracle", "visenv.policies.oracle:OraclePolicy", summary="one call, merged: perfect with oracle experts"
    )
