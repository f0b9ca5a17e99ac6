"""Images in words, by any vision-language model of transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from visenv.capabilities import DESCRIBING, Describe, Description, Request, not_answered
from visenv.errors import InvalidData
from visenv.experts.models.generation import MAX_PIXELS, Chat, ChatExpert
from visenv.types import Pixels

PROMPTS: Mapping[str, str] = {
    "caption": (
        "Describe this image precisely: what is in it, where, how much of it, of what colour and in what state, and "
        "what is written in it. {focus}Say only what can be seen."
    ),
    "compare": (
        "Compare these images. Say first what they have in common, then, one image at a time and by its number, how "
        "they differ. {focus}Say only what can be seen."
    ),
    "visual_prompt": (
        "Something in this image is marked, by circles, boxes, arrows, points, letters or the like. For each mark, say "
        "what it looks like and which letter or number it bears, what exactly it is on, and what is around that. "
        "{focus}Say only what can be seen."
    ),
}
"""What a model is asked for each task, with ``{focus}``.

The tasks are those of VipAct's agents for captioning, comparing, and describing visual prompts (arXiv 2410.16400,
appendix); the words are our own.
"""
FOCUS = "Pay attention above all to this: {focus}. "
"""What ``{focus}`` becomes, where there is one."""
MAX_IMAGES = 8
"""The most images in one comparison."""


class DescribeExpert(ChatExpert):
    """Says what is in an image, how several differ, or what is marked in one.

    Several images are several parts of one chat, each at its own size, and are never joined into one picture. An answer
    is at most ``max_new_tokens`` long; what a model thinks before it answers is left out.

    Args:
        model: a folder, a hub id such as ``Qwen/Qwen3-VL-4B-Instruct``, or the pair of a model and its processor.
        prompts: other words for some tasks (``caption``, ``compare``, ``visual_prompt``); ``{focus}`` in them becomes
            what to pay attention to.
        max_new_tokens: the longest answer.
        max_pixels: the most pixels of each image that the model is shown; a larger one is reduced.
        template_keywords: what the chat template is told besides, such as ``{"enable_thinking": False}``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        compile: whether the network is compiled by ``torch.compile``.
        max_batch: the most requests in one call.
        memory_mb: the most megabytes that the weights may take; None for no limit.

    Raises:
        MissingWeights: if a file is not there; the message says how to get it.
        MissingDependency: if ``transformers`` is not installed.
        InvalidData: if a value is out of range, or the model's chat template or processor loses images.
    """

    family = "describe"
    capabilities: tuple[str, ...] = ("Describe",)
    images_at_once = 2

    def __init__(
        self,
        model: Any,
        *,
        prompts: Mapping[str, str] | None = None,
        max_new_tokens: int = 384,
        max_pixels: int = MAX_PIXELS,
        template_keywords: Mapping[str, Any] | None = None,
        device: str = "auto",
        precision: str = "auto",
        compile: bool = False,
        max_batch: int = 8,
        memory_mb: float | None = None,
    ) -> None:
        if unknown := sorted(set(prompts or {}) - set(DESCRIBING)):
            raise InvalidData(f"Expected prompts for {', '.join(DESCRIBING)}, but got {', '.join(unknown)}.")
        self.prompts = {**PROMPTS, **(prompts or {})}
        super().__init__(
            model,
            max_new_tokens=max_new_tokens,
            max_pixels=max_pixels,
            template_keywords=template_keywords,
            settings={"prompts": sorted(self.prompts.items())},
            device=device,
            precision=precision,
            compile=compile,
            max_batch=max_batch,
            memory_mb=memory_mb,
        )

    def _answer(self, model: tuple[Any, Any], requests: Sequence[Request]) -> list[Description]:
        return [Description(reply.text) for reply in self.ask(model, [self._chat(request) for request in requests])]

    def _chat(self, request: Request) -> Chat:
        if not isinstance(request, Describe):
            raise not_answered(self.name, request)
        images = [view.pixels for view in (request.view, *request.others)]
        if len(images) > MAX_IMAGES:
            raise InvalidData(f"Expected at most {MAX_IMAGES} images to compare, but got {len(images)}.")
        focus = request.focus.strip().rstrip(".")
        words = self.prompts[request.task].replace("{focus}", FOCUS.replace("{focus}", focus) if focus else "")
        if len(images) == 1:
            return [images[0], words]
        parts: list[str | Pixels] = []
        for number, image in enumerate(images, 1):
            parts += [f"Image {number}:", image]
        return [*parts, words]
