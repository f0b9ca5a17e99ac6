"""A tiny SAM 2 of its own package's classes, and what it is asked."""

import numpy as np
import torch
from omegaconf import OmegaConf

from visenv.capabilities import Prompt, SegmentPrompts, View
from visenv.experts.sam2 import Sam2Expert, loading
from visenv.images import Provenance, RootPixels
from visenv.masks import Masks

SIDE = 128
POINT = Prompt(points=np.array([[10.0, 20.0]]))
SIGNED = Prompt(points=np.array([[10.0, 20], [60, 31], [4, 40]]), labels=np.array([1, 0, 1]))
BOX = Prompt(box=np.array([5.0, 6, 71, 43]))
BOTH = Prompt(points=np.array([[10.0, 20]]), box=np.array([5.0, 6, 71, 43]))
MASK = Prompt(mask=Masks.from_boxes([[10, 8, 50, 40]], (48, 80)))


def saved(folder):
    """A small network of the package's own classes: a checkpoint as they are published, and its configuration."""
    content = OmegaConf.to_container(OmegaConf.load(loading.find_config("sam2.1_hiera_t")))
    model = content["model"]
    model["image_size"] = SIDE
    encoder, attention, memory = model["image_encoder"], model["memory_attention"], model["memory_encoder"]
    encoder["trunk"] |= {"embed_dim": 16, "stages": [1, 1, 2, 1], "global_att_blocks": [3], "window_spec": [8, 4, 4, 2]}
    encoder["neck"] |= {"backbone_channel_list": [128, 64, 32, 16], "d_model": 64}
    encoder["neck"]["position_encoding"]["num_pos_feats"] = 64
    attention |= {"d_model": 64, "num_layers": 1}
    attention["layer"] |= {"d_model": 64, "dim_feedforward": 64}
    for kind in ("self_attention", "cross_attention"):
        attention["layer"][kind]["embedding_dim"] = 64
    memory["in_dim"] = memory["mask_downsampler"]["embed_dim"] = memory["fuser"]["layer"]["dim"] = 64
    config = folder / "tiny.yaml"
    OmegaConf.save(OmegaConf.create(content), config)
    torch.manual_seed(3)
    torch.save({"model": built(config).state_dict()}, folder / "tiny.pt")
    return folder / "tiny.pt", config


def built(config):
    with loading.importing_sam2():
        return loading.build(config)


def expert(files, **keywords):
    checkpoint, config = files
    return Sam2Expert(checkpoint, config=config, device="cpu", **keywords)


def view(seed=0, size=(80, 48)):
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return View(pixels, Provenance(RootPixels(pixels)))


def ask(*prompts, seed=0, size=(80, 48)):
    return SegmentPrompts(view(seed, size), prompts)


def differing(one, other):
    """The largest share of an image's pixels in which masks of two answers differ, and the largest gap of scores."""
    pairs = list(zip(one.masks, other.masks, strict=True))
    pixels = max((float((a.to_dense() != b.to_dense()).mean(axis=(1, 2)).max()) for a, b in pairs), default=0.0)
    gaps = [float(np.abs(a - b).max()) for a, b in zip(one.scores, other.scores, strict=True)]
    return pixels, max(gaps, default=0.0)


def batches(made):
    """How many images each call of an expert's image encoder takes from now on."""
    seen = []
    made.load().image_encoder.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    return seen


def own_predictor(files):
    """The package's own predictor, of the same network."""
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    model = built(files[1]).eval()
    model.load_state_dict(torch.load(files[0], weights_only=True)["model"])
    made = SAM2ImagePredictor(model)
    made._bb_feat_sizes = [(SIDE // cell,) * 2 for cell in (4, 8, 16)]  # It knows those of 1024 pixels alone.
    return made
