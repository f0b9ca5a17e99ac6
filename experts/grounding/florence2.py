"""Florence-2: boxes are written down as words, by greedy generation, and have no scores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from visenv.capabilities import GroundPhrase, View
from visenv.experts.grounding.finder import Finder, Found
from visenv.types import FloatArray

if TYPE_CHECKING:
    import torch
    from torch import nn

TASKS = ("<OPEN_VOCABULARY_DETECTION>", "<CAPTION_TO_PHRASE_GROUNDING>")
"""What Florence-2 can be asked to do with a phrase: find it, or find everything that a caption names."""
MOST_WORDS = 1000
"""Tokens of an answer; a box is four of them and a few of its name."""
PHRASE_TOKENS = 128
"""Of a phrase that are read."""
_GRID = 1_000_000
"""The processor rounds to whole pixels: of a grid this fine, so that little is lost on small images."""


class Florence2Finder(Finder):
    """Looks at each image once, and writes down the answers of a batch together."""

    model_class: ClassVar[str] = "Florence2ForConditionalGeneration"
    processors: ClassVar[tuple[str, ...]] = ("Florence2Processor",)
    score_threshold: ClassVar[float] = 0.0

    def find(self, requests: Sequence[GroundPhrase]) -> list[Found]:
        """The boxes that were written down, all with score 1."""
        seen = self.seen([request.view for request in requests], self._look)
        texts: list[str] = []
        for start in range(0, len(requests), self.at_once):
            part = requests[start : start + self.at_once]
            texts += self._write([self._phrase(r.phrase) for r in part], [seen[r.view.provenance.key] for r in part])
        return [self._parse(text, request.view.size) for text, request in zip(texts, requests, strict=True)]

    @staticmethod
    def called(model: Any) -> list[nn.Module]:
        """The vision tower and the encoder."""
        return [model.model.vision_tower, model.model.language_model.encoder]

    def _look(self, views: list[View]) -> list[torch.Tensor]:
        """What takes the place of the image's tokens, (1, T, C)."""
        import torch

        pixels = torch.cat([self.inputs(view.pixels).pixel_values for view in views])
        return [one.clone() for one in self.model.get_image_features(pixels).pooler_output.split(1)]

    def _phrase(self, phrase: str) -> str:
        """A phrase without what would be read as a place, a task or an image, and not too long."""
        plain = " ".join(re.sub(r"[<>]", " ", phrase).split())
        tokenizer = self.processor.tokenizer
        tokens = tokenizer(plain, add_special_tokens=False).input_ids
        return plain if len(tokens) <= PHRASE_TOKENS else str(tokenizer.decode(tokens[:PHRASE_TOKENS]))

    def _write(self, phrases: list[str], seen: list[torch.Tensor]) -> list[str]:
        import torch

        tokenizer, language = self.processor.tokenizer, self.model.config.text_config
        # As the processor words a task, with as many places for the image as it takes.
        places = self.processor.image_token * self.processor.num_image_tokens + tokenizer.bos_token
        asked = [
            places
            + self.processor.task_prompts_with_input[self.wording.task].format(input=phrase)
            + tokenizer.eos_token
            for phrase in phrases
        ]
        tokens = tokenizer(asked, padding=True, add_special_tokens=False, return_tensors="pt").to(self.placement.device)
        image = torch.cat(seen)
        words = self.model.get_input_embeddings()(tokens.input_ids)
        where = self.model.get_placeholder_mask(tokens.input_ids, words, image)
        encoded = self.model.model.language_model.encoder(
            inputs_embeds=words.masked_scatter(where, image.to(words.dtype)), attention_mask=tokens.attention_mask
        )
        written = self.model.generate(
            encoder_outputs=encoded,
            attention_mask=tokens.attention_mask,
            max_new_tokens=min(MOST_WORDS, language.max_position_embeddings - 2),
            num_beams=1,
            do_sample=False,
            early_stopping=False,
        )
        return list(tokenizer.batch_decode(written, skip_special_tokens=False))

    def _parse(self, text: str, size: tuple[int, int]) -> Found:
        """The boxes in what was written."""
        task = self.wording.task
        answer = self.processor.post_process_generation(text=text, task=task, image_size=(_GRID, _GRID))[task]
        boxes: list[FloatArray] = [np.asarray(box, np.float64) for box in answer.get("bboxes", ())]
        boxes += [_hull(outlines) for outlines in answer.get("polygons", ())]
        shares = np.stack(boxes) / _GRID if boxes else np.zeros((0, 4))
        return Found(shares * np.array([*size, *size], np.float64), np.ones(len(shares)))


def _hull(outlines: Sequence[Sequence[float]]) -> FloatArray:
    """The box around the outlines of one object, each x and y by turns."""
    points = np.concatenate([np.asarray(outline, np.float64).reshape(-1, 2) for outline in outlines])
    return np.concatenate([points.min(axis=0), points.max(axis=0)])
