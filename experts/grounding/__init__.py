"""Open-vocabulary detectors of transformers: boxes for phrases, outlined by another expert."""

from visenv.experts.grounding.expert import GroundingExpert
from visenv.experts.grounding.finder import GroundingModel

__all__ = ["GroundingExpert", "GroundingModel"]
