"""Which experts are served, and how: from a name, a preset or objects to one plan a deployment."""

from __future__ import annotations

import math
import pickle
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import cloudpickle

from visenv.capabilities import Expert
from visenv.errors import InvalidData
from visenv.registration import Entry
from visenv.registration import experts as expert_sets

AUTOSCALING = ("min_replicas", "max_replicas", "target_ongoing_requests")


@dataclass(frozen=True)
class ServeOptions:
    """How one expert is served; the ``serve`` of an expert in a preset holds the same names.

    Raises:
        InvalidData: if a value is out of range.
    """

    replicas: int = 1
    """How many processes hold it; without ``autoscaling``."""
    num_cpus: float = 1.0
    """What each of them takes of its machine's processors; parts of one are possible."""
    num_gpus: float = 0.0
    """What each takes of a GPU: at 0.5, two share one."""
    autoscaling: Mapping[str, float] | None = None
    """``min_replicas``, ``max_replicas`` and ``target_ongoing_requests``, in place of ``replicas``."""
    max_batch: int | None = None
    """The most requests that are answered together; None for what the expert says."""
    batch_wait_s: float = 0.005
    """How long a batch that is not full waits for more."""

    def __post_init__(self) -> None:
        for name, least, whole in (
            ("replicas", 1, True),
            ("num_cpus", 0, False),
            ("num_gpus", 0, False),
            ("max_batch", 1, True),
            ("batch_wait_s", 0, False),
        ):
            value = getattr(self, name)
            if not (value is None and name == "max_batch"):
                _check_number(name, value, least, whole)
        for name, value in (self.autoscaling or {}).items():
            if name not in AUTOSCALING:
                raise InvalidData(f"Expected autoscaling by {', '.join(AUTOSCALING)}, but got {name!r}.")
            _check_number(name, value, 1 if name != "min_replicas" else 0, name != "target_ongoing_requests")
        if self.autoscaling and self.autoscaling.get("min_replicas", 1) > self.most_replicas:
            raise InvalidData(f"Expected min_replicas to be at most max_replicas, but got {dict(self.autoscaling)}.")

    @property
    def most_replicas(self) -> int:
        """How many processes there may be at a time."""
        return self.replicas if self.autoscaling is None else int(self.autoscaling.get("max_replicas", 1))

    @property
    def first_replicas(self) -> int:
        """How many processes there are to begin with."""
        return self.replicas if self.autoscaling is None else int(self.autoscaling.get("min_replicas", 1))


def _check_number(name: str, value: Any, least: float, whole: bool) -> None:
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value < math.inf:
        kind = "a whole number" if whole else "a number"
        raise InvalidData(f"Expected {name} to be {kind} of at least {least}, but got {value!r}.")


OPTIONS = tuple(option.name for option in fields(ServeOptions))


@dataclass(frozen=True)
class PlannedExpert:
    """One deployment: an expert that is made where it runs."""

    key: str
    """Its name in addresses; different for all of a plan."""
    maker: Callable[[], Expert]
    options: ServeOptions = field(default_factory=ServeOptions)
    path: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))
    """Where modules are found, such as one's own with a class of experts."""

    def make(self) -> Expert:
        """Make the expert, where it is to run."""
        sys.path += [place for place in self.path if place not in sys.path]
        return self.maker()


@dataclass(frozen=True)
class _OfSet:
    """One expert of a registered set: by its entry, since who runs it need not have registered it."""

    entry: Entry
    index: int

    def __call__(self) -> Expert:
        return _experts_of(self.entry)[self.index]


@dataclass(frozen=True)
class _OfPreset:
    """One expert of a preset, alone but for the segmenter that it may need."""

    preset: Any
    index: int

    def __call__(self) -> Expert:
        spec = self.preset.experts[self.index]
        before = [other for other in self.preset.experts[: self.index] if other.expert == spec.segmenter]
        made: list[Expert] = replace(self.preset, experts=(*before[:1], spec), rest=None).make()
        return made[-1]


@dataclass(frozen=True)
class _Given:
    """An expert that was made already, pickled: Ray's own processes need not know its class."""

    pickled: bytes

    def __call__(self) -> Expert:
        made: Expert = pickle.loads(self.pickled)
        return made


def _given(expert: Expert) -> _Given:
    try:
        return _Given(bytes(cloudpickle.dumps(expert)))
    except Exception as error:
        raise InvalidData(
            f"Expected experts that can be copied to another process, but {expert.name} cannot be pickled "
            f"({type(error).__name__}: {error}): leave out what cannot be copied, or serve a preset."
        ) from error


def plan(value: str | Path | Expert | Iterable[Expert], **overrides: Any) -> list[PlannedExpert]:
    """What to deploy.

    Args:
        value: the name of a registered set or preset, a preset file, an expert, or several.
        **overrides: of ``ServeOptions``, for every expert; those that are None change nothing.

    Raises:
        UnknownName: if no set has that name.
        InvalidData: if the experts read the truth, or an option is out of range.

    Example:
        >>> [(planned.key, planned.options.replicas) for planned in plan("classical", replicas=2)]
        [('classical', 2)]
    """
    given = {name: option for name, option in overrides.items() if option is not None}
    made = _of_string(str(value), given) if isinstance(value, (str, Path)) else _of_experts(value, given)
    seen: Counter[str] = Counter()
    planned = []
    for each in made:
        seen[each.key] += 1
        planned.append(replace(each, key=f"{each.key}-{seen[each.key]}") if seen[each.key] > 1 else each)
    return planned


def _of_experts(value: Any, given: Mapping[str, Any]) -> list[PlannedExpert]:
    experts = [value] if isinstance(value, Expert) or not isinstance(value, Iterable) else list(value)
    for expert in experts:
        if isinstance(expert, type) or not isinstance(expert, Expert):
            raise InvalidData(f"Expected an expert (an object as visenv.capabilities.Expert), but got {expert!r:.80}.")
        refuse_truth(expert)
    if not experts:
        raise InvalidData("Expected at least one expert to serve, but got none.")
    return [PlannedExpert(_key(expert.name), _given(expert), _options({}, given, expert.name)) for expert in experts]


def _of_string(value: str, given: Mapping[str, Any]) -> list[PlannedExpert]:
    if value.endswith((".yaml", ".yml")):
        return _of_preset(value, given)
    entry = expert_sets.entry(value)
    return _of_preset(value, given) if "preset" in entry.options else _of_set(value, given)


def _of_preset(value: str, given: Mapping[str, Any]) -> list[PlannedExpert]:
    from visenv.experts.presets import load_preset

    preset = load_preset(value)
    planned = [
        PlannedExpert(
            _key(spec.expert.rpartition(":")[2]), _OfPreset(preset, index), _options(spec.serve, given, spec.expert)
        )
        for index, spec in enumerate(preset.experts)
    ]
    rest = {name: option for name, option in given.items() if name != "num_gpus"}
    return planned + (_of_set(preset.rest, rest) if preset.rest else [])


def _of_set(name: str, given: Mapping[str, Any]) -> list[PlannedExpert]:
    entry = expert_sets.entry(name)
    return [
        PlannedExpert(_key(expert.name), _OfSet(entry, index), _options({}, given, expert.name))
        for index, expert in enumerate(_experts_of(entry))
    ]


def _experts_of(entry: Entry) -> list[Expert]:
    options = dict(entry.options)
    if options.pop("reads_truth", False):
        raise InvalidData(
            f"Expected experts that read pixels, but {entry.name!r} reads the truth of each sample, which never leaves "
            f"the process of the environment: use experts={entry.name!r} there."
        )
    made: list[Expert] = list(entry.load()(**options))
    for expert in made:
        refuse_truth(expert)
    return made


def refuse_truth(expert: Expert) -> None:
    """Make sure that an expert reads pixels alone.

    Raises:
        InvalidData: if its results depend on the sample.
    """
    if expert.per_sample:
        raise InvalidData(
            f"Expected experts that read pixels, but {expert.name!r} depends on the sample, whose truth never leaves "
            "the process of the environment: use it there."
        )


def _options(serve: Mapping[str, Any], given: Mapping[str, Any], name: str) -> ServeOptions:
    if unknown := [option for option in serve if option not in OPTIONS]:
        raise InvalidData(f"Expected 'serve' of {name} to hold {', '.join(OPTIONS)}, but got {', '.join(unknown)}.")
    merged = {**serve, **given}
    if "replicas" in given and "autoscaling" not in given:
        merged.pop("autoscaling", None)
    return ServeOptions(**merged)


def _key(name: str) -> str:
    """A name as it can stand in an address."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "expert"
