"""Looking on while an evaluation runs: what has ended so far, whoever played it."""

from __future__ import annotations

from typing import Any

from visenv.evaluation.records import Ended
from visenv.evaluation.store import Run, read_lines
from visenv.registration import Entry
from visenv.rewards.metrics import Metric, update_all


class Follower:
    """Reads the lines of a run as they come, each once.

    Args:
        run: which one.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._seen: dict[int, set[int]] = {block: set() for block in run.blocks}
        self._sizes: dict[int, int] = {}
        self._metrics: dict[str, Metric[Any]] = {}
        self.episodes = run.episodes
        """How many there are."""
        self.done = 0
        self.invalid = 0

    @property
    def complete(self) -> bool:
        """Whether all episodes have ended."""
        return self.done == self._run.episodes

    def look(self) -> bool:
        """Read what has been added, and return whether anything was."""
        before = self.done
        for block, seen in self._seen.items():
            numbers = self._run.numbers(block)
            if len(seen) == len(numbers):
                continue
            path = self._run.path(block)
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                continue
            if size == self._sizes.get(block):
                continue
            self._sizes[block] = size
            lines, _ = read_lines(path.read_bytes(), numbers)
            for number in lines.keys() - seen:
                self._add(lines[number])
            seen.update(lines)
        return self.done > before

    def running(self) -> str:
        """The headline figure so far, in words; empty before the first episode."""
        if not self._metrics:
            return ""
        metric = next(iter(self._metrics.values()))
        invalid = f" · {self.invalid} invalid" if self.invalid else ""
        return f"{metric.name} {metric.compute()[metric.name]:.3f}{invalid}"

    def _add(self, line: dict[str, Any]) -> None:
        ended = Ended.read(line)
        # The first metric of the first episode's task is the headline; where tasks are mixed it covers its own.
        name = ended.metric_names[0] if ended.metric_names else None
        if name is not None and (not self._metrics or name in self._metrics):
            if name not in self._metrics:
                self._metrics[name] = Entry(name, name).load()()
            update_all([self._metrics[name]], ended.outcome, ended.truth)
        self.done += 1
        self.invalid += ended.record["termination"] == "invalid"
