"""Recording: every episode as one line of ``trajectories.jsonl``, with small pictures beside it.

A run is a folder: ``trajectories.jsonl`` (one episode a line, appended and flushed when it ends), ``pictures/`` (JPEG
files that the lines name), ``summary.json`` (the figures over all episodes) and, where a page is asked for,
``index.html``. No clock and no absolute path goes into the first, so that equal seeds give equal bytes.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, SupportsFloat

import gymnasium as gym

from visenv.env import VisionToolEnv
from visenv.episode import Episode
from visenv.errors import InvalidData
from visenv.records import trajectory_record, turn_record
from visenv.registration import Entry
from visenv.workspace import Picture
from visenv.wrappers.snapshots import RESULT_SIDE, encode, final_snapshot, truth_snapshot, turn_snapshots
from visenv.wrappers.summary import RunSummary
from visenv.wrappers.text import vision_env

TRAJECTORIES = "trajectories.jsonl"
SUMMARY = "summary.json"
PICTURES = "pictures"
PAGE = "visenv.report:write_page"
"""Entry point of what writes a run's page."""


def plain_json(value: object, indent: int | None = None) -> str:
    """A value as strict JSON text: numbers that are not finite become null."""
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, indent=indent)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True)
class EpisodeParcel:
    """A finished episode as a run's folder holds it, on its way there from another process."""

    index: int
    """Its number in its run, from 0."""
    line: str
    """Of ``trajectories.jsonl``, with its end."""
    files: Mapping[str, bytes]
    """Its pictures, by their paths relative to the folder."""
    reward: float
    summary: RunSummary
    """Of this episode alone."""


class RunRecorder:
    """Writes a run's folder, episode after episode.

    Args:
        folder: where to; made if it is missing.
        settings: what the run was made with, as JSON values; stands in the summary and on the page.
        pictures: whether to write pictures, without which the page shows text alone.
        overwrite: whether a run that is there already may be replaced.
        first: the number of the first episode, where it is a part of a run.

    Raises:
        InvalidData: if the folder holds a run already, or cannot be written.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        settings: Mapping[str, Any] | None = None,
        *,
        pictures: bool = True,
        overwrite: bool = False,
        first: int = 0,
    ) -> None:
        self.folder = Path(folder)
        self._first = first
        self.settings = dict(settings or {})
        self.summary = RunSummary()
        self._pictures = pictures
        self._turns: list[dict[str, Any]] = []
        self._inputs: list[str] = []
        self._reward = 0.0
        if (self.folder / TRAJECTORIES).exists() and not overwrite:
            raise InvalidData(
                f"There is a run in {str(self.folder)!r} already: "
                "name another folder, or overwrite it (overwrite=True, --overwrite)."
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._clear()
            self._file = (self.folder / TRAJECTORIES).open("w", encoding="utf-8", newline="\n")
        except OSError as error:
            raise InvalidData(
                f"Cannot write to {str(self.folder)!r}: {error.strerror}. Name another folder."
            ) from error

    def begin(self, episode: Episode) -> None:
        """Start an episode; one that was under way and did not end is left out.

        Args:
            episode: before its first turn.
        """
        for path in self._episode_folder().glob("*.jpg"):
            path.unlink()
        self._turns, self._reward = [], 0.0
        inputs = [shown.picture for shown in episode.pictures()]
        self._inputs = self._write("00", turn_snapshots(inputs)) if self._pictures else []

    def record_turn(self, episode: Episode, reward: float, reward_terms: Mapping[str, float]) -> None:
        """Add the turn just taken.

        Args:
            episode: after the turn.
            reward: what the turn paid.
            reward_terms: the same, by term.
        """
        turn = episode.transcript[-1]
        files = []
        if self._pictures and turn.shown:
            shown: list[Picture] = [shown.picture for shown in episode.pictures()[-len(turn.shown) :]]
            files = self._write(f"{turn.index:02d}", turn_snapshots(shown))
        self._turns.append(turn_record(turn, reward_terms) | {"pictures": files})
        self._reward += reward

    def add_played(self, env: VisionToolEnv, terms: Sequence[Mapping[str, float]], reward: float) -> dict[str, Any]:
        """Write an episode that has ended already, as if each of its turns had been recorded when it was taken.

        Args:
            env: the environment in which it ended.
            terms: what each of its turns paid, by term.
            reward: what they paid in all.

        Returns:
            What was written.
        """
        episode = env.episode
        pictures: list[Picture] = [shown.picture for shown in episode.pictures()]
        place = len(pictures) - sum(len(turn.shown) for turn in episode.transcript)
        self._turns, self._reward = [], reward
        self._inputs = self._write("00", turn_snapshots(pictures[:place])) if self._pictures else []
        for turn, paid in zip(episode.transcript, terms, strict=True):
            shown = pictures[place : place + len(turn.shown)]
            place += len(turn.shown)
            files = self._write(f"{turn.index:02d}", turn_snapshots(shown)) if self._pictures and shown else []
            self._turns.append(turn_record(turn, paid) | {"pictures": files})
        return self.finish(env)

    def finish(self, env: VisionToolEnv) -> dict[str, Any]:
        """Write the line of an episode that has ended.

        Args:
            env: the environment in which it ended.

        Returns:
            What was written.
        """
        episode, metrics = env.episode, env.metrics()
        record = trajectory_record(
            self._index,
            episode,
            self._turns,
            self._reward,
            metrics,
            pictures=self._inputs,
            result_pictures=self._result_pictures(episode),
        )
        self._file.write(plain_json(record) + "\n")
        self._file.flush()
        self.summary.add(env, self._reward)
        self._turns, self._inputs = [], []
        return record

    def parcel(self) -> EpisodeParcel:
        """The one episode that was recorded here, to be added to another folder.

        Raises:
            InvalidData: if it is not exactly one.
        """
        if self.summary.episodes != 1:
            raise InvalidData(f"Expected one episode in the folder of a parcel, but there are {self.summary.episodes}.")
        pictures = sorted((self.folder / PICTURES).glob("[0-9]*/*.jpg"))
        files = {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in pictures}
        line = (self.folder / TRAJECTORIES).read_text("utf-8")
        return EpisodeParcel(self._first, line, files, self._reward, self.summary)

    def add(self, parcel: EpisodeParcel) -> None:
        """Write an episode that was recorded elsewhere; what it has is what it would have if it had ended here.

        Args:
            parcel: with the number of the next episode.

        Raises:
            InvalidData: if it is another one's turn.
        """
        if parcel.index != self._index:
            raise InvalidData(f"Expected episode {self._index} next, but got {parcel.index}.")
        for name, data in parcel.files.items():
            path = self._episode_folder() / Path(name).name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self._file.write(parcel.line)
        self._file.flush()
        self.summary.merge(parcel.summary)

    def close(self, **outcome: Any) -> dict[str, Any]:
        """Write the summary, and return it; further calls change nothing.

        Args:
            **outcome: further facts about the run, such as ``interrupted=True``.
        """
        summary = {"settings": self.settings, **self.summary.figures(), **outcome}
        if not self._file.closed:
            self._file.close()
            (self.folder / SUMMARY).write_text(plain_json(summary, indent=2) + "\n", encoding="utf-8")
        return summary

    def __enter__(self) -> RunRecorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(**({"interrupted": True} if kind is not None else {}))

    def _episode_folder(self) -> Path:
        return self.folder / PICTURES / f"{self._index:05d}"

    @property
    def _index(self) -> int:
        return self._first + self.summary.episodes

    def _write(self, stem: str, files: list[bytes]) -> list[str]:
        """Write JPEG files; their paths, relative to the run's folder, with forward slashes."""
        folder = self._episode_folder()
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for index, data in enumerate(files):
            name = f"{stem}_{index:02d}.jpg"
            (folder / name).write_bytes(data)
            paths.append(f"{PICTURES}/{folder.name}/{name}")
        return paths

    def _result_pictures(self, episode: Episode) -> dict[str, str]:
        if not self._pictures:
            return {}
        drawn = {"truth": truth_snapshot(episode), "final": final_snapshot(episode)}
        return {
            name: self._write(name, [encode(pixels, RESULT_SIDE)])[0]
            for name, pixels in drawn.items()
            if pixels is not None
        }

    def _clear(self) -> None:
        """Remove what an earlier run left, and nothing else."""
        for path in (self.folder / PICTURES).glob("[0-9]*/*.jpg"):
            path.unlink()
        for path in (self.folder / PICTURES).glob("[0-9]*"):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        for name in (TRAJECTORIES, SUMMARY, "index.html"):
            (self.folder / name).unlink(missing_ok=True)


def _plain(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Those of an environment's keywords that are JSON values, so that it can be made again."""
    return {name: value for name, value in keywords.items() if name not in ("obs", "render_mode") and _is_json(value)}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


class RecordTrajectories(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Writes every finished episode of any policy's loop to a folder, and its page when closed.

    Args:
        env: an environment of visenv, wrapped or not.
        folder: where to write; see the module for what.
        settings: what the run was made with, as JSON values, to stand on the page.
        pictures: whether to write pictures.
        page: entry point of what writes the page, called with the folder; None for no page.
        overwrite: whether a run that is in the folder may be replaced.
        first: the number of the first episode, where it is a part of a run.

    Raises:
        InvalidData: if it is another kind of environment, or the folder holds a run already or cannot be written.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> env = RecordTrajectories(gym.make("VisHarness/RefSeg-v0", experts="oracle", split="val"), folder)
        >>> _ = env.reset(options={"index": 0})
        >>> _ = env.step({"name": "Answer"})
        >>> env.close()
        >>> sorted(os.listdir(folder))
        ['index.html', 'pictures', 'summary.json', 'trajectories.jsonl']
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        folder: str | os.PathLike[str],
        settings: Mapping[str, Any] | None = None,
        *,
        pictures: bool = True,
        page: str | None = PAGE,
        overwrite: bool = False,
        first: int = 0,
    ) -> None:
        gym.utils.RecordConstructorArgs.__init__(
            self, folder=folder, settings=settings, pictures=pictures, page=page, overwrite=overwrite, first=first
        )
        super().__init__(env)
        self._vision = vision_env(env)
        facts: dict[str, Any] = {"env_id": env.spec.id, **_plain(env.spec.kwargs)} if env.spec else {}
        facts |= {**(settings or {}), "reward_bounds": list(self._vision.config.reward.bounds)}
        self.recorder = RunRecorder(folder, facts, pictures=pictures, overwrite=overwrite, first=first)
        self._page = page
        self._closed = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; one that was under way is not recorded."""
        result = self.env.reset(seed=seed, options=options)
        self.recorder.begin(self._vision.episode)
        return result

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take one turn, and write the episode down if it was the last."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.recorder.record_turn(self._vision.episode, float(reward), info["reward_terms"])
        if self._vision.episode.done:
            self.recorder.finish(self._vision)
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        """Write the summary and the page, and close the environment; further calls change nothing."""
        if not self._closed:
            self._closed = True
            self.recorder.close()
            if self._page is not None:
                Entry("page", self._page).load()(self.recorder.folder)
        super().close()
