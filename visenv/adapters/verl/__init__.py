"""verl: an agent loop that plays the environments, its tools as a fallback, their reward, and data sets as Parquet.

Names are imported when they are used: writing a data set needs no verl.

- ``VisenvAgentLoop`` (``visenv.adapters.verl.loop``): an ``AgentLoopBase``, registered as ``visenv``.
- ``VisenvTool`` and ``write_tool_config`` (``…verl.tools``): ``BaseTool``s for verl's own ``tool_agent`` loop.
- ``compute_score`` (``…verl.scoring``): a ``custom_reward_function``.
- ``to_parquet`` (``…verl.data``): any environment's samples with verl's columns.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visenv.adapters.verl.data import to_parquet
    from visenv.adapters.verl.loop import VisenvAgentLoop
    from visenv.adapters.verl.scoring import compute_score
    from visenv.adapters.verl.tools import VisenvTool, write_tool_config

__all__ = ["VisenvAgentLoop", "VisenvTool", "compute_score", "to_parquet", "write_tool_config"]

_HOMES = {
    "VisenvAgentLoop": "loop",
    "VisenvTool": "tools",
    "compute_score": "scoring",
    "to_parquet": "data",
    "write_tool_config": "tools",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
