"""Grounding DINO and MM Grounding DINO: image and caption are fused early, and boxes score the caption's tokens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from visenv.capabilities import GroundPhrase, View
from visenv.experts.grounding.finder import Finder, Found, at_least, grouped, to_found

if TYPE_CHECKING:
    import torch
    from torch import nn

LEAST_SIDE = 4
"""Pixels that the shorter side of a very long image is given: a patch of the backbone."""


def caption_of(phrase: str) -> str:
    """A phrase as these models read it: lower case, one sentence, with a full stop at its end.

    Example:
        >>> caption_of("Bus No. 5 ")
        'bus no 5.'
    """
    return " ".join(phrase.lower().replace(".", " ").split()) + "."


class DinoFinder(Finder):
    """Looks at each image once, and fuses it with one caption a request."""

    model_class: ClassVar[str] = "GroundingDinoForObjectDetection"
    processors: ClassVar[tuple[str, ...]] = ("GroundingDinoProcessor",)
    score_threshold: ClassVar[float] = 0.35

    def find(self, requests: Sequence[GroundPhrase]) -> list[Found]:
        """Boxes whose best token scores above one threshold, and a word of whose caption above another."""
        seen = self.seen([request.view for request in requests], self._look)
        features = [seen[request.view.provenance.key] for request in requests]
        found: dict[int, Found] = {}
        # Padding to a common size would change what the backbone sees at the border: only equal sizes go together.
        for places in grouped([tuple(level.shape for level in each) for each in features], self.at_once):
            answers = self._ask([requests[place] for place in places], [features[place] for place in places])
            found.update(zip(places, answers, strict=True))
        return [found[place] for place in range(len(requests))]

    @staticmethod
    def called(model: Any) -> list[nn.Module]:
        """The backbone, the encoder and the decoder."""
        return [model.model.backbone.conv_encoder, model.model.encoder, model.model.decoder]

    def _look(self, views: list[View]) -> list[tuple[torch.Tensor, ...]]:
        """The backbone's maps and their masks, (1, C, h, w) and (1, h, w) by turns, after the image's own mask."""
        import torch

        size = self.processor.image_processor.size
        longest = size["longest_edge"] or max(size["height"] or 0, size["width"] or 0) or 1333
        made = [self.inputs(at_least(view.pixels, max(1.0, longest / LEAST_SIDE))) for view in views]
        found: dict[int, tuple[torch.Tensor, ...]] = {}
        for places in grouped([tuple(each.pixel_values.shape) for each in made], self.at_once):
            pixels = torch.cat([made[place].pixel_values for place in places])
            masks = torch.cat([made[place].pixel_mask for place in places])
            levels = self.model.model.backbone.conv_encoder(pixels, masks)
            for row, place in enumerate(places):
                parts = [part[row : row + 1].clone() for level in levels for part in level]
                found[place] = (masks[row : row + 1].bool(), *parts)
        return [found[place] for place in range(len(views))]

    def _ask(self, requests: list[GroundPhrase], features: list[tuple[torch.Tensor, ...]]) -> list[Found]:
        import torch

        mask, *parts = [torch.cat(level) for level in zip(*features, strict=True)]
        tokenizer = self.processor.tokenizer
        tokens = tokenizer(
            [caption_of(request.phrase) for request in requests],
            padding=True,
            truncation=True,
            max_length=self.model.config.max_text_len,
            return_token_type_ids=True,
            return_tensors="pt",
        ).to(self.placement.device)
        with _seeing(self.model.model, list(zip(parts[::2], parts[1::2], strict=True))):
            outputs = self.model(
                pixel_values=mask.new_zeros((1,), dtype=self.placement.dtype).expand(len(mask), 3, *mask.shape[1:]),
                pixel_mask=mask.long(),
                input_ids=tokens.input_ids,
                token_type_ids=tokens.token_type_ids,
                attention_mask=tokens.attention_mask,
            )
        results = self.processor.post_process_grounded_object_detection(
            SimpleNamespace(logits=outputs.logits.float(), pred_boxes=outputs.pred_boxes.float()),
            tokens.input_ids,
            threshold=self.wording.score_threshold,
            text_threshold=self.wording.text_threshold,
            target_sizes=[request.view.size[::-1] for request in requests],
        )
        found = []
        for result in results:
            # Where there is no box, there still is one empty label.
            named = [self._names_something(label) for label in result["text_labels"][: len(result["boxes"])]]
            kept = torch.tensor(named, dtype=torch.bool, device=result["boxes"].device)
            found.append(to_found({name: result[name][kept] for name in ("boxes", "scores")}))
        return found

    def _names_something(self, label: str) -> bool:
        """Whether a box was found for a word, and not for the marks around the caption alone."""
        tokenizer = self.processor.tokenizer
        for mark in (tokenizer.cls_token, tokenizer.sep_token, tokenizer.pad_token):
            label = label.replace(mark, " ")
        return any(letter.isalnum() for letter in label) or "[UNK]" in label


class MMDinoFinder(DinoFinder):
    """The same for the networks of OpenMMLab."""

    model_class: ClassVar[str] = "MMGroundingDinoForObjectDetection"


@contextlib.contextmanager
def _seeing(model: Any, levels: list[tuple[torch.Tensor, torch.Tensor]]) -> Iterator[None]:
    """Let a model take what its backbone saw before, instead of looking again."""
    from torch import nn

    backbone = model.backbone

    class Seen(nn.Module):
        position_embedding = backbone.position_embedding

        def forward(self, *_: Any) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], list[torch.Tensor]]:
            return levels, [self.position_embedding(each, mask).to(each.dtype) for each, mask in levels]

    model.backbone = Seen()
    try:
        yield
    finally:
        model.backbone = backbone
