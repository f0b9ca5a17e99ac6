"""Published rewards on the same recorded episodes: which can be computed from them, and what they say.

A record holds the outcome, the truth and the turns of an episode. The result after each turn, which rewards of
improvement need, is not in it: ``replay`` takes the recorded actions once more and looks. Rewards of a group compare
the episodes about one sample. Rewards of a text in a form of its own are computed for the terms that boxes have.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from visenv.env import VisionToolEnv
from visenv.errors import InvalidData
from visenv.evaluation.records import read_outcome, read_truth
from visenv.masks import Masks
from visenv.records import outcome_record
from visenv.rewards import deepeyes, imagent, medsam_agent, mmsearch_r1, pixel_reasoner, seg_zero, visual_arft
from visenv.rewards.functional import mask_iou
from visenv.rewards.rsagent import FORMAT, RSAgentReward
from visenv.rewards.visharness import VisHarnessReward
from visenv.rewards.vision_reasoner import match_score
from visenv.rewards.vlm_r1 import score as vlm_r1_score
from visenv.types import AnswerTruth, BoxesTruth, Detections, FloatArray, MaskTruth, Outcome, Truth
from visenv.workspace import Workspace

REWARDS: dict[str, float] = {
    "VisHarness": 5.0,
    "RSAgent-style": 1.5,
    "MedSAM-Agent": medsam_agent.BOUNDS[1],
    "Seg-Zero (boxes)": 2.0,
    "VisionReasoner (match)": 3.0,
    "VLM-R1": 1.0,
    "DeepEyes": deepeyes.BOUNDS[1],
    "Pixel-Reasoner": 1.0,
    "IMAgent-style": 1.0 + imagent.COEFFICIENT,
    "Visual-ARFT (search)": visual_arft.SEARCH_BOUNDS[1],
    "Visual-ARFT (coding)": visual_arft.CODING_BOUNDS[1],
    "MMSearch-R1": mmsearch_r1.BOUNDS[1],
}
"""Names, and the most that each pays; of Pixel-Reasoner without curiosity, whose most depends on the group."""
RIGHT = 0.5
"""Where the truth is no text: the figure in [0, 1] from which on a result stands for a right answer."""


@dataclass(frozen=True)
class Played:
    """A recorded episode as rewards look at it."""

    sample_id: str
    outcome: Outcome
    truth: Truth
    size: tuple[int, int]
    """(width, height) of ``img_0`` in pixels."""
    turns: Sequence[Mapping[str, Any]]
    """As ``visenv.records.turn_record`` makes them."""
    ious: tuple[float, ...] | None = None
    """IoU of the newest candidate after each turn, of the final result where tools make no candidates; None unless it
    was replayed and the truth is a mask."""
    made: tuple[float, ...] | None = None
    """IoU of each candidate, or each final result, in the order they were made; None likewise."""
    damage: tuple[str, ...] | None = None
    """What was wrong with the picture, empty for nothing, where that was a part of the task."""

    @property
    def called(self) -> list[Mapping[str, Any]]:
        """The turns whose tool calls were carried out."""
        return [turn for turn in self.turns if turn["name"] not in (None, "Answer") and turn["error"] is None]

    @property
    def calls(self) -> int:
        """How many tool calls were carried out; one turn may hold several."""
        return sum(len(turn.get("tools", [turn["name"]])) for turn in self.called)

    @property
    def clean(self) -> bool:
        """Whether every turn was carried out."""
        return len(self.called) + (self.outcome.termination == "answer") == len(self.turns)

    @property
    def malformed(self) -> int:
        """How many turns were neither a call nor an answer."""
        return sum(turn["name"] is None for turn in self.turns)

    @property
    def broken(self) -> bool:
        """Whether the last tool call failed: an error that nothing repaired."""
        last = [turn["error"] for turn in self.turns if turn["name"] != "Answer"][-1:]
        return last != [] and last != [None]


def read_played(record: Mapping[str, Any]) -> Played:
    """An episode from a line of ``trajectories.jsonl``.

    Raises:
        InvalidData: if something that is needed is missing or broken.
    """
    try:
        outcome, told = read_outcome(record["outcome"]), record["truth"]
        damage = tuple(map(str, told["damage"])) if told["type"] == "image" else None
        # The clean picture is in no record of a rollout, and published rewards do not look at it. Where there is no
        # question, whatever the agent says is right.
        truth = read_truth(told) if damage is None else AnswerTruth(tuple(told["answers"]) or (outcome.answer or "",))
        image = record["images"][0]
        size, turns = (int(image["width"]), int(image["height"])), list(record["turns"])
        if not all({"name", "arguments", "error"} <= turn.keys() for turn in turns):
            raise ValueError("a turn without a name, arguments or error")
        return Played(str(record["sample_id"]), outcome, truth, size, turns, damage=damage)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InvalidData(f"Expected a line that `visenv rollout` wrote, but it is broken: {error!r:.200}.") from error


def replay(played: Played, env: VisionToolEnv) -> Played:
    """Take the actions of an episode once more, to see the result after each of them.

    Args:
        played: as recorded.
        env: made with the settings of its run.

    Returns:
        The same with ``ious`` and ``made``; as it was where the truth is no mask.

    Raises:
        InvalidData: if it comes out differently: the environment is not the one of the run.
    """
    truth = played.truth
    if not isinstance(truth, MaskTruth):
        return played
    target = Masks.empty(played.size[::-1]) if truth.target is None else truth.target
    env.reset(options={"sample_id": played.sample_id})
    ious: list[float] = []
    made: list[float] = []
    before: Detections | None = None
    for turn in played.turns:
        if env.episode.done:
            break
        env.step({"name": turn["name"] or "", "arguments": turn["arguments"]})
        now = _newest(env.episode.workspace)
        if now is not None and now is not before:
            made.append(mask_iou(_masks(now, played), target, truth.ignore))
        ious.append(made[-1] if made else 0.0)
        before = now
    again, recorded = outcome_record(env.episode.outcome), outcome_record(played.outcome)
    if any(again[key] != recorded[key] for key in ("termination", "turns", "boxes")):
        raise InvalidData(
            f"Expected {played.sample_id} to end as it is recorded, but it ended otherwise when it was played again: "
            "make the environment as the run's was, with the same version of visenv."
        )
    return Played(played.sample_id, played.outcome, truth, played.size, played.turns, tuple(ious), tuple(made))


def published_rewards(episodes: Sequence[Played]) -> list[dict[str, float]]:
    """What each published reward pays for each of several episodes.

    Args:
        episodes: of one or several runs; those about one sample are a group to the rewards that compare.

    Returns:
        For each episode the rewards that can be computed for it, by the names in ``REWARDS``: of text answers those of
        agents that search, or that mend a picture; of masks and boxes the others, with a figure of at least 0.5
        standing for a right answer; RSAgent's and MedSAM-Agent's where it was replayed. Nothing for one that ended as
        invalid.
    """
    valid = [index for index, each in enumerate(episodes) if each.outcome.termination not in (None, "invalid")]
    paid: list[dict[str, float]] = [{} for _ in episodes]
    groups: dict[str, list[int]] = defaultdict(list)
    for index in valid:
        paid[index] = _alone(episodes[index])
        groups[episodes[index].sample_id].append(index)
    for members in groups.values():
        for index, terms in zip(members, _compared([episodes[index] for index in members]), strict=True):
            paid[index] |= terms
    return [{name: terms[name] for name in REWARDS if name in terms} for terms in paid]


def rank_correlations(rewards: Sequence[Mapping[str, float]], names: Sequence[str]) -> FloatArray:
    """Spearman's rank correlation of every pair of rewards, over the episodes for which both are known.

    Args:
        rewards: by episode, as ``published_rewards`` gives them.
        names: which to compare, N of them.

    Returns:
        (N, N) float64 in [-1, 1]; NaN where fewer than 3 episodes have both, or one is the same for all.
    """
    from scipy.stats import spearmanr  # takes as long to import as all the rest

    values = np.array([[terms.get(name, np.nan) for name in names] for terms in rewards]).reshape(-1, len(names))
    found = np.full((len(names), len(names)), np.nan)
    for row in range(len(names)):
        for column in range(row, len(names)):
            pair = values[:, [row, column]]
            pair = pair[np.isfinite(pair).all(axis=1)]
            if len(pair) >= 3 and (pair != pair[0]).any(axis=0).all():
                found[row, column] = found[column, row] = spearmanr(pair[:, 0], pair[:, 1]).statistic
    return found


def _alone(played: Played) -> dict[str, float]:
    """The rewards that need no other episode."""
    outcome, truth = _fitting(played), played.truth
    formed = played.malformed == 0
    paid = {"VisHarness": sum(VisHarnessReward().final(outcome, truth).values())}
    if isinstance(truth, AnswerTruth):
        paid["DeepEyes"] = _sum(
            deepeyes.score(outcome.answer, truth.answers, used_tool=played.calls > 0, well_formed=formed)
        )
        return paid | (_of_searching(played, truth) if played.damage is None else _of_mending(played, truth))
    said = outcome.answer if outcome.answer is not None else ""
    verdict = float(_is_right(played))
    judged = deepeyes.score(said, said, used_tool=played.calls > 0, well_formed=formed, accuracy=verdict)
    paid["DeepEyes"] = _sum(judged)
    if isinstance(truth, (MaskTruth, BoxesTruth)):
        paid |= _of_boxes(outcome, _true_boxes(truth), played.size, isinstance(truth, MaskTruth))
    if played.ious is not None and played.made is not None:
        process = _sum(RSAgentReward().final(outcome, truth, ious=played.ious))
        paid["RSAgent-style"] = process - FORMAT * played.malformed
        paid["MedSAM-Agent"] = _sum(medsam_agent.score(played.made, stopped=outcome.termination == "answer"))
    return paid


def _of_searching(played: Played, truth: AnswerTruth) -> dict[str, float]:
    """The rewards of agents that search, as they are paid in environments."""
    answer, formed = played.outcome.answer, played.clean and played.outcome.termination == "answer"
    searches = Counter("Image" in str(turn["name"]) for turn in played.called if "Search" in str(turn["name"]))
    counted = {"image_searches": searches[True], "text_searches": searches[False]}
    return {
        "Visual-ARFT (search)": _sum(visual_arft.search_score(answer, truth.answers, well_formed=formed)),
        "MMSearch-R1": _sum(mmsearch_r1.score(answer, truth.answers, **counted, well_formed=formed)),
    }


def _of_mending(played: Played, truth: AnswerTruth) -> dict[str, float]:
    """The reward of agents that mend pictures, as it is paid in environments."""
    named = [turn["arguments"]["problems"] for turn in played.called if turn["name"] == "NameProblems"]
    # It pays for any code.
    code = "" if any(turn["name"] == "RunCode" for turn in played.called) else None
    problems = [named[0]] if named and isinstance(named[0], str) else (named or [None])[0]
    terms = visual_arft.coding_score(
        problems,
        played.damage or ("none",),
        code,
        played.outcome.answer,
        truth.answers,
        well_formed=played.clean,
    )
    return {"Visual-ARFT (coding)": _sum(terms)}


def _of_boxes(outcome: Outcome, truth: BoxesTruth, size: tuple[int, int], region: bool) -> dict[str, float]:
    """The rewards of boxes: a point in the middle of each stands for the one that a model would write."""
    found = outcome.detections
    boxes = np.zeros((0, 4)) if found is None else found.boxes
    paid = {"VisionReasoner (match)": match_score(boxes, _centres(boxes), truth.boxes, _centres(truth.boxes))}
    # Saying nothing at the limit of turns is no answer.
    answered = found is not None or outcome.termination == "answer"
    unnamed = Detections(boxes, labels=None if found is None else found.labels)
    paid["VLM-R1"] = vlm_r1_score(unnamed if answered else None, truth)
    if region and len(truth.boxes):
        scale = np.tile(seg_zero.SIDE / np.array(size, dtype=np.float64), 2)
        hull, true = (_hull(each) * scale for each in (boxes, truth.boxes))
        points = np.zeros((2, 2))
        terms = seg_zero.box_terms(hull, points, true, points) if len(boxes) else {"iou": 0.0, "box_l1": 0.0}
        paid["Seg-Zero (boxes)"] = terms["iou"] + terms["box_l1"]
    return paid


def _compared(group: Sequence[Played]) -> list[dict[str, float]]:
    """The rewards that compare the episodes about one sample."""
    right, used = [_is_right(each) for each in group], [each.calls > 0 for each in group]
    gains = imagent.tool_gain(right, used)
    rate = float(np.mean(used))
    return [
        {
            "IMAgent-style": float(good) + float(gain),
            "Pixel-Reasoner": _sum(pixel_reasoner.score(right=good, calls=each.calls, rate=rate, broken=each.broken)),
        }
        for each, good, gain in zip(group, right, gains, strict=True)
    ]


def _is_right(played: Played) -> bool:
    return VisHarnessReward().score(_fitting(played), played.truth).metric >= RIGHT


def _fitting(played: Played) -> Outcome:
    """The outcome with masks where the truth has some: an empty result is recorded without a frame."""
    found, outcome = played.outcome.detections, played.outcome
    if found is None or found.masks is not None or not isinstance(played.truth, MaskTruth):
        return outcome
    empty = Detections(found.boxes, _masks(found, played), found.scores, found.labels)
    return Outcome(empty, outcome.answer, outcome.termination, outcome.turns)


def _masks(found: Detections, played: Played) -> Masks:
    return found.masks if found.masks is not None else Masks.from_boxes(found.boxes, played.size[::-1])


def _newest(workspace: Workspace) -> Detections | None:
    """The newest candidate over ``img_0``, or the final result where there are no candidates."""
    found = [each.detections for each in workspace.candidates.values() if each.image == workspace.root.name]
    return found[-1] if found else workspace.final


def _true_boxes(truth: MaskTruth | BoxesTruth) -> BoxesTruth:
    if isinstance(truth, BoxesTruth):
        return BoxesTruth(np.asarray(truth.boxes, dtype=np.float64).reshape(-1, 4), truth.labels, truth.ignore)
    return BoxesTruth(np.zeros((0, 4)) if truth.target is None else truth.target.boxes)


def _centres(boxes: FloatArray) -> FloatArray:
    return np.asarray((boxes[:, :2] + boxes[:, 2:]) / 2)


def _hull(boxes: FloatArray) -> FloatArray:
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)]) if len(boxes) else np.zeros(4)


def _sum(terms: Mapping[str, float]) -> float:
    return float(sum(terms.values()))
