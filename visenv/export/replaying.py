"""Recorded episodes played once more, so that every turn is seen with the very pictures that it saw then.

A run keeps no pictures that a model could learn from, only small ones for its page. But an episode is a function of its
sample and its actions: played again, it shows the same. Whether it did is checked turn by turn.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from visenv.driving import drive_all
from visenv.env import VisionToolEnv
from visenv.episode import Episode, Stepping, StepResult
from visenv.errors import DatasetError, InvalidData
from visenv.export.coordinates import as_written, has_coordinates, to_pixels
from visenv.protocol import Dialect, get_dialect
from visenv.protocol.intake import MAX_MALFORMED
from visenv.protocol.messages import escape_image_tokens, text_block
from visenv.records import error_record, tool_of
from visenv.types import Action, Answer, Malformed, ToolCall

SIDE_BY_SIDE = 8
"""Episodes that are played at a time."""
MOST_SHOWN = 200
"""Characters of a reply that an error quotes."""


class ReplayError(InvalidData):
    """An episode that was played again did not come to what was recorded."""


@dataclass(frozen=True)
class Snapshot:
    """One turn: what the model saw, and what it wrote."""

    turn: int
    """From 1."""
    messages: list[dict[str, Any]]
    """As ``Episode.messages`` had them before the turn: placeholders stand for the pictures archived by then."""
    target: str
    """The turn, as the model wrote it or as the dialect writes it."""
    action: Action
    fault: str | None
    """The code of what was wrong with the turn."""
    visual_tokens: int
    """Of the pictures in view."""
    readable: bool
    """Whether a model can learn to write it: it is a model's text, or the dialect reads the action back from it."""


Played: TypeAlias = "list[Snapshot] | ReplayError"
"""What came of an episode that was played again: its turns, or how it differs from what was recorded."""


def replay(
    env: VisionToolEnv,
    records: Iterable[Mapping[str, Any]],
    *,
    recorded_dialect: str,
    native: bool = False,
    side_by_side: int = SIDE_BY_SIDE,
) -> Iterator[tuple[Mapping[str, Any], Played]]:
    """Play recorded episodes once more, several at a time: their requests to the experts share batches.

    Args:
        env: in text mode, of the settings that they were recorded with; it may write turns in another dialect.
        records: lines of ``trajectories.jsonl``.
        recorded_dialect: how their turns were written.
        native: whether they came as messages with tool calls beside the text.
        side_by_side: how many are played at a time.

    Yields:
        Each record, in their order, with every turn as it was seen, or how the episode differs.

    Raises:
        DatasetError: if there is no such sample.
    """
    waiting = enumerate(records)
    seats = [copy.copy(env) for _ in range(side_by_side)]
    given: dict[int, Mapping[str, Any]] = {}
    playing: dict[int, tuple[VisionToolEnv, _Playing, Stepping]] = {}
    played: dict[int, Played] = {}
    out, more = 0, True

    def go_on(number: int, seat: VisionToolEnv, player: _Playing, result: StepResult | None) -> None:
        try:
            playing[number] = seat, player, next(player) if result is None else player.send(result)
        except StopIteration as stop:
            played[number] = stop.value
        except ReplayError as error:
            played[number] = error
        if number in played:
            playing.pop(number, None)
            seats.append(seat)

    while True:
        # One that takes long must not let the others run ahead without end: their pictures are in memory.
        while more and seats and len(given) < 2 * side_by_side:
            begun = next(waiting, None)
            if begun is None:
                more = False
                break
            number, given[begun[0]] = begun
            seat = seats.pop()
            go_on(number, seat, _Player(seat, begun[1], recorded_dialect, native).play(), None)
        while out in played:
            yield given.pop(out), played.pop(out)
            out += 1
        if not playing and not given and not more:
            return
        under_way = list(playing.items())
        results = drive_all([stepping for _, (_, _, stepping) in under_way], env.pool)
        for (number, (seat, player, _)), result in zip(under_way, results, strict=True):
            go_on(number, seat, player, result)


_Playing: TypeAlias = Generator[Stepping, StepResult, list[Snapshot]]


def begin(env: VisionToolEnv, sample_id: str, query: str) -> None:
    """Begin an episode about a sample of a run.

    Args:
        env: of the run's settings.
        sample_id: of the sample.
        query: that it had then.

    Raises:
        ReplayError: if it is another one now.
        DatasetError: if there is no such sample.
    """
    try:
        sample = env.dataset.find(sample_id)
    except DatasetError:
        raise
    except (LookupError, ValueError) as error:
        raise DatasetError(f"There is no sample {sample_id!r} in {env.dataset.name!r}: {error}.") from error
    if sample.query != query:
        raise ReplayError(
            f"Expected the query {query!r:.{MOST_SHOWN}} for {sample_id}, but the data set asks "
            f"{sample.query!r:.{MOST_SHOWN}}. {_ADVICE}"
        )
    env.begin(sample)


class _Player:
    def __init__(self, env: VisionToolEnv, record: Mapping[str, Any], recorded_dialect: str, native: bool) -> None:
        self._env, self._record, self._native = env, record, native
        self._recorded = get_dialect(recorded_dialect)
        self._same_dialect = env.config.dialect == recorded_dialect
        self._where = f"episode {record['episode']} ({record['sample_id']})"
        self._written: dict[int, ToolCall] = {}
        """Calls as a model would have written them, by the number of their turn, where they were made in pixels."""

    def play(self) -> _Playing:
        """Yield each step and be sent what it came to; returns the turns.

        Raises:
            ReplayError: if the episode comes to something else than what was recorded.
        """
        begin(self._env, self._record["sample_id"], self._record["query"])
        env, episode = self._env, self._env.episode
        self._compare_inputs(episode)
        snapshots = []
        for number, turn in enumerate(self._record["turns"], 1):
            if episode.done:
                raise self._differs(number, "the episode", "another turn", f"its end ({episode.outcome.termination})")
            before, tokens = self._messages(), episode.memory.tokens
            env.finish((yield env.stepping(self._action(number, turn))))
            self._compare(number, turn)
            taken = episode.transcript[-1]
            action = self._written.get(number, taken.action)
            # The turn as the conversation has it: with what could be taken for a picture broken up.
            target = self._messages()[-2]["content"][0]["text"]
            snapshots.append(
                Snapshot(
                    turn=number,
                    messages=before,
                    target=target,
                    action=action,
                    fault=taken.error.code if taken.error is not None else None,
                    visual_tokens=tokens,
                    readable=_reads_back(episode.dialect, target, action, taken.text),
                )
            )
        self._compare_end(episode)
        return snapshots

    def _messages(self) -> list[dict[str, Any]]:
        """The conversation, with coordinates as a model writes them."""
        messages = self._env.episode.messages()
        for number, call in self._written.items():
            said = 2 * number
            if said < len(messages):
                text = self._env.episode.dialect.render(call)
                messages[said] = {"role": "assistant", "content": [text_block(text)]}
        return messages

    def _action(self, number: int, turn: Mapping[str, Any]) -> Any:
        """What ``env.step`` takes to do what was done."""
        text, error = turn.get("text"), turn["error"] or {}
        if self._same_dialect and isinstance(text, str) and len(text) <= MAX_MALFORMED:
            return {"text": text, "finish_reason": "length" if error.get("code") == "cut" else None}
        if turn["name"] is None:
            return Malformed(str(error.get("code", "malformed")), str(error.get("message", "")))
        thought = str(turn.get("thought", ""))
        if turn["name"] == "Answer":
            return Answer(str(turn["arguments"].get("text", "")), thought)
        episode, call = self._env.episode, ToolCall(turn["name"], turn["arguments"], thought)
        if has_coordinates(episode, call):
            if self._native or isinstance(text, str):
                call = to_pixels(episode, call, self._recorded.frame)
            self._written[number] = as_written(episode, call)
        return call

    def _compare(self, number: int, turn: Mapping[str, Any]) -> None:
        episode = self._env.episode
        taken = episode.transcript[-1]
        if episode.problem is not None and not self._record.get("invalid"):
            raise self._differs(number, "an expert", "an answer", episode.problem)
        pairs: list[tuple[str, Any, Any]] = [
            ("the tool", turn["name"], tool_of(taken.action)),
            ("the error", (turn["error"] or {}).get("code"), (error_record(taken.error) or {}).get("code")),
            ("the images shown", turn["shown"], list(taken.shown)),
            ("the images archived", turn["archived"], list(taken.archived)),
            ("the images made", turn["created"], list(taken.created)),
        ]
        if self._same_dialect:
            # Another dialect writes coordinates in another frame; the final results are compared all the same.
            pairs.append(("the reply", turn["reply"], taken.reply))
        for what, expected, got in pairs:
            if expected != got:
                raise self._differs(number, what, expected, got)

    def _compare_inputs(self, episode: Episode) -> None:
        sizes = [list(image.size) for image in episode.workspace.images.values() if image.maker == "input"]
        recorded = [[each.get("width"), each.get("height")] for each in self._record.get("images", ())]
        if recorded and recorded != sizes:
            raise self._differs(0, "the sizes of the pictures", recorded, sizes)

    def _compare_end(self, episode: Episode) -> None:
        outcome, recorded = episode.outcome, self._record["outcome"]
        found = outcome.detections
        masks = None if found is None or found.masks is None else found.masks.to_coco_rles()
        pairs = [
            ("the end", recorded.get("termination"), outcome.termination),
            ("the number of objects", recorded.get("count"), None if found is None else len(found)),
            ("the masks", recorded.get("masks"), masks),
        ]
        for what, expected, got in pairs:
            if expected != got:
                raise self._differs(len(self._record["turns"]), what, expected, got)

    def _differs(self, number: int, what: str, expected: Any, got: Any) -> ReplayError:
        where = f"at turn {number}" if number else "at the beginning"
        return ReplayError(
            f"Played again, {self._where} is not what was recorded: {where}, {what} was "
            f"{str(expected)!r:.{MOST_SHOWN}}, and is now {str(got)!r:.{MOST_SHOWN}}. {_ADVICE}"
        )


_ADVICE = (
    "Name the data set and the experts that the run was played with (--dataset, --experts, --env), or leave such "
    "episodes out (--skip-changed)."
)


def _reads_back(dialect: Dialect, target: str, action: Action, text: str | None) -> bool:
    """Whether what a model is to learn to write means what was done."""
    if isinstance(action, Malformed):
        return text is not None
    back = dialect.parse(target)
    if isinstance(action, ToolCall) and isinstance(back, ToolCall):
        return back.name == action.name and _plain(back.arguments) == _plain(action.arguments)
    return isinstance(action, Answer) and isinstance(back, Answer) and _plain(back.text) == _plain(action.text)


def _plain(value: Any) -> str:
    """A value as text in which nothing can be taken for a picture: so the conversation has it."""
    return escape_image_tokens(json.dumps(value.strip() if isinstance(value, str) else dict(value), sort_keys=True))
