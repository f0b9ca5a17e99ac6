"""Enlarging images by Real-ESRGAN and its like through spandrel, or by Lanczos' filter."""

from visenv.experts.upscale.expert import UpscaleExpert

__all__ = ["UpscaleExpert"]
