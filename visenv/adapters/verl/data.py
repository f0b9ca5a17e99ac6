"""Data sets for verl: any environment's samples as a Parquet file with verl's columns."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from visenv.adapters.rows import first_samples
from visenv.adapters.trl import rules_of
from visenv.adapters.verl.records import standing_score
from visenv.adapters.verl.sharing import described_env
from visenv.env import VisionToolEnv
from visenv.errors import MissingDependency
from visenv.images import to_png_bytes
from visenv.protocol.schema import ANSWER_TOOL
from visenv.types import AnswerTruth, BoxesTruth, MaskTruth, PointsTruth, Sample, Truth

ROWS = 64
"""Rows that are in memory at a time."""
LOOP, TOOLS = "visenv", "tool_agent"
"""Names of agent loops: visenv's own, and verl's, which calls tools."""
_MARKS = re.compile(r"<(?=(?:image|video|audio)>)")
"""What verl's data set takes for a picture, a video or a sound."""


def to_parquet(
    env_id: str,
    path: str | Path,
    *,
    size: int | None = None,
    agent_name: str = LOOP,
    images: bool = True,
    **keywords: Any,
) -> int:
    """Write samples of an environment to a Parquet file for verl's ``data.train_files`` or ``data.val_files``.

    Args:
        env_id: as ``gym.make`` takes it.
        path: of the file; its folder is made.
        size: how many samples, from the first; all of them if left out.
        agent_name: the agent loop that plays them: a name in the file of agent loops, or ``"tool_agent"``, whose
            prompts explain the tools by verl's own schemas and whose rows say what tools are created with.
        images: whether rows hold their pictures; ``VisenvAgentLoop`` needs none, as it reads the sample itself, but
            verl then cannot filter prompts by their length.
        **keywords: of the environment, among them ``dataset``, ``split`` and ``max_turns``; experts are not loaded.

    Returns:
        How many rows were written. Columns: ``data_source`` (the env id), ``prompt``, ``images`` (PNG, if they
        are wanted), ``ability`` (the task's family), ``reward_model`` (``style`` and ``ground_truth``, as
        ``compute_score`` reads it), ``extra_info`` (``index``, ``split``, ``sample_id``, ``silent_score``, and
        ``tools_kwargs`` for ``tool_agent``) and ``agent_name``.

    Raises:
        InvalidData: if the split has no end and ``size`` is left out, or it has fewer samples.
        MissingDependency: if pyarrow is not installed.
        VisenvError: as ``gym.make``.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingDependency('to_parquet needs pyarrow: pip install "visenv[verl]".') from error
    env = described_env(env_id, keywords)
    numbered = enumerate(first_samples(env, size))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = _schema(pa, env, agent_name, images)
    count = 0
    with pq.ParquetWriter(path, schema) as writer:
        while rows := [_row(env_id, env, *each, agent_name, images) for each in islice(numbered, ROWS)]:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            count += len(rows)
    return count


def ground_truth(truth: Truth) -> dict[str, Any]:
    """What is right, as plain values: as the published reward reads masks and points, and likewise what it does not.

    Example:
        >>> ground_truth(PointsTruth(np.array([[3.0, 4.0]])))
        {'type': 'point', 'data': [[3.0, 4.0]]}
    """
    if isinstance(truth, MaskTruth):
        target = None if truth.target is None or not len(truth.target) else truth.target.union()
        if truth.ignore is None or target is None:
            return {"type": "gres_rle_mask", "data": None if truth.is_null else _rle(target)}
        return {
            "type": "reasonseg_rle_mask",
            "data": {"target_rle": _rle(target), "ignore_rle": _rle(truth.ignore.union())},
        }
    if isinstance(truth, PointsTruth):
        return {"type": "point", "data": np.asarray(truth.points, float).tolist()}
    if isinstance(truth, BoxesTruth):
        labels = None if truth.labels is None else list(truth.labels)
        return {"type": "boxes", "data": {"boxes": np.asarray(truth.boxes, float).tolist(), "labels": labels}}
    if isinstance(truth, AnswerTruth):
        return {"type": "answer", "data": list(truth.answers)}
    # Pictures stay with the environment, which reads the sample itself.
    return {"type": "image", "data": None}


def _rle(mask: Any) -> dict[str, Any]:
    rle: dict[str, Any] = mask.to_coco_rles()[0]
    return rle


def _row(env_id: str, env: VisionToolEnv, index: int, sample: Sample, agent_name: str, images: bool) -> dict[str, Any]:
    env.begin(sample)
    episode, split = env.episode, env.dataset.split
    prompt, pictures = _prompt(env, agent_name == TOOLS, images)
    truth = json.dumps(ground_truth(sample.truth))
    info: dict[str, Any] = {
        "index": index,
        "split": split,
        "sample_id": sample.sample_id,
        "silent_score": standing_score(episode, 0.0),
    }
    if agent_name == TOOLS:
        made = {"create_kwargs": {"sample_id": sample.sample_id, "split": split}}
        info |= {"need_tools_kwargs": True, "tools_kwargs": {name: made for name in _tool_names(env)}}
    row = {
        "data_source": env_id,
        "prompt": prompt,
        "ability": env.task,
        "reward_model": {"style": "rule", "ground_truth": truth},
        "extra_info": info,
        "agent_name": agent_name,
    }
    return row | {"images": [{"bytes": picture} for picture in pictures]} if images else row


def _prompt(env: VisionToolEnv, tools: bool, images: bool) -> tuple[list[dict[str, str]], list[bytes]]:
    """The messages as texts, with a mark at the place of each picture; and the pictures."""
    system, task = env.episode.messages()
    blocks = task["content"]
    pictures = [to_png_bytes(block["image"]) for block in blocks if block["type"] == "image"] if images else []
    asked = "".join(_said(block, images) for block in blocks)
    system_text = rules_of(env) if tools else "".join(_said(block, images) for block in system["content"])
    return [{"role": "system", "content": system_text}, {"role": "user", "content": asked}], pictures


def _said(block: dict[str, Any], images: bool) -> str:
    if block["type"] == "image":
        return "<image>" if images else f"[image {block['name']}]"
    return _MARKS.sub("< ", block["text"])


def _tool_names(env: VisionToolEnv) -> Iterator[str]:
    yield from (spec.name for spec in (*env.specs, ANSWER_TOOL))


def _schema(pa: Any, env: VisionToolEnv, agent_name: str, images: bool) -> Any:
    info = [
        ("index", pa.int64()),
        ("split", pa.string()),
        ("sample_id", pa.string()),
        ("silent_score", pa.float64()),
    ]
    if agent_name == TOOLS:
        made = pa.struct([("create_kwargs", pa.struct([("sample_id", pa.string()), ("split", pa.string())]))])
        info += [
            ("need_tools_kwargs", pa.bool_()),
            ("tools_kwargs", pa.struct([(name, made) for name in _tool_names(env)])),
        ]
    return pa.schema(
        [
            ("data_source", pa.string()),
            ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
            *([("images", pa.list_(pa.struct([("bytes", pa.binary())])))] if images else []),
            ("ability", pa.string()),
            ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
            ("extra_info", pa.struct(info)),
            ("agent_name", pa.string()),
        ]
    )
