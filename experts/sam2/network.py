"""What SAM 2 computes for images and for prompts, in batches and without doing anything twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from visenv.experts.sam2.prompts import SquarePrompt
from visenv.types import Pixels

if TYPE_CHECKING:
    from torch import Tensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the colours that SAM 2 was trained on (``SAM2Transforms``)."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """What the image encoder makes of one image."""

    image: Tensor
    """(C, h, w)."""
    details: tuple[Tensor, ...]
    """Finer maps that masks are drawn with: (C / 8, 4h, 4w) and (C / 4, 2h, 2w); none for models without."""

    @property
    def nbytes(self) -> int:
        """What it takes on its device."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (self.image, *self.details))


def squares(images: Sequence[Pixels], side: int, device: Any) -> Tensor:
    """Images stretched to squares and normalised as ``SAM2Transforms`` does, but on the device.

    Returns:
        (N, 3, side, side) float32.
    """
    import torch
    from torch.nn.functional import interpolate

    made = torch.empty((len(images), 3, side, side), device=device)
    for place, pixels in zip(made, images, strict=True):
        uploaded = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).to(device)
        # A channel at a time: in floats a large photograph takes four times its bytes.
        for channel in range(3):
            plane = uploaded[None, None, :, :, channel].float()
            if plane.shape[2:] != place.shape[1:]:
                plane = interpolate(plane, (side, side), mode="bilinear", align_corners=False, antialias=True)
            place[channel] = plane[0, 0]
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return made.div_(255).sub_(mean).div_(std)


def encode(model: Any, batch: Tensor) -> list[Embedding]:
    """Embed a batch of squares.

    Args:
        model: a ``SAM2Base``.
        batch: (N, 3, side, side).
    """
    levels = model.forward_image(batch)["backbone_fpn"][-model.num_feature_levels :]
    image = levels[-1]
    if model.directly_add_no_mem_embed:
        image = image + model.no_mem_embed.view(1, -1, 1, 1)
    # Copies of their own: a slice that is remembered would keep the whole batch.
    return [
        Embedding(image[index].clone(), tuple(level[index].clone() for level in levels[:-1]))
        for index in range(len(batch))
    ]


def decode(
    model: Any, embeddings: Sequence[Embedding], owners: Sequence[int], prompts: Sequence[SquarePrompt], half: Any
) -> tuple[Tensor, Tensor]:
    """Three masks and their predicted IoUs for each of some prompts that have the same number of points.

    Args:
        model: a ``SAM2Base``.
        embeddings: of images.
        owners: which image each prompt is about.
        prompts: all with as many points, and all or none with a mask.
        half: a context in which the mask decoder computes in its precision.

    Returns:
        (N, 3, 4h, 4w) float32 logits, and (N, 3) float32.
    """
    import torch

    encoder, decoder = model.sam_prompt_encoder, model.sam_mask_decoder
    device = encoder.no_mask_embed.weight.device
    points = None
    if len(prompts[0].points):
        coordinates = torch.from_numpy(np.stack([prompt.points for prompt in prompts])).to(device)
        points = (coordinates, torch.from_numpy(np.stack([prompt.labels for prompt in prompts])).to(device))
    masks = None
    if prompts[0].mask is not None:
        masks = torch.from_numpy(np.stack([prompt.mask for prompt in prompts if prompt.mask is not None]))
        masks = masks[:, None].to(device)
    sparse, dense = encoder(points=points, boxes=None, masks=masks)
    place = encoder.get_dense_pe()
    with half:
        if masks is None and len(set(owners)) == 1 and _is_published(decoder):
            logits, scores = _decode_shared(decoder, embeddings[owners[0]], place, sparse, dense[:1])
        else:
            details = [
                torch.stack([embeddings[owner].details[level] for owner in owners])
                for level in range(len(embeddings[0].details))
            ]
            logits, scores, *_ = decoder(
                image_embeddings=torch.stack([embeddings[owner].image for owner in owners]),
                image_pe=place,
                sparse_prompt_embeddings=sparse.expand(len(prompts), -1, -1),
                dense_prompt_embeddings=dense,
                multimask_output=True,
                repeat_image=False,
                high_res_features=details or None,
            )
    return logits.float(), scores.float()


def _is_published(decoder: Any) -> bool:
    """Whether a decoder is the package's own, as the published configurations make it."""
    return type(decoder).__module__ == "sam2.modeling.sam.mask_decoder" and decoder.use_high_res_features


def _decode_shared(decoder: Any, of: Embedding, place: Tensor, sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
    """What ``MaskDecoder.predict_masks`` computes, for prompts about one image.

    Two things make it cheaper. The first layer's view of the image is the same for all prompts, and is computed once.
    And a transposed convolution whose kernel is as large as its stride is a matrix product of each cell: maps stay
    lists of cells (of lists of quarters) until they are masks, and are never turned around on the way.

    Args:
        decoder: a ``MaskDecoder``.
        of: the image.
        place: (1, C, h, w) where its cells are.
        sparse: (N, T, C) points.
        dense: (1, C, h, w) what stands for no mask.
    """
    import torch
    from torch.nn.functional import layer_norm, linear

    extra = [decoder.obj_score_token.weight] if decoder.pred_obj_scores else []
    own = torch.cat([*extra, decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)
    tokens, cells = decoder.transformer(of.image[None] + dense, place, tokens)
    score_token, mask_tokens = tokens[:, len(extra)], tokens[:, len(extra) + 1 :][:, : decoder.num_mask_tokens]

    first, norm, act, second, last_act = decoder.output_upscaling
    coarse, fine = (_cells(detail, 2**level) for level, detail in ((1, of.details[1]), (2, of.details[0])))
    cells = linear(cells, _as_matrix(first.weight)).unflatten(2, (4, -1)) + (coarse + first.bias)
    cells = act(layer_norm(cells, cells.shape[-1:], norm.weight, norm.bias, norm.eps))
    cells = linear(cells, _as_matrix(second.weight)).unflatten(3, (4, -1)).flatten(2, 3) + (fine + second.bias)
    cells = last_act(cells).flatten(1, 2)
    pictures = [decoder.output_hypernetworks_mlps[index](mask_tokens[:, index]) for index in (1, 2, 3)]
    logits = cells @ torch.stack(pictures, dim=2)
    high, wide = of.image.shape[1:]
    logits = logits.view(-1, high, wide, 2, 2, 2, 2, 3).permute(0, 7, 1, 3, 5, 2, 4, 6)
    scores = decoder.iou_prediction_head(score_token)[:, 1:]
    return logits.reshape(len(sparse), 3, 4 * high, 4 * wide), scores


def _cells(detail: Tensor, times: int) -> Tensor:
    """(C, H, W) as (H / times * W / times, times * times, C): cells of a coarser map, quartered as often as needed."""
    channels, high, wide = detail.shape
    halvings = times.bit_length() - 1
    split = detail.view(channels, high // times, *[2] * halvings, wide // times, *[2] * halvings)
    rows, columns = range(2, 2 + halvings), range(3 + halvings, 3 + 2 * halvings)
    order = [axis for pair in zip(rows, columns, strict=True) for axis in pair]
    return split.permute(1, 2 + halvings, *order, 0).reshape(-1, times * times, channels)


def _as_matrix(kernel: Tensor) -> Tensor:
    """(in, out, 2, 2) as (4 * out, in): what each quarter of a cell gets."""
    return kernel.permute(2, 3, 1, 0).flatten(0, 2)
