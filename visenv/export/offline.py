"""Recorded runs as data sets of Minari: every episode is played once more, and has to come to what was recorded."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from visenv.errors import InvalidData
from visenv.export.coordinates import has_coordinates, to_pixels
from visenv.export.runs import RecordedRun
from visenv.protocol import get_dialect
from visenv.types import ToolCall

if TYPE_CHECKING:
    from minari import MinariDataset

    from visenv.adapters.flat import FlatEnv
    from visenv.adapters.padding import Padding

LEFT_OUT = "visenv_left_out"
"""Where the metadata of a data set say which episodes of the run are not in it, and why."""
MODES = ("structured", "text")


def to_minari(
    run: RecordedRun | str | os.PathLike[str],
    dataset_id: str,
    *,
    folder: str | os.PathLike[str] | None = None,
    action_mode: str | None = None,
    obs: str = "full",
    padding: Padding | Mapping[str, int] | None = None,
    data_format: str = "hdf5",
    skip: bool = False,
    **metadata: Any,
) -> MinariDataset:
    """Make a data set of a recorded run.

    A run holds no observations, so each episode is played again, with the run's own data and experts. The tools, the
    errors, the images shown, archived and made, and what every turn paid have to be what was recorded.

    Args:
        run: a folder that ``visenv rollout`` or its like wrote, or such a run with other settings.
        dataset_id: ``NAME-v0``, or ``NAMESPACE/NAME-v0``.
        folder: where it is written; Minari's own choice if None.
        action_mode: ``"structured"`` (a tool and its arguments, see ``visenv.adapters.flat``) or ``"text"`` (what the
            model wrote); as the run has it if None.
        obs: ``"features"`` leaves out the pictures.
        padding: of the pictures and texts in view, to be observed instead of numbers.
        data_format: of Minari: ``"hdf5"``, ``"arrow"`` or ``"parquet"``.
        skip: whether to leave out an episode that has an action for which the action space has no element, that was
            invalid, or that comes to something else; the data set's metadata say which, and why.
        **metadata: as ``DataCollector.create_dataset`` takes them: ``author``, ``description``, …

    Raises:
        InvalidData: if there is no run, an episode is to be left out and ``skip`` is false, or none is left.
        DatasetError: if the data set of the run has no such sample.
        MissingDependency: without Minari.
        ValueError: by Minari: if there is such a data set already, or the name is none.
    """
    from visenv.adapters.minari import make_collector

    run = run if isinstance(run, RecordedRun) else RecordedRun(run)
    written = not run.native and any(isinstance(turn.get("text"), str) for turn in _first(run)["turns"])
    mode = action_mode or ("text" if written else "structured")
    if mode not in MODES or (mode == "text" and not written):
        possible = MODES if written else MODES[:1]
        raise InvalidData(f"Expected action_mode, for this run, to be {' or '.join(possible)}, but got {mode!r}.")
    keywords = {**run.trusted_keywords(), "action_mode": mode, "obs": obs}
    collector = make_collector(run.env_id, folder=folder, padding=padding, data_format=data_format, **keywords)
    left_out: dict[str, str] = {}
    kept = 0
    with closing(collector):
        for record in run.records():
            try:
                actions = _Replay(collector.flat, record, run, mode).actions()
            except InvalidData as error:
                if not skip:
                    raise InvalidData(f"{error} Leave such episodes out with skip=True.") from error
                left_out[str(record["episode"])] = str(error)
                continue
            collector.reset(seed=kept, options={"sample_id": record["sample_id"]})
            for action in actions:
                collector.step(action)
            kept += 1
        if not kept:
            raise InvalidData(
                f"No episode of {str(run.folder)!r} can be in a data set. {next(iter(left_out.values()))}"
            )
        facts = {"algorithm_name": run.policy or "unknown", **metadata}
        with warnings.catch_warnings():
            # Minari asks for what only a data set that is published needs.
            warnings.filterwarnings("ignore", message=".*is set to None", category=UserWarning)
            dataset = collector.create_dataset(dataset_id, **facts)
    dataset.storage.update_metadata({LEFT_OUT: left_out})
    return dataset


def _first(run: RecordedRun) -> dict[str, Any]:
    for record in run.records():
        return record
    raise InvalidData(f"Expected episodes that have ended in {str(run.folder)!r}, but there are none.")


class _Replay:
    """One episode, played again in the flat environment."""

    def __init__(self, env: FlatEnv, record: Mapping[str, Any], run: RecordedRun, mode: str) -> None:
        self._env, self._record, self._run, self._mode = env, record, run, mode
        self._where = f"episode {record['episode']} ({record['sample_id']})"

    def actions(self) -> list[Any]:
        """Its actions, as elements of the action space.

        Raises:
            InvalidData: if it comes to something else than what was recorded, or the space has no such element.
        """
        record, env = self._record, self._env
        if record.get("invalid"):
            raise InvalidData(f"Expected valid episodes, but in {self._where} an expert failed: {record['invalid']}.")
        _, info = env.reset(options={"sample_id": record["sample_id"]})
        self._compare("the query", record["query"], info["query"])
        actions, paid, ended = [], 0.0, False
        for number, turn in enumerate(record["turns"], 1):
            if ended:
                raise self._differs(f"turn {number}", "taken", "after the end")
            action = self._action(number, turn)
            _, reward, terminated, truncated, info = env.step(action)
            actions.append(action)
            paid, ended = paid + reward, terminated or truncated
            self._compare_turn(number, turn, info)
        self._compare("its end", True, ended)
        self._compare("the reward", record["reward"], paid)
        self._compare("the termination", record.get("termination"), info.get("termination"))
        self._compare("the number of objects", record["outcome"].get("count"), info["outcome"]["count"])
        return actions

    def _action(self, number: int, turn: Mapping[str, Any]) -> Any:
        try:
            if self._mode == "text":
                if (turn["error"] or {}).get("code") == "cut":
                    raise InvalidData("the text was cut by the model's limit, which no text says.")
                return self._env.flat_text(turn.get("text"))
            arguments = turn["arguments"]
            call = ToolCall(str(turn["name"]), arguments)
            spoken = isinstance(turn.get("text"), str) or self._run.native
            if turn["name"] not in (None, "Answer") and spoken and has_coordinates(self._env.vision.episode, call):
                frame = get_dialect(self._run.recorded_dialect).frame
                arguments = dict(to_pixels(self._env.vision.episode, call, frame).arguments)
            return self._env.flat_action({"name": turn["name"], "arguments": arguments})
        except (TypeError, ValueError, LookupError) as error:
            raise InvalidData(
                f"At turn {number} of {self._where}, the action space has no such action: {error}"
            ) from error

    def _compare_turn(self, number: int, turn: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        taken = self._env.vision.episode.transcript[-1]
        for what, expected, got in (
            ("the tool", turn["name"], info["tool"]),
            ("the error", (turn["error"] or {}).get("code"), (info["error"] or {}).get("code")),
            ("the images shown", turn["shown"], list(taken.shown)),
            ("the images archived", turn["archived"], list(taken.archived)),
            ("the images made", turn["created"], list(taken.created)),
            ("the rewards", turn.get("reward_terms"), info["reward_terms"]),
        ):
            self._compare(f"at turn {number}, {what}", expected, got)

    def _compare(self, what: str, expected: Any, got: Any) -> None:
        if not _same(expected, got):
            raise self._differs(what, expected, got)

    def _differs(self, what: str, expected: Any, got: Any) -> InvalidData:
        return InvalidData(
            f"Played again, {self._where} is not what was recorded: {what} was {str(expected)!r:.200}, and is now "
            f"{str(got)!r:.200}. Name the data set and the experts that the run was played with: "
            "RecordedRun(folder, env={…})."
        )


def _same(expected: Any, got: Any) -> bool:
    if isinstance(expected, Mapping) and isinstance(got, Mapping):
        return expected.keys() == got.keys() and all(_same(expected[name], got[name]) for name in expected)
    if isinstance(expected, (int, float)) and isinstance(got, (int, float)):
        # Points and boxes of the action space are single precision.
        return math.isclose(expected, got, rel_tol=1e-6, abs_tol=1e-6)
    return bool(expected == got)
