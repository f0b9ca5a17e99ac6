"""Asking vision-language models: chats with images, in batches, answered greedily."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias

import cv2
import numpy as np

from visenv.errors import InvalidData
from visenv.experts.models.pairs import PairExpert
from visenv.experts.models.transformers_files import quiet
from visenv.types import Pixels

Chat: TypeAlias = Sequence["str | Pixels"]
"""One question: texts and images in the order in which the model gets them."""

MAX_PIXELS = 2048 * 32 * 32
"""The most pixels of an image that a model is shown; 2,048 visual tokens of Qwen3-VL, about 1920x1080."""
_LEAST_SIDE, _LONGEST = 32, 20
_THOUGHT = re.compile(r"\A.*</think>|\A\s*<think>.*", re.DOTALL)


@dataclass(frozen=True)
class Fitted:
    """An image as a model is given it: no larger than allowed, and no thinner than its processor can take."""

    pixels: Pixels
    """(H, W, 3) uint8."""
    scale: tuple[float, float]
    """Factors from x and y of the image to those of ``pixels``; what lies beyond the image there is padding."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of ``pixels``."""
        return self.pixels.shape[1], self.pixels.shape[0]


@dataclass(frozen=True)
class Reply:
    """What a model answered to a chat."""

    text: str
    images: tuple[Fitted, ...]
    """The images of the chat as they were given."""
    shown: tuple[tuple[int, int], ...]
    """(width, height) to which the processor resized each; as given where it does not say."""


def fit(pixels: Pixels, max_pixels: int = MAX_PIXELS) -> Fitted:
    """Make an image fit for any processor.

    One with more than ``max_pixels`` is reduced. One with a side below 32 pixels, or more than 20 times as long as
    wide, is padded on the right or below by its own border, since processors refuse or inflate slivers.

    Args:
        pixels: (H, W, 3) uint8.
        max_pixels: at least 1,024.

    Example:
        >>> import numpy as np
        >>> fit(np.zeros((1, 1000, 3), np.uint8)).size, fit(np.zeros((4000, 4000, 3), np.uint8), 10_000).size
        ((1000, 50), (100, 100))
    """
    height, width = pixels.shape[:2]
    factor = min(1.0, (max_pixels / (height * width)) ** 0.5)
    size = (max(1, int(width * factor)), max(1, int(height * factor)))
    small = pixels if size == (width, height) else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    least = max(_LEAST_SIDE, -(-max(size) // _LONGEST))
    right, below = max(0, least - size[0]), max(0, least - size[1])
    if right or below:
        small = cv2.copyMakeBorder(small, 0, below, 0, right, cv2.BORDER_REPLICATE)
    return Fitted(np.asarray(small, np.uint8), (size[0] / width, size[1] / height))


class ChatExpert(PairExpert):
    """What experts share that ask a vision-language model of transformers in words.

    Answers are decoded greedily, without the penalties that a model's own settings may ask for: the same request gives
    the same text. Chats of a batch are padded on the left. In fp32 a batch of n answers as n batches of one; in bf16
    and fp16 sums come out differently in batches of another size, and where two tokens are about as likely, so may the
    text.

    Args:
        model: a folder, a hub id, or the pair of a model and its processor.
        max_new_tokens: the longest answer.
        max_pixels: the most pixels of an image that the model is shown, at least 1,024; a larger one is reduced.
        template_keywords: what the chat template is told besides, such as ``{"enable_thinking": False}``.
        settings: as ``ModelExpert`` takes them.
        **keywords: ``device``, ``precision``, ``compile``, ``max_batch`` and ``memory_mb``.

    Raises:
        MissingWeights: if a file is not there; the message says how to get it.
        InvalidData: if a value is out of range, or the chat template or the processor loses images.
    """

    auto_class = "AutoModelForImageTextToText"
    images_at_once: ClassVar[int] = 1
    """With how many images in a chat the processor must cope."""

    def __init__(
        self,
        model: Any,
        *,
        max_new_tokens: int,
        max_pixels: int = MAX_PIXELS,
        template_keywords: Mapping[str, Any] | None = None,
        settings: dict[str, Any],
        **keywords: Any,
    ) -> None:
        for name, value, least in (("max_new_tokens", max_new_tokens, 1), ("max_pixels", max_pixels, 1024)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidData(f"Expected {name} to be a whole number of at least {least}, but got {value!r}.")
        self.max_new_tokens, self.max_pixels = max_new_tokens, max_pixels
        self.template_keywords = dict(template_keywords or {})
        own = {"tokens": max_new_tokens, "pixels": max_pixels, "template": sorted(self.template_keywords.items())}
        super().__init__(model, settings=settings | own, **keywords)
        check_sees_images(self.processor, self.images_at_once, self.where, self.template_keywords)

    @property
    def processor(self) -> Any:
        """The model's processor: of its folder, or as it was given."""
        made = super().processor
        tokenizer = getattr(made, "tokenizer", None)
        if tokenizer is None:
            raise InvalidData(
                f"Expected a processor of images and texts for {self.where}, but got a {type(made).__name__}."
            )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return made

    def ask(self, loaded: tuple[Any, Any], chats: Sequence[Chat]) -> list[Reply]:
        """Put questions to the model, all in one batch.

        Args:
            loaded: the model and its processor.
            chats: each of texts and images. Tokens that mean something to the model are taken out of the texts.
        """
        import torch

        model, processor = loaded
        images = [[fit(part, self.max_pixels) for part in chat if not isinstance(part, str)] for chat in chats]
        prompts = [
            render(processor, [_without_tokens(processor, part) for part in chat], self.template_keywords)
            for chat in chats
        ]
        inputs = process(processor, prompts, [[each.pixels for each in some] for some in images])
        eos, pad = model.generation_config.eos_token_id, model.generation_config.pad_token_id
        eos = processor.tokenizer.eos_token_id if eos is None else eos
        with quiet():
            tokens = model.generate(
                **inputs.to(self.placement.device, self.placement.dtype),
                do_sample=False,
                num_beams=1,
                repetition_penalty=1.0,
                no_repeat_ngram_size=0,
                max_new_tokens=self.max_new_tokens,
                eos_token_id=eos,
                pad_token_id=processor.tokenizer.pad_token_id if pad is None else pad,
            )
        start = 0 if getattr(model.config, "is_encoder_decoder", False) else inputs["input_ids"].shape[1]
        texts = processor.tokenizer.batch_decode(torch.as_tensor(tokens)[:, start:], skip_special_tokens=True)
        sizes = iter(_shown(processor, inputs, [each.size for some in images for each in some]))
        return [
            Reply(_THOUGHT.sub("", text).strip(), tuple(some), tuple(next(sizes) for _ in some))
            for text, some in zip(texts, images, strict=True)
        ]


def render(processor: Any, chat: Chat, keywords: Mapping[str, Any] = MappingProxyType({})) -> str:
    """A chat as the model's own template writes it, up to where the answer begins."""
    content = [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in chat]
    messages = [{"role": "user", "content": content}]
    text: str = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **keywords)
    return text


def process(processor: Any, prompts: list[str], images: list[list[Pixels]]) -> Any:
    """What the model takes: tokens padded on the left, and pixels."""
    from PIL import Image

    given = [[Image.fromarray(pixels) for pixels in some] for some in images]
    return processor(
        text=prompts,
        images=given if any(given) else None,
        padding=True,
        padding_side="left",
        return_tensors="pt",
    )


def check_sees_images(
    processor: Any, count: int, where: str, keywords: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Make sure that each of several images in a chat reaches the model.

    Raises:
        InvalidData: if the chat template leaves images out, or the processor does not take them.
    """
    image = np.full((64, 64, 3), 128, np.uint8)
    marks = {getattr(processor, "image_token_id", None), *(getattr(processor, "image_token_ids", None) or ())}
    seen = []
    for number in range(count + 1):
        chat: list[str | Pixels] = [*[image] * number, "What is this?"]
        try:
            inputs = process(processor, [render(processor, chat, keywords)], [[image] * number])
        except Exception as error:  # of templates, tokenizers and processors, which share no class
            raise InvalidData(
                f"Expected a processor and a chat template in {where} that take {number} images in a chat, but they "
                f"fail: {error}"
            ) from error
        tokens = inputs["input_ids"][0].tolist()
        pictured = any(key.startswith(("pixel", "image")) for key in inputs)
        seen.append(sum(token in marks for token in tokens) if marks - {None} else len(tokens))
        if number and (seen[-1] <= seen[-2] or not pictured):
            raise InvalidData(
                f"Expected a chat template in {where} that gives the model every image, but of {number} images it "
                f"gives {number - 1}. Use a template that writes the image token for each part of the type 'image', "
                "such as the model's own chat_template.jinja."
            )


def _without_tokens(processor: Any, part: str | Pixels) -> str | Pixels:
    """A text in which nothing stands for an image, or ends the turn."""
    if isinstance(part, str):
        for token in processor.tokenizer.get_added_vocab():
            part = part.replace(token, " ")
    return part


def _shown(processor: Any, inputs: Any, sizes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(width, height) of each image after the processor's own resizing."""
    grid = inputs.get("image_grid_thw")
    patch = getattr(processor.image_processor, "patch_size", None)
    if grid is None or not isinstance(patch, int) or len(grid) != len(sizes):
        return sizes
    return [(columns * patch, rows * patch) for _, rows, columns in grid.tolist()]
