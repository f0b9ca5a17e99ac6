"""Tiny YOLO networks of every kind, with random weights, and what they are asked."""

import numpy as np
import torch

from visenv.capabilities import GroundPhrase, View
from visenv.experts.yolo import save_yolo
from visenv.experts.yolo.quiet import import_tasks
from visenv.images import Provenance, RootPixels

SIDE = 64
NAMES = ("person", "car", "truck", "dog", "hot dog", "cup")
KINDS = {
    "detect": ("DetectionModel", "yolo11n.yaml"),
    "segment": ("SegmentationModel", "yolov8n-seg.yaml"),
    "end-to-end": ("SegmentationModel", "yolo26n-seg.yaml"),
    "world": ("WorldModel", "yolov8s-worldv2.yaml"),
    "yoloe": ("YOLOESegModel", "yoloe-11s-seg.yaml"),
}


def encode(texts):
    """A text encoder: unit vectors that depend on the text alone."""
    return np.stack([np.random.default_rng(list(text.encode())).normal(size=512) for text in texts])


def make_network(name, seed=0):
    """A network of a kind, with random weights whose scores spread."""
    tasks = import_tasks()
    kind, plan = KINDS[name]
    plan = tasks.yaml_model_load(plan) | {"nc": len(NAMES), "scale": "t", "scales": {"t": [0.33, 0.25, 128]}}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = getattr(tasks, kind)(plan, nc=len(NAMES), verbose=False)
        head = network.model[-1]
        for branch in (*head.cv3, *(getattr(head, "one2one_cv3", None) or ())):
            branch[-1].weight.data.normal_(0, 0.3)
        for branch in (*head.cv2, *(getattr(head, "one2one_cv2", None) or ())):
            # Near distances are the likeliest, so that boxes are small.
            branch[-1].weight.data.normal_(0, 0.3)
            branch[-1].bias.data.copy_((1.0 - torch.arange(head.reg_max)).repeat(4))
        for contrast in head.cv4 if name in ("world", "yoloe") else ():
            contrast.bias.data.fill_(-1)
        # With the statistics of a batch of noise, no layer dies out.
        norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1
        with torch.no_grad():
            network.train()(torch.rand(4, 3, SIDE, SIDE))
        for norm in norms:
            norm.momentum = 0.03
        if name == "end-to-end":
            head.end2end = True
    network.names = dict(enumerate(NAMES))
    return network.eval()


def made_networks():
    """A network of each kind."""
    return {name: make_network(name) for name in KINDS}


def saved(networks, tmp_path_factory):
    """A folder of each network, as ``save_yolo`` writes it."""
    return {
        name: save_yolo(network, tmp_path_factory.mktemp(name.replace("-", "")), SIDE)
        for name, network in networks.items()
    }


def options(name, **keywords):
    text = {"text_encoder": encode} if name in ("world", "yoloe") else {}
    return {"score_threshold": 0.01, "max_detections": 20, "image_size": SIDE} | text | keywords


def view(height, width, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return View(pixels, Provenance(RootPixels(pixels)))


VIEWS = [view(48, 64), view(1, 1, 1), view(1, 300, 2), view(333, 7, 3), view(97, 61, 4)]


def ground(phrase, index=0):
    return GroundPhrase(VIEWS[index], phrase)


def assert_same(found, expected, tolerance=1e-3):
    assert len(found) == len(expected)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=tolerance)
    np.testing.assert_allclose(found.scores, expected.scores, atol=tolerance)
    assert found.labels == expected.labels
    union = np.maximum(found.masks.areas, expected.masks.areas)
    assert (np.abs(found.masks.areas - expected.masks.areas) <= 0.02 * union + 1).all()
