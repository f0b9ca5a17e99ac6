"""The system prompt of an episode: the job, the naming rules, the tools, the grammar."""

from __future__ import annotations

from collections.abc import Iterable

from visenv.protocol.base import Dialect
from visenv.types import ToolSpec

JOB = """\
You find, segment and count objects in images by calling vision tools. Each turn, look at what you have been shown, \
decide what is missing, and either call one tool or give your answer.

- The input image is img_0. A patch of NAME is NAME_rI_cJ (row and column from 1), an enlarged NAME is NAME_4x.
- Only some images stay in view, after some calls none. One that was put away is replaced by a note; calls can still \
name it.
- A later result of the same kind on the same image replaces the earlier one.
- Tools make mistakes: check what they return, and try another way if it is wrong.
- The result that counts is the one that was merged last. If there is nothing to find, answer without merging.
- You have {max_turns} turns in all, and a call that cannot be carried out uses one up."""


def system_prompt(specs: Iterable[ToolSpec], dialect: Dialect, max_turns: int, job: str = JOB) -> str:
    """What a model is told before the task.

    Args:
        specs: the tools.
        dialect: how turns are written.
        max_turns: how many there are.
        job: what the work is; ``{max_turns}`` in it stands for their number.
    """
    return "\n\n".join((job.replace("{max_turns}", str(max_turns)), dialect.system_prompt(specs)))
