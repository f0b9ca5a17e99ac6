"""OWLv2: every patch of an image proposes a box, and phrases are compared with what the patches show."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from visenv.capabilities import GroundPhrase, View
from visenv.experts.grounding.finder import Finder, Found, at_most, to_found

if TYPE_CHECKING:
    import torch
    from torch import nn


class Owlv2Finder(Finder):
    """Looks at each image once and reads each phrase once; comparing them costs next to nothing."""

    model_class: ClassVar[str] = "Owlv2ForObjectDetection"
    processors: ClassVar[tuple[str, ...]] = ("Owlv2Processor",)
    score_threshold: ClassVar[float] = 0.1

    def find(self, requests: Sequence[GroundPhrase]) -> list[Found]:
        """Boxes whose patch is similar enough to the phrase."""
        import torch

        seen = self.seen([request.view for request in requests], self._look)
        words = self.read([request.phrase for request in requests], self._read)
        found: list[Found] = []
        for start in range(0, len(requests), self.at_once):
            part = requests[start : start + self.at_once]
            patches, boxes = (
                torch.cat(each) for each in zip(*(seen[r.view.provenance.key] for r in part), strict=True)
            )
            logits, _ = self.model.class_predictor(
                patches, torch.cat([words[request.phrase] for request in part])[:, None]
            )
            results = self.processor.post_process_grounded_object_detection(
                SimpleNamespace(logits=logits.float(), pred_boxes=boxes.float()),
                threshold=self.wording.score_threshold,
                # The image was padded to a square, below or on the right; this undoes it.
                target_sizes=[request.view.size[::-1] for request in part],
            )
            found += [to_found(result) for result in results]
        return found

    @staticmethod
    def called(model: Any) -> list[nn.Module]:
        """The two towers."""
        return [model.owlv2.vision_model, model.owlv2.text_model]

    def _look(self, views: list[View]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Patches (1, P, C) and boxes (1, P, 4) in shares of the padded square, centre and size."""
        import torch

        # The processor blurs in floating point before it reduces: gigabytes for an image of 8K.
        longest = 2 * self.processor.image_processor.size["height"]
        pixels = torch.cat([self.inputs(at_most(view.pixels, longest)).pixel_values for view in views])
        grid, _ = self.model.image_embedder(pixels)
        patches = grid.flatten(1, 2)
        boxes = self.model.box_predictor(patches, grid)
        return [(one.clone(), each.clone()) for one, each in zip(patches.split(1), boxes.split(1), strict=True)]

    def _read(self, phrases: list[str]) -> list[torch.Tensor]:
        """The embedding of each phrase, (1, C)."""
        tokens = self.processor.tokenizer(
            [self.wording.template.format(phrase.strip()) for phrase in phrases],
            padding="max_length",
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self.placement.device)
        features = self.model.owlv2.get_text_features(tokens.input_ids, tokens.attention_mask).pooler_output
        return [one.clone() for one in features.split(1)]
