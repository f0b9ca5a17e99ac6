"""The forms that training sets have: a row of each from an example, and what its columns are in Arrow."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visenv.errors import InvalidData, UnknownName
from visenv.export.examples import Example, check_places

PLACE = "<image>"
"""The place of a picture in a text."""
_OTHER_PLACES = ("<audio>", "<video>")
"""What trainers would take for the place of something else."""


@dataclass(frozen=True)
class Form:
    """One form of training set."""

    name: str
    summary: str
    turns: bool
    """Whether a row is a turn; otherwise it is a prompt alone, one a sample."""
    files: tuple[str, ...]
    """``parquet``, ``jsonl``, or both; the first is what it has unless told otherwise."""
    row: Callable[[Example], dict[str, Any]]
    """Makes a row; its ``images`` are digests."""
    columns: Mapping[str, Any]
    """Types of the columns: ``"string"`` and its like, ``"images"``, or nested lists and mappings of these."""
    pictures: bool = True
    """Whether rows show pictures."""


_BLOCKS = [{"type": "string", "text": "string"}]
_MESSAGES = [{"role": "string", "content": _BLOCKS}]
_PLAIN_MESSAGES = [{"role": "string", "content": "string"}]
_TURN_FACTS = {"sample_id": "string", "episode": "int64", "turn": "int64", "score": "float64"}
_PROMPT_FACTS = {"sample_id": "string", "tries": "int64", "success": "float64"}


def _sft(example: Example) -> dict[str, Any]:
    return {
        "prompt": list(example.messages),
        "completion": [{"role": "assistant", "content": [{"type": "text", "text": _target(example)}]}],
        "images": list(example.images),
        **example.facts,
    }


def _sharegpt(example: Example) -> dict[str, Any]:
    system, *rest = example.messages
    speakers = {"user": "human", "assistant": "gpt"}
    said = [{"from": speakers[message["role"]], "value": as_text(message["content"])} for message in rest]
    said.append({"from": "gpt", "value": _broken_up(_target(example))})
    row = {"conversations": said, "system": as_text(system["content"]), "images": list(example.images)}
    return {**row, **example.facts}


def _trl(example: Example) -> dict[str, Any]:
    prompt = [
        {"role": "system", "content": example.facts["rules"]},
        {"role": "user", "content": ""},
    ]
    return {"prompt": prompt, **{name: example.facts[name] for name in _PROMPT_FACTS}}


def _grpo(example: Example) -> dict[str, Any]:
    return {
        "prompt": list(example.messages),
        "images": list(example.images),
        "ground_truth": example.ground_truth,
        "env_id": example.facts["env_id"],
        **{name: example.facts[name] for name in _PROMPT_FACTS},
    }


def _verl(example: Example) -> dict[str, Any]:
    facts = example.facts
    return {
        "data_source": facts["env_id"],
        "prompt": [{"role": each["role"], "content": as_text(each["content"])} for each in example.messages],
        "images": list(example.images),
        "ability": facts["task"],
        "reward_model": {"style": "rule", "ground_truth": example.ground_truth},
        "extra_info": {name: facts[name] for name in _EXTRA_INFO},
        "agent_name": AGENT_NAME,
    }


AGENT_NAME = "visenv"
"""Of the agent loop that plays the rows of verl."""
_EXTRA_INFO = {
    "index": "int64",
    "split": "string",
    "sample_id": "string",
    "silent_score": "float64",
    "tries": "int64",
    "success": "float64",
}

FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form(
            "sft",
            "a turn a row, as TRL's SFTTrainer takes them: prompt, completion, images",
            True,
            ("parquet", "jsonl"),
            _sft,
            {"prompt": _MESSAGES, "completion": _MESSAGES, "images": "images", **_TURN_FACTS},
        ),
        Form(
            "sharegpt",
            "a turn a row, as LLaMA-Factory takes them: conversations with <image>, system, images",
            True,
            ("jsonl",),
            _sharegpt,
            {},
        ),
        Form(
            "grpo",
            "a sample a row, whole: prompt with pictures, ground truth",
            False,
            ("parquet", "jsonl"),
            _grpo,
            {
                "prompt": _MESSAGES,
                "images": "images",
                "ground_truth": "string",
                "env_id": "string",
                **_PROMPT_FACTS,
            },
        ),
        Form(
            "trl",
            "a sample a row, for TRL's GRPOTrainer with visenv.adapters.trl: the environment shows the pictures",
            False,
            ("parquet", "jsonl"),
            _trl,
            {"prompt": _PLAIN_MESSAGES, **_PROMPT_FACTS},
            pictures=False,
        ),
        Form(
            "verl",
            "a sample a row, with the columns of verl's data sets",
            False,
            ("parquet",),
            _verl,
            {
                "data_source": "string",
                "prompt": _PLAIN_MESSAGES,
                "images": "images",
                "ability": "string",
                "reward_model": {"style": "string", "ground_truth": "string"},
                "extra_info": _EXTRA_INFO,
                "agent_name": "string",
            },
        ),
    )
}


def get_form(name: str) -> Form:
    """The form of that name.

    Raises:
        UnknownName: if there is none.
    """
    if name not in FORMS:
        raise UnknownName(f"Unknown form {name!r}. Known: {', '.join(FORMS)}.")
    return FORMS[name]


def checked_row(form: Form, example: Example) -> dict[str, Any]:
    """A row, with as many pictures as places for them.

    Raises:
        InvalidData: if they differ in number.
    """
    check_places(example.messages, example.images)
    row = form.row(example)
    if "images" in row:
        places = _count_places(row)
        if places != len(row["images"]):
            raise InvalidData(
                f"Expected as many places as pictures in a row of {form.name}, but got {places} and "
                f"{len(row['images'])}: {example.facts}"
            )
    return row


def as_text(content: Sequence[Mapping[str, Any]]) -> str:
    """Content blocks as one text, with ``<image>`` in the place of each picture.

    Example:
        >>> as_text([{"type": "text", "text": "Look:"}, {"type": "image"}])
        'Look:<image>'
    """
    return "".join(PLACE if block["type"] == "image" else _broken_up(block["text"]) for block in content)


def _broken_up(text: str) -> str:
    for place in _OTHER_PLACES:
        text = text.replace(place, f"< {place[1:]}")
    return text


def _target(example: Example) -> str:
    assert example.target is not None
    return example.target


def _count_places(row: Mapping[str, Any]) -> int:
    count = str(row.get("system", "")).count(PLACE)
    for message in (*row.get("prompt", ()), *row.get("completion", ()), *row.get("conversations", ())):
        content = message.get("content", message.get("value"))
        if isinstance(content, str):
            count += content.count(PLACE)
        else:
            count += sum(block["type"] == "image" for block in content)
    return count


def dataset_info(pattern: Sequence[str]) -> str:
    """LLaMA-Factory's description of a set, as its ``dataset_info.json`` has them.

    Args:
        pattern: the names of the set's files.
    """
    described = {
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "system": "system", "images": "images"},
        "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
    }
    names = ["visenv"] if len(pattern) == 1 else [f"visenv_{number}" for number in range(len(pattern))]
    entries = {name: {"file_name": file, **described} for name, file in zip(names, pattern, strict=True)}
    return json.dumps(entries, indent=2) + "\n"
