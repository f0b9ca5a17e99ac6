"""SAM 3: every instance of a phrase, and masks for points and boxes, from one look at an image (transformers)."""

from visenv.experts.sam3.expert import Sam3Expert
from visenv.experts.sam3.parts import Sam3Parts

__all__ = ["Sam3Expert", "Sam3Parts"]
