"""Pointing by a vision-language model that writes points: Molmo, Molmo 2, Qwen2-VL to Qwen3-VL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from visenv.capabilities import PointPhrase, Points, Request, not_answered
from visenv.errors import InvalidData
from visenv.experts.models import point_formats
from visenv.experts.models.generation import MAX_PIXELS, Chat, ChatExpert, Reply
from visenv.types import FloatArray

_SLOT = "{phrase}"


class PointingExpert(ChatExpert):
    """Points at what a phrase refers to, however complex it is.

    The model is asked in its own words and answers in its own format (``visenv.experts.models.point_formats``); points
    are mapped back through whatever its processor did to the image. Text without points is no points. Models do not say
    how certain they are: scores are 1.

    Args:
        model: a folder, a hub id such as ``allenai/Molmo2-4B``, or the pair of a model and its processor.
        point_format: ``auto`` (that of the model), ``molmo``, ``qwen3_vl``, ``qwen2_5_vl`` or ``qwen2_vl``.
        prompt: what the model is asked, with ``{phrase}`` in it; that of the format if left out.
        max_new_tokens: the longest answer; a point takes Molmo 2 about 8 tokens and Qwen about 20. What was written
            before an answer was cut off counts.
        max_pixels: the most pixels of an image that the model is shown; a larger one is reduced.
        template_keywords: what the chat template is told besides, such as ``{"enable_thinking": False}``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        compile: whether the network is compiled by ``torch.compile``.
        max_batch: the most requests in one call.
        memory_mb: the most megabytes that the weights may take; None for no limit.

    Raises:
        MissingWeights: if a file is not there; the message says how to get it.
        MissingDependency: if ``transformers`` is not installed.
        InvalidData: if a value is out of range, no format is known for the model, or its chat template loses images.
    """

    family = "pointing"
    capabilities: tuple[str, ...] = ("PointPhrase",)

    def __init__(
        self,
        model: Any,
        *,
        point_format: str = "auto",
        prompt: str | None = None,
        max_new_tokens: int = 1024,
        max_pixels: int = MAX_PIXELS,
        template_keywords: Mapping[str, Any] | None = None,
        device: str = "auto",
        precision: str = "auto",
        compile: bool = False,
        max_batch: int = 8,
        memory_mb: float | None = None,
    ) -> None:
        if prompt is not None and _SLOT not in prompt:
            raise InvalidData(f"Expected a prompt with {_SLOT} in it, but got {prompt!r}.")
        super().__init__(
            model,
            max_new_tokens=max_new_tokens,
            max_pixels=max_pixels,
            template_keywords=template_keywords,
            settings={"format": point_format, "prompt": prompt},
            device=device,
            precision=precision,
            compile=compile,
            max_batch=max_batch,
            memory_mb=memory_mb,
        )
        self.point_format = point_formats.point_format(point_format, self.model_type)
        self.prompt = self.point_format.prompt if prompt is None else prompt

    def _answer(self, model: tuple[Any, Any], requests: Sequence[Request]) -> list[Points]:
        chats: list[Chat] = []
        for request in requests:
            if not isinstance(request, PointPhrase):
                raise not_answered(self.name, request)
            chats.append([request.view.pixels, self.prompt.replace(_SLOT, request.phrase)])
        replies = self.ask(model, chats)
        return [self._points(request.view.size, reply) for request, reply in zip(requests, replies, strict=True)]

    def _points(self, size: tuple[int, int], reply: Reply) -> Points:
        """The points of a reply, in the frame of the image asked about."""
        fitted = reply.images[0]
        found: FloatArray = self.point_format.points(reply.text, fitted.size, reply.shown[0]) / fitted.scale
        within = found[(found < size).all(axis=1)]
        return Points(within, np.ones(len(within)))
