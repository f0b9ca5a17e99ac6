"""The default experts: classical computer vision on the CPU, without weights, that reads pixels and nothing else."""

from __future__ import annotations

from visenv.experts.classical.expert import Classical


def make() -> list[Classical]:
    """The expert set ``classical``.

    Returns:
        One expert that answers every capability, so that grounding, pointing and segmenting share what is perceived.
    """
    return [Classical()]
