"""Presets: which models answer what, on which device and how, written down in a small file that users copy and change.

A preset names experts in the order in which they are asked: the first one that answers a capability gets it. ``rest``
is the name of an expert set that answers what is left. Each expert is a mapping:

- ``expert``: a family (``sam2``), or the import string of a class (``my_package.experts:MyExpert``);
- ``capabilities``: the ones it is to answer, of those it can; all of them if left out;
- ``segmenter``, for families that take one: the family of an expert named before it in the file, or an expert set;
- ``serve``: how it is served: ``replicas``, ``num_gpus``, … (``visenv serve`` reads it);
- everything else is a keyword of the class: ``model``, ``device``, ``precision``, ``max_batch``, thresholds.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from visenv.capabilities import CAPABILITIES, Expert
from visenv.errors import InvalidData, MissingDependency, UnknownName
from visenv.registration import experts as expert_sets

FAMILIES: dict[str, str] = {
    "sam2": "visenv.experts.sam2:Sam2Expert",
    "sam3": "visenv.experts.sam3:Sam3Expert",
    "grounding": "visenv.experts.grounding:GroundingExpert",
    "yolo": "visenv.experts.yolo:YoloExpert",
    "pointing": "visenv.experts.pointing:PointingExpert",
    "upscale": "visenv.experts.upscale:UpscaleExpert",
    "depth": "visenv.experts.depth:DepthExpert",
    "embed": "visenv.experts.embed:EmbedExpert",
    "describe": "visenv.experts.describe:DescribeExpert",
    "ocr": "visenv.experts.ocr:OcrExpert",
    "search": "visenv.experts.search:LocalSearch",
    "search_service": "visenv.experts.search:ServiceSearch",
    "sandbox": "visenv.experts.sandbox:Sandbox",
}
"""Family to class, as an import string."""
_OURS = ("expert", "capabilities", "segmenter", "serve")
_FIELDS = ("summary", "experts", "rest")


@dataclass(frozen=True)
class ExpertSpec:
    """One expert of a preset."""

    expert: str
    """A family or an import string."""
    keywords: Mapping[str, Any] = field(default_factory=dict)
    """Of its class."""
    capabilities: tuple[str, ...] | None = None
    """Those that it is to answer; None for all that it can."""
    segmenter: str | None = None
    """The family of an expert before it in the preset, or an expert set, that turns its boxes into masks."""
    serve: Mapping[str, Any] = field(default_factory=dict)
    """How it is served."""

    def load_class(self) -> type:
        """Import the class.

        Raises:
            UnknownName: if there is no such family.
        """
        entry_point = FAMILIES.get(self.expert, self.expert)
        module, _, attribute = entry_point.partition(":")
        if not attribute:
            near = difflib.get_close_matches(self.expert, FAMILIES, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UnknownName(
                f"Unknown family of experts {self.expert!r}.{hint} Known: {', '.join(FAMILIES)}; or give an import "
                "string, package.module:Class."
            )
        found: type = getattr(importlib.import_module(module), attribute)
        return found


@dataclass(frozen=True)
class Preset:
    """Experts by declaration.

    Example:
        >>> preset = load_preset("sam2")
        >>> [spec.expert for spec in preset.experts], preset.rest
        (['sam2'], 'classical')
    """

    name: str
    experts: tuple[ExpertSpec, ...]
    rest: str | None = None
    """The name of an expert set that answers what the experts do not."""
    summary: str = ""

    def using(self, **keywords: Any) -> Preset:
        """The same with other keywords for every expert whose class takes them: ``device``, ``precision``, …."""
        return replace(
            self,
            experts=tuple(
                replace(spec, keywords={**spec.keywords, **{k: v for k, v in keywords.items() if k in _takes(spec)}})
                for spec in self.experts
            ),
        )

    def make(self) -> list[Expert]:
        """The experts, in the order in which they are asked. Weights and devices are checked now.

        Raises:
            MissingWeights: if weights are not there; the message says how to get them.
            MissingDependency: if a package is missing.
            InvalidData: if a keyword or a value is wrong.
        """
        made: list[Expert] = []
        by_family: dict[str, Expert] = {}
        for spec in self.experts:
            expert = self._make(spec, by_family)
            by_family.setdefault(spec.expert, expert)
            _restrict(expert, spec)
            made.append(expert)
        return made + (_named_set(self.rest) if self.rest else [])

    def _make(self, spec: ExpertSpec, before: Mapping[str, Expert]) -> Expert:
        made = spec.load_class()
        known = _parameters(made)
        for keyword in spec.keywords:
            if known is not None and keyword not in known:
                near = difflib.get_close_matches(keyword, known, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise InvalidData(
                    f"Expected keywords of {spec.expert} in the preset {self.name!r}, but got {keyword!r}.{hint} "
                    f"Known: {', '.join(known)}."
                )
        keywords = dict(spec.keywords)
        if spec.segmenter is not None:
            if known is not None and "segmenter" not in known:
                raise InvalidData(f"Expected a segmenter only for experts that take one, but {spec.expert} does not.")
            keywords["segmenter"] = self._segmenter(spec.segmenter, before)
        expert: Expert = made(**keywords)
        return expert

    def _segmenter(self, name: str, before: Mapping[str, Expert]) -> Expert:
        for expert in [before[name]] if name in before else _named_set(name):
            if "SegmentPrompts" in expert.capabilities:
                return expert
        raise InvalidData(f"Expected a segmenter that answers SegmentPrompts, but {name!r} does not.")


def preset_names() -> list[str]:
    """The presets that come with visenv."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _files().iterdir() if entry.name.endswith(".yaml"))


def preset_text(name: str) -> str:
    """A preset's file as it is written, to be copied and changed.

    Raises:
        UnknownName: if there is no such preset.
    """
    if name not in preset_names():
        near = difflib.get_close_matches(name, preset_names(), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UnknownName(f"Unknown preset {name!r}.{hint} Known: {', '.join(preset_names())}.")
    return _files().joinpath(f"{name}.yaml").read_text("utf-8")


def load_preset(source: str | Path | Mapping[str, Any]) -> Preset:
    """Read a preset.

    Args:
        source: the name of one that comes with visenv, the path of a file, or what such a file holds.

    Raises:
        UnknownName: if there is no such preset.
        InvalidData: if it cannot be read, or has fields that a preset does not have.
    """
    if isinstance(source, Mapping):
        return _preset("preset", source)
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise InvalidData(f"Expected a preset in {path}, but there is no such file.")
        return _preset(path.stem, _parsed(path.read_text("utf-8"), str(path)))
    return _preset(str(source), _parsed(preset_text(str(source)), f"the preset {source}"))


def make(preset: str | Path | Mapping[str, Any], **keywords: Any) -> list[Expert]:
    """The experts of a preset.

    Args:
        preset: as ``load_preset`` takes it.
        **keywords: as ``Preset.using`` takes them, such as ``device="cpu"``.

    Raises:
        VisenvError: as ``load_preset`` and ``Preset.make``.
    """
    return load_preset(preset).using(**keywords).make()


def _files() -> Any:
    return resources.files("visenv.experts.presets")


def _parsed(text: str, where: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise MissingDependency('Presets are YAML files: pip install "visenv[neural]" brings pyyaml.') from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidData(f"Expected YAML in {where}, but it cannot be read: {error}") from error


def _preset(name: str, content: Any) -> Preset:
    if not isinstance(content, Mapping) or not isinstance(content.get("experts"), Sequence) or not content["experts"]:
        raise InvalidData(f"Expected a mapping with a list of experts in the preset {name!r}, but got {content!r:.80}.")
    if unknown := sorted(set(content) - set(_FIELDS)):
        raise InvalidData(f"Expected {', '.join(_FIELDS)} in the preset {name!r}, but got {', '.join(unknown)}.")
    specs = tuple(_spec(name, entry) for entry in content["experts"])
    return Preset(name, specs, content.get("rest"), str(content.get("summary", "")))


def _spec(name: str, entry: Any) -> ExpertSpec:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("expert"), str):
        raise InvalidData(f"Expected mappings with 'expert' in the preset {name!r}, but got {entry!r:.80}.")
    wanted = entry.get("capabilities")
    if wanted is not None and (isinstance(wanted, str) or not set(wanted) <= set(CAPABILITIES)):
        raise InvalidData(f"Expected a list of capabilities ({', '.join(CAPABILITIES)}), but got {wanted!r}.")
    serve = entry.get("serve") or {}
    if not isinstance(serve, Mapping):
        raise InvalidData(f"Expected a mapping as 'serve' of {entry['expert']}, but got {serve!r:.80}.")
    return ExpertSpec(
        entry["expert"],
        {key: value for key, value in entry.items() if key not in _OURS},
        None if wanted is None else tuple(wanted),
        entry.get("segmenter"),
        serve,
    )


def _takes(spec: ExpertSpec) -> list[str]:
    known = _parameters(spec.load_class())
    return list(spec.keywords) if known is None else known


def _parameters(made: type) -> list[str] | None:
    """The keywords of a class; None if it takes any."""
    parameters = inspect.signature(made).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters]


def _restrict(expert: Any, spec: ExpertSpec) -> None:
    """Let an expert be asked for some of its capabilities only."""
    if spec.capabilities is None:
        return
    if missing := sorted(set(spec.capabilities) - set(expert.capabilities)):
        raise InvalidData(
            f"Expected capabilities that {spec.expert} has ({', '.join(expert.capabilities)}), but got "
            f"{', '.join(missing)}."
        )
    expert.capabilities = spec.capabilities


def _named_set(name: str) -> list[Expert]:
    entry = expert_sets.entry(name)
    if entry.options.get("reads_truth"):
        raise InvalidData(f"Expected experts that read pixels in a preset, but {name!r} reads the truth.")
    made: list[Expert] = list(entry.load()(**entry.options))
    return made
