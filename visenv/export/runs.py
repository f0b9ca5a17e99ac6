"""Recorded runs: what was settled, and the episodes in their order, of ``visenv rollout`` and ``visenv eval`` alike."""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym

from visenv.env import VisionToolEnv
from visenv.errors import InvalidData
from visenv.evaluation import EvalConfig, Run
from visenv.experts_making import PRESET_FILES
from visenv.policies.chat import CHAT
from visenv.registration import Entry
from visenv.wrappers.recording import SUMMARY, TRAJECTORIES
from visenv.wrappers.text import vision_env

OTHERS = ("self", "obs", "action_mode", "render_mode", "expert_workers", "expert_timeout")
"""Keywords of an environment that do not decide what an episode comes to."""
LINE_BYTES = 1 << 26
"""The longest record of an episode."""


class RecordedRun:
    """A folder that ``visenv rollout``, ``visenv eval`` or ``visenv synth`` wrote, finished or not.

    Args:
        folder: of the run.
        env_id: of the environment, where the run does not say it, or names a module, which is not imported unasked.
        env: keywords of the environment to use in place of the run's own, such as ``{"dataset": "reasonseg:/moved"}``.

    Raises:
        InvalidData: if there is no run in the folder, or it does not say which environment it was played in.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        env_id: str | None = None,
        env: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self._evaluation = Run(self.folder) if Run.is_one(self.folder) else None
        facts = self._facts()
        self.env_id = _known(env_id, facts.get("env_id"), self.folder)
        self.policy = str(facts.get("policy", ""))
        self._given = dict(env or {})
        known = _keywords_of(self.env_id)
        recorded = {name: value for name, value in facts["keywords"].items() if name in known}
        self.keywords: dict[str, Any] = recorded | self._given
        self.recorded_dialect = str(facts["keywords"].get("dialect", "qwen3_vl"))
        """How the turns of the run were written."""
        options = facts["options"]
        in_text = isinstance(options, Mapping) and options.get("tools") == "text"
        self.native = self.policy.startswith(CHAT) and not in_text
        """Whether turns came as messages with tool calls beside the text."""
        self.cut_off = 0
        """Lines that could not be read, since the run was stopped while it wrote them."""

    def make_env(self, dialect: str) -> VisionToolEnv:
        """The environment, in text mode; whoever makes it closes it.

        Args:
            dialect: how turns are to be written.

        Raises:
            VisenvError: if a name is not known, a value out of range, or data cannot be read.
        """
        keywords = {**self.trusted_keywords(), "dialect": dialect, "action_mode": "text", "obs": "features"}
        try:
            made = gym.make(self.env_id, disable_env_checker=True, **keywords)
        except (TypeError, gym.error.Error) as error:
            raise InvalidData(
                f"Expected settings from which {self.env_id!r} can be made again, but {error}."
            ) from error
        return vision_env(made)

    def trusted_keywords(self) -> dict[str, Any]:
        """The keywords of the environment, where none of them lets the files of the run reach out.

        Raises:
            InvalidData: if experts elsewhere are to be asked, or a file says which, that only the run names.
        """
        experts = self.keywords.get("experts")
        if "experts" not in self._given and any(
            "://" in text or text.endswith(PRESET_FILES) for text in _texts(experts)
        ):
            # As with modules: who is sent pictures and a token, and what is imported, is not for a run to say.
            raise InvalidData(
                f"The run was played with the experts {experts!r:.200}, which are asked only if you name them "
                "(--experts)."
            )
        return dict(self.keywords)

    def records(self) -> Iterator[dict[str, Any]]:
        """The records of the episodes that have ended, in their order.

        Raises:
            InvalidData: if a line is no record of an episode.
        """
        if self._evaluation is not None:
            for each in self._evaluation.lines():
                yield _checked(each["record"], self.folder)
            return
        self.cut_off = 0
        path = self.folder / TRAJECTORIES
        try:
            with path.open("rb") as lines:
                for number, line in enumerate(iter(partial(lines.readline, LINE_BYTES), b""), 1):
                    if len(line) == LINE_BYTES:
                        raise InvalidData(
                            f"Expected an episode in line {number} of {str(path)!r}, but it has more than "
                            f"{LINE_BYTES >> 20} MiB."
                        )
                    if not line.endswith(b"\n"):
                        self.cut_off = 1
                        return
                    yield _checked(_parsed(line, path, number), path, number)
        except OSError as error:
            raise InvalidData(f"Expected the episodes of a run in {str(path)!r}, but {error.strerror}.") from error

    def _facts(self) -> dict[str, Any]:
        if self._evaluation is not None:
            config = EvalConfig.from_settings(self._evaluation.settings)
            keywords = {name: value for name, value in config.keywords.items() if name not in ("obs", "action_mode")}
            who = {"policy": config.policy, "options": dict(config.options)}
            return {"env_id": config.env_id, **who, "keywords": keywords}
        if not (self.folder / TRAJECTORIES).is_file():
            raise InvalidData(
                f"Expected a folder that visenv rollout, eval or synth wrote, but {str(self.folder)!r} holds no run."
            )
        path = self.folder / SUMMARY
        try:
            summary = json.loads(path.read_text("utf-8"))
            settings = dict(summary["settings"])
        except FileNotFoundError:
            settings = {}
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidData(f"Expected the settings of a run in {str(path)!r}, but they cannot be read.") from error
        facts = {name: settings.get(name) for name in ("env_id", "options")}
        return {**facts, "policy": settings.get("policy", ""), "keywords": settings}


def _keywords_of(env_id: str) -> set[str]:
    """The keywords by which an environment decides what an episode comes to.

    Raises:
        InvalidData: if there is no such environment.
    """
    try:
        creator = gym.spec(env_id).entry_point
        kind: Any = Entry(env_id, creator).load() if isinstance(creator, str) else creator
    except (gym.error.Error, ImportError, AttributeError) as error:
        raise InvalidData(f"Expected an environment that is registered, but {env_id!r} is none: {error}") from error
    names: set[str] = set()
    for each in inspect.getmro(kind) if isinstance(kind, type) else [kind]:
        with contextlib.suppress(TypeError, ValueError):
            names.update(inspect.signature(each).parameters)
    return names - {*OTHERS}


def _known(given: str | None, recorded: Any, folder: Path) -> str:
    if given is not None:
        return given
    if not isinstance(recorded, str):
        raise InvalidData(f"Expected {str(folder)!r} to say which environment it was played in: name it (--env-id).")
    if ":" in recorded:
        # A run may come from somebody else: which modules are imported is not for its files to say.
        raise InvalidData(
            f"The run was played in {recorded!r}, whose module is imported only if you name it (--env-id)."
        )
    return recorded


def _parsed(line: bytes, path: Path, number: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidData(f"Expected an episode in line {number} of {str(path)!r}, but it is no JSON.") from error


_FIELDS: dict[str, type | tuple[type, ...]] = {
    "episode": int,
    "sample_id": str,
    "query": str,
    "turns": list,
    "outcome": dict,
    "truth": dict,
    "metrics": dict,
    "reward": (int, float),
}
_TURN_FIELDS: dict[str, type | tuple[type, ...]] = {
    "name": (str, type(None)),
    "arguments": dict,
    "reply": str,
    "error": (dict, type(None)),
    "shown": list,
    "archived": list,
    "created": list,
}


def _checked(record: Any, path: Path, number: int | None = None) -> dict[str, Any]:
    """A record that has what is looked for in it.

    Raises:
        InvalidData: if it has not.
    """
    where = f"{str(path)!r}" if number is None else f"line {number} of {str(path)!r}"
    if not isinstance(record, dict) or not _has(record, _FIELDS):
        raise InvalidData(f"Expected the record of an episode in {where}, with {', '.join(_FIELDS)}.")
    if not all(isinstance(turn, dict) and _has(turn, _TURN_FIELDS) for turn in record["turns"]):
        raise InvalidData(f"Expected turns with {', '.join(_TURN_FIELDS)} in {where}.")
    images = record.get("images", [])
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        raise InvalidData(f"Expected images as a list of objects in {where}.")
    if record["episode"] < 0 or not _is_finite(record["reward"]):
        raise InvalidData(f"Expected an episode's number of at least 0, and a finite reward, in {where}.")
    return record


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _texts(value: Any) -> Iterator[str]:
    """All texts in a setting."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts([*value.values()])
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts(each)


def _has(value: Mapping[str, Any], fields: Mapping[str, type | tuple[type, ...]]) -> bool:
    return all(isinstance(value.get(name), kind) for name, kind in fields.items())
