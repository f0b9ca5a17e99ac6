"""The folder of an evaluation: what was settled, and a line for each episode that has ended.

``run.json`` says what is evaluated. The episodes are cut into blocks; each block is one file of lines in ``episodes/``,
and whoever plays a block holds the lock of its file. The lock is the claim: no two processes ever write to one file, no
list of claims can go stale, and a process that is killed, or a machine that loses power, gives its blocks back at once.
A line is written with one call and is on the disk before the next episode begins; what a crash left of a last line is
cut off by the next one who holds the block.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from visenv.errors import InvalidData
from visenv.evaluation.locks import locked, sync_folder, try_lock, write_whole
from visenv.wrappers.recording import plain_json

RUN = "run.json"
EPISODES = "episodes"
FORMAT = 1
MOST_BLOCK = 16
"""Episodes of a block, at most: what another process cannot take over while one plays it."""
LEAST_BLOCKS = 64
"""Blocks of a run that has as many episodes, so that many processes find something to do."""
_VIEWS = ("trajectories.jsonl", "report.json", "timing.json", "index.html")


class Run:
    """The folder of an evaluation.

    Args:
        folder: with ``run.json``.

    Raises:
        InvalidData: if there is no evaluation in the folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        try:
            facts = json.loads((self.folder / RUN).read_text(encoding="utf-8"))
            self.settings: dict[str, Any] = dict(facts["settings"])
            self.episodes, self.block = int(facts["episodes"]), int(facts["block"])
            self.facts: dict[str, Any] = dict(facts["facts"])
            version = facts["format"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidData(
                f"Expected the folder of an evaluation, but {str(self.folder)!r} holds no {RUN} that can be read."
            ) from error
        if version != FORMAT or self.episodes < 1 or self.block < 1:
            raise InvalidData(f"Expected a run of format {FORMAT} in {str(self.folder)!r}, but got {version!r}.")

    @classmethod
    def is_one(cls, folder: str | os.PathLike[str]) -> bool:
        """Whether a folder holds an evaluation."""
        return (Path(folder) / RUN).is_file()

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        settings: Mapping[str, Any],
        episodes: int,
        facts: Mapping[str, Any],
        *,
        overwrite: bool = False,
    ) -> Run:
        """The evaluation in a folder, begun if it is not there yet; any number of processes may do so at once.

        Args:
            folder: made if it is missing.
            settings: of ``EvalConfig``.
            episodes: how many there are.
            facts: what a report needs to know besides.
            overwrite: whether an evaluation that is there is replaced.

        Raises:
            InvalidData: if it holds one of other settings, somebody works on what is to be replaced, or the folder
                cannot be written.
        """
        path = Path(folder)
        try:
            (path / EPISODES).mkdir(parents=True, exist_ok=True)
            with locked(path / ".lock"):
                if overwrite and cls.is_one(path):
                    _clear(path)
                if not cls.is_one(path):
                    block = max(1, min(MOST_BLOCK, episodes // LEAST_BLOCKS))
                    content: dict[str, Any] = {"format": FORMAT, "episodes": episodes, "block": block}
                    content |= {"settings": dict(settings), "facts": dict(facts)}
                    write_whole(path / RUN, plain_json(content, indent=2) + "\n")
        except OSError as error:
            raise InvalidData(f"Cannot write to {str(path)!r}: {error.strerror}. Name another folder.") from error
        run = cls(path)
        wanted = {**settings, "episodes": episodes}
        there = {**run.settings, "episodes": run.episodes}
        if there != wanted:
            differing = ", ".join(name for name in {**there, **wanted} if there.get(name) != wanted.get(name))
            raise InvalidData(
                f"There is an evaluation of other settings ({differing}) in {str(path)!r}: "
                "name another folder, or replace it (overwrite=True, --overwrite)."
            )
        return run

    @property
    def blocks(self) -> range:
        """The numbers of its blocks."""
        return range(-(-self.episodes // self.block))

    def numbers(self, block: int) -> range:
        """The numbers of a block's episodes."""
        return range(block * self.block, min(self.episodes, (block + 1) * self.block))

    def path(self, block: int) -> Path:
        """The file of a block."""
        return self.folder / EPISODES / f"{block:06d}.jsonl"

    def claim(self, block: int) -> BlockWriter | None:
        """Take a block, to play what is missing of it; None while somebody else holds it."""
        return BlockWriter.take(self, block)

    def lines(self) -> Iterator[dict[str, Any]]:
        """What is written of each episode that has ended, by number, each once."""
        for block in self.blocks:
            yield from self.block_lines(block)

    def block_lines(self, block: int) -> list[dict[str, Any]]:
        """What is written of a block's episodes, by number, each once."""
        try:
            content = self.path(block).read_bytes()
        except FileNotFoundError:
            return []
        return [line for _, line in sorted(read_lines(content, self.numbers(block))[0].items())]

    def missing(self) -> int:
        """How many episodes have not ended."""
        return self.episodes - sum(len(self.block_lines(block)) for block in self.blocks)


class BlockWriter:
    """A block that this process holds, and no other until it is closed."""

    def __init__(self, run: Run, block: int, descriptor: int) -> None:
        self._descriptor = descriptor
        numbers = run.numbers(block)
        content = _content(descriptor)
        done, length = read_lines(content, numbers)
        if length < len(content):
            os.ftruncate(descriptor, length)
            os.fsync(descriptor)
        self._length = length
        self.missing = [number for number in numbers if number not in done]
        """The numbers of the episodes that are still to be played."""

    @classmethod
    def take(cls, run: Run, block: int) -> BlockWriter | None:
        """See ``Run.claim``."""
        path = run.path(block)
        new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not try_lock(descriptor):
                os.close(descriptor)
                return None
            if new:
                sync_folder(path.parent)
            return cls(run, block, descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    def append(self, line: Mapping[str, Any]) -> None:
        """Write the line of an episode; when this returns, it is on the disk.

        Raises:
            InvalidData: if it cannot be written, as on a full disk.
        """
        data = (plain_json(line) + "\n").encode("utf-8")
        try:
            os.lseek(self._descriptor, self._length, os.SEEK_SET)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError as error:
            raise InvalidData(
                f"Cannot write an episode: {error.strerror}. What is written stays; the same command goes on with it."
            ) from error
        self._length += len(data)
        self.missing.remove(line["record"]["episode"])

    def close(self) -> None:
        """Give the block back."""
        os.close(self._descriptor)

    def __enter__(self) -> BlockWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_lines(content: bytes, numbers: range) -> tuple[dict[int, dict[str, Any]], int]:
    r"""The whole lines of a block's file, by the number of their episode.

    Args:
        content: of the file.
        numbers: of the block's episodes.

    Returns:
        The lines, the first of each number; and how many bytes there are up to the end of the last whole line: what
        comes after is what a crash left.

    Example:
        >>> read_lines(b'{"record": {"episode": 0}}\n{"record": {"epi', range(4))
        ({0: {'record': {'episode': 0}}}, 27)
    """
    found: dict[int, dict[str, Any]] = {}
    length = position = 0
    for line in content.splitlines(keepends=True):
        position += len(line)
        value = _line(line) if line.endswith(b"\n") else None
        if value is not None and value["record"]["episode"] in numbers:
            found.setdefault(value["record"]["episode"], value)
            length = position
    return found, length


def _line(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
        whole = isinstance(value, dict) and type(value["record"]["episode"]) is int
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return value if whole else None


def _content(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    parts = []
    while part := os.read(descriptor, 2**20):
        parts.append(part)
    return b"".join(parts)


def _clear(folder: Path) -> None:
    """Remove an evaluation, and nothing else.

    Raises:
        InvalidData: if somebody works on it.
    """
    files = sorted((folder / EPISODES).glob("[0-9]*.jsonl"))
    held = []
    try:
        for path in files:
            held.append(os.open(path, os.O_RDWR))
            if not try_lock(held[-1]):
                raise InvalidData(f"Expected nobody to work on {str(folder)!r} while it is replaced: stop them first.")
        for path in (folder / RUN, *files, *(folder / name for name in _VIEWS)):
            path.unlink(missing_ok=True)
    finally:
        for descriptor in held:
            os.close(descriptor)
