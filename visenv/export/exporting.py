"""From a recorded run to a training set: choose, play again, write."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from visenv.adapters.trl import rules_of
from visenv.adapters.verl.records import standing_score
from visenv.env import VisionToolEnv
from visenv.errors import InvalidData
from visenv.export.examples import Example, Keep, prompt_example, turn_example
from visenv.export.formats import Form, checked_row, get_form
from visenv.export.pictures import digest_of
from visenv.export.replaying import ReplayError, Snapshot, begin, replay
from visenv.export.runs import RecordedRun
from visenv.export.selecting import Filters, Selection, Try, select
from visenv.export.writing import SHARD_ROWS, SetWriter, check_free

TEXT_DIALECT = "qwen3_vl"
"""In which turns are written that were recorded as messages with tool calls beside the text."""

Progress = Callable[[int, int], None]
"""Told how many episodes or samples are done, of how many."""


def export_run(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    to: str = "sft",
    filters: Filters | None = None,
    dialect: str | None = None,
    env_id: str | None = None,
    env: Mapping[str, Any] | None = None,
    files: str | None = None,
    shard_rows: int = SHARD_ROWS,
    skip_changed: bool = False,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Make a training set of a run.

    Episodes are chosen by what was recorded of them, then played again, since only so is every turn seen with the very
    pictures that it saw then; whether they come to what was recorded is checked. The set appears in its folder whole
    or not at all, and the same run and options give the same bytes.

    Args:
        run: folder that ``visenv rollout``, ``visenv eval`` or ``visenv synth`` wrote.
        out: folder to write.
        to: which form: ``sft``, ``sharegpt``, ``grpo``, ``trl`` or ``verl``.
        filters: what is kept; of the forms whose rows are prompts, ``mixed_only`` alone chooses samples.
        dialect: how turns are written; as they were recorded if left out.
        env_id: of the environment, where the run does not say it, or names a module, which is not imported unasked.
        env: keywords of the environment to use in place of the run's own, such as a data set that has moved.
        files: ``parquet`` (holds its pictures) or ``jsonl`` (names them); the form's own if left out.
        shard_rows: rows of a file.
        skip_changed: whether episodes that come to something else are left out; otherwise they are an error.
        overwrite: whether a training set that is there is replaced.
        progress: told what is done.

    Returns:
        The manifest, with ``folder``.

    Raises:
        ReplayError: if an episode comes to something else than what was recorded.
        InvalidData: if there is no run, nothing of it is left, or the folder cannot be written.
        VisenvError: if the environment cannot be made, or its data cannot be read.

    Example:
        >>> import tempfile
        >>> from visenv.evaluation import EvalConfig, evaluate
        >>> folder = tempfile.mkdtemp()
        >>> config = EvalConfig("VisHarness/RefSeg-v0", policy="oracle", episodes=3)
        >>> _ = evaluate(config, f"{folder}/run")
        >>> made = export_run(f"{folder}/run", f"{folder}/set", to="sft", files="jsonl")
        >>> made["rows"], made["counts"]["episodes"], made["counts"]["turns"]["kept"]
        (9, {'recorded': 3, 'kept': 3, 'dropped': 0}, 9)
    """
    form, filters = get_form(to), filters or Filters()
    files = files or form.files[0]
    if files not in form.files:
        raise InvalidData(f"Expected files of {form.name} to be {' or '.join(form.files)}, but got {files!r}.")
    check_free(Path(out).absolute(), overwrite)
    recorded = RecordedRun(run, env_id=env_id, env=env)
    dialect = dialect or (TEXT_DIALECT if recorded.recorded_dialect == "openai" else recorded.recorded_dialect)
    if dialect == "openai":
        raise InvalidData("Expected a dialect that writes calls as text, such as qwen3_vl, but got 'openai'.")
    selection = select(recorded.records(), filters)
    if not selection.kept and not selection.dropped:
        raise InvalidData(f"Expected an episode that has ended in {str(recorded.folder)!r}, but there is none.")
    account = Account(selection.dropped if form.turns else selection.without_valid_try())
    if not (selection.kept if form.turns else selection.samples):
        raise _nothing_left(account)
    with (
        closing(recorded.make_env(dialect)) as made,
        SetWriter(Path(out), form, files=files, shard_rows=shard_rows, overwrite=overwrite) as writer,
    ):
        # What the form does not show is not stored.
        keep = writer.pictures.keep if form.pictures else digest_of
        maker = _Maker(recorded, made, keep, selection, account, filters, skip_changed, progress)
        for example in maker.turns() if form.turns else maker.prompts():
            writer.add(checked_row(form, example))
        total = len(selection.kept) + len(selection.dropped) if form.turns else selection.named
        assert len(account.kept) + len(account.dropped) == total, "Nothing is lost without a reason."
        if not writer.rows:
            raise _nothing_left(account)
        manifest = {
            "form": form.name,
            "run": {
                "env_id": recorded.env_id,
                "policy": recorded.policy,
                "env": {name: _named(value) for name, value in recorded.keywords.items()},
                "cut_off_lines": recorded.cut_off,
            },
            "dialect": dialect,
            "filters": asdict(filters),
            **account.figures(form),
        }
        whole = writer.close(manifest)
    return {**whole, "folder": str(Path(out))}


def _nothing_left(account: Account) -> InvalidData:
    return InvalidData(f"Expected something to learn from, but nothing is left: {account.reasons()}.")


class Account:
    """Keeps account of what becomes of a run's episodes, turns and samples.

    Args:
        dropped: what is dropped already.
    """

    def __init__(self, dropped: list[dict[str, Any]]) -> None:
        self.kept: list[dict[str, Any]] = []
        self.dropped = list(dropped)
        self.turns: list[dict[str, Any]] = []
        """Those of kept episodes that are dropped."""
        self.rows = 0

    def drop_episode(self, one: Try, why: str, detail: str) -> None:
        """Note that an episode is dropped after all."""
        self.dropped.append({"episode": one.episode, "sample_id": one.sample_id, "why": why, "detail": detail})

    def drop_turn(self, one: Try, turn: int, why: str, detail: str) -> None:
        """Note that a turn of a kept episode is dropped."""
        found = {"episode": one.episode, "sample_id": one.sample_id, "turn": turn, "why": why, "detail": detail}
        self.turns.append(found)

    def keep_episode(self, one: Try, turns: list[int]) -> None:
        """Note which turns of an episode have become rows."""
        self.rows += len(turns)
        score = round(one.verdict.score, 6)
        self.kept.append({"episode": one.episode, "sample_id": one.sample_id, "score": score, "turns": turns})

    def keep_sample(self, sample_id: str, tries: int, success: float) -> None:
        """Note that a sample has become a row."""
        self.rows += 1
        self.kept.append({"sample_id": sample_id, "tries": tries, "success": success})

    def drop_sample(self, sample_id: str, why: str, detail: str) -> None:
        """Note that a sample is dropped."""
        self.dropped.append({"sample_id": sample_id, "why": why, "detail": detail})

    def reasons(self) -> str:
        """Why things were dropped, in words."""
        counts = Counter(each["why"] for each in (*self.dropped, *self.turns))
        return ", ".join(f"{count} {why}" for why, count in counts.most_common()) or "there was nothing"

    def figures(self, form: Form) -> dict[str, Any]:
        """Counts and lists, as the manifest has them."""
        what = "episodes" if form.turns else "samples"
        numbers = {"recorded": len(self.kept) + len(self.dropped), "kept": len(self.kept), "dropped": len(self.dropped)}
        counts: dict[str, Any] = {what: numbers}
        if form.turns:
            counts["turns"] = {"kept": self.rows, "dropped": len(self.turns)}
        why = {what: _counted(self.dropped), **({"turns": _counted(self.turns)} if form.turns else {})}
        lists = {"kept": self.kept, "dropped": self.dropped}
        return {"counts": counts, "why": why, **lists, **({"dropped_turns": self.turns} if form.turns else {})}


def _counted(dropped: list[dict[str, Any]]) -> dict[str, int]:
    return dict(sorted(Counter(each["why"] for each in dropped).items()))


class _Maker:
    """Makes the rows of a set, and keeps account of what becomes of everything."""

    def __init__(
        self,
        run: RecordedRun,
        env: VisionToolEnv,
        keep: Keep,
        selection: Selection,
        account: Account,
        filters: Filters,
        skip_changed: bool,
        progress: Progress,
    ) -> None:
        self._run, self._env, self._keep, self._selection = run, env, keep, selection
        self._account, self._filters, self._skip_changed, self._progress = account, filters, skip_changed, progress
        self._seen: set[str] = set()

    def turns(self) -> Iterator[Example]:
        """A row for each turn of the episodes that are kept."""
        kept = self._selection.kept
        records = (record for record in self._run.records() if record["episode"] in kept)
        played = replay(self._env, records, recorded_dialect=self._run.recorded_dialect, native=self._run.native)
        for done, (record, snapshots) in enumerate(played, 1):
            one = kept[record["episode"]]
            if isinstance(snapshots, list):
                yield from self._of_episode(one, snapshots)
            elif self._skip_changed:
                self._account.drop_episode(one, "changed", str(snapshots))
            else:
                raise snapshots
            self._progress(done, len(kept))

    def _of_episode(self, one: Try, snapshots: list[Snapshot]) -> Iterator[Example]:
        turns = []
        for snapshot in snapshots:
            dropped = self._why_not(snapshot)
            if dropped is None:
                facts = {"sample_id": one.sample_id, "episode": one.episode, "turn": snapshot.turn}
                score = round(one.verdict.score, 6)
                example = turn_example(snapshot, self._keep, {**facts, "score": score})
                if example.digest not in self._seen:
                    self._seen.add(example.digest)
                    turns.append(snapshot.turn)
                    yield example
                    continue
                dropped = "duplicate_turn", "the same was written after the same conversation"
            self._account.drop_turn(one, snapshot.turn, *dropped)
        if turns:
            self._account.keep_episode(one, turns)
        else:
            self._account.drop_episode(one, "no_turn_left", "every turn of it was dropped")

    def _why_not(self, snapshot: Snapshot) -> tuple[str, str] | None:
        if snapshot.fault is not None and self._filters.faulty == "drop":
            return "faulty_turn", snapshot.fault
        if not snapshot.readable:
            return "not_readable", "the dialect would read another action from it"
        budget = self._filters.patch_budget
        if budget is not None and snapshot.visual_tokens > budget:
            return "patch_budget", f"{snapshot.visual_tokens} visual tokens are more than {budget}"
        return None

    def prompts(self) -> Iterator[Example]:
        """A row for each sample of the run."""
        selection, env = self._selection, self._env
        for done, sample_id in enumerate(selection.samples, 1):
            self._progress(done, len(selection.samples))
            success, tries = selection.success(sample_id), len(selection.samples[sample_id])
            if self._filters.mixed_only and not selection.is_mixed(sample_id):
                why = "always_right" if success else "always_wrong"
                self._account.drop_sample(sample_id, why, f"{success:.0%} of {tries} tries")
                continue
            try:
                begin(env, sample_id, selection.samples[sample_id][0].query)
            except ReplayError as error:
                if not self._skip_changed:
                    raise
                self._account.drop_sample(sample_id, "changed", str(error))
                continue
            tokens, budget = env.episode.memory.tokens, self._filters.patch_budget
            if budget is not None and tokens > budget:
                self._account.drop_sample(sample_id, "patch_budget", f"{tokens} visual tokens are more than {budget}")
                continue
            episode = env.episode
            facts = {
                "index": self._account.rows,
                "split": env.dataset.split,
                "env_id": self._run.env_id,
                "task": env.task,
                "rules": rules_of(env),
                "sample_id": sample_id,
                "tries": tries,
                "success": round(success, 6),
                "silent_score": standing_score(episode, 0.0),
            }
            yield prompt_example(episode.messages(), episode.truth, self._keep, facts)
            self._account.keep_sample(sample_id, tries, round(success, 6))


def _named(value: Any) -> Any:
    """A keyword as the manifest has it: a JSON value, or what kind of thing it is."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return f"{type(value).__name__} object"
    return value
