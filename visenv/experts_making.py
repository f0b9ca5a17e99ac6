"""From ``experts="name"``, a preset, an address or objects to the experts of an environment, by capability."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from visenv.capabilities import CAPABILITIES, Expert
from visenv.errors import InvalidData
from visenv.registration import expert_sources
from visenv.registration import experts as registry
from visenv.types import Sample

ExpertsLike: TypeAlias = "str | Expert | Iterable[Expert] | Mapping[str, Any]"
PRESET_FILES = (".yaml", ".yml")
"""What the names of files end with that say which experts to use."""


def make_experts(value: ExpertsLike, find: Callable[[str], Sample]) -> dict[str, Expert]:
    """The experts of an environment, by capability.

    Args:
        value: the name of a registered set or preset (``"classical"``, ``"sam2"``), a preset file of one's own
            (``"my-experts.yaml"``), the address of served experts (``"http://127.0.0.1:8000"``), an expert, several
            experts, or a mapping from capability to any of these
            (``{"GroundPhrase": "oracle", "Upscale": my_upscaler}``), where ``"*"`` stands for the rest.
        find: gives a sample by its identifier; handed only to sets that are registered as reading the truth.

    Raises:
        UnknownName: if no set has that name.
        InvalidData: if a capability does not exist, or something is no expert.
    """
    if isinstance(value, Mapping):
        routed = make_experts(value["*"], find) if "*" in value else {}
        for capability, choice in value.items():
            if capability == "*":
                continue
            if capability not in CAPABILITIES:
                raise InvalidData(f"Expected a capability ({', '.join(CAPABILITIES)}), but got {capability!r}.")
            candidates = make_experts(choice, find)
            if capability not in candidates:
                raise InvalidData(
                    f"Expected an expert for {capability}, but {choice!r} answers {', '.join(candidates)}."
                )
            routed[capability] = candidates[capability]
        return routed
    made: Iterable[Any]
    if isinstance(value, str):
        made = _named(value, find)
    else:
        made = [value] if isinstance(value, Expert) or not isinstance(value, Iterable) else value
    routed = {}
    for expert in made:
        if isinstance(expert, type) or not isinstance(expert, Expert):
            raise InvalidData(f"Expected an expert (an object as visenv.capabilities.Expert), but got {expert!r:.80}.")
        for capability in expert.capabilities:
            routed.setdefault(capability, expert)
    return routed


def _named(value: str, find: Callable[[str], Sample]) -> Iterable[Any]:
    """The experts that a name, a file or an address stands for."""
    scheme, is_address, _ = value.partition("://")
    if is_address or value.endswith(PRESET_FILES):
        found: Iterable[Any] = expert_sources.load(scheme if is_address else "file")(value)
        return found
    entry = registry.entry(value)
    keywords = dict(entry.options)
    made: Iterable[Any] = (
        entry.load()(find, **keywords) if keywords.pop("reads_truth", False) else entry.load()(**keywords)
    )
    return made
