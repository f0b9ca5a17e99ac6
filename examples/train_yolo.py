"""A neural detector end to end: a YOLO is trained on generated scenes, saved, and used as an expert.

    python examples/train_yolo.py
    python examples/train_yolo.py --minutes 60 --out runs/yolo

`yolo11n-seg` begins from its YAML with random weights and sees new scenes in every step, whose objects, kinds and
visible pixels are known. Nothing is downloaded, and nothing is written but the folder that `YoloExpert` reads. Then
it and the classical expert are asked the same noun phrases about held-out scenes: for each kind that is there, and one
that is not. IoU is that of all pixels found for a phrase that something answers to; F1 counts objects, matched one to
one at a mask IoU of 0.5, over all phrases. The full run takes minutes on two CPU cores (docs/neural/yolo.md has its
figures), `--quick` seconds. It prints:

    trained yolo11n-seg for ... steps of ... scenes in ... processor minutes
    expert       mean IoU   F1 at 0.5   ms a scene
    yolo         ...
    classical    ...
    asked for the cars of a scene: img_0: ...
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import torch

import visenv  # noqa: F401 - registers the ids
from visenv.capabilities import GroundPhrase, View
from visenv.datasets.scenes.dataset import ScenesDataset
from visenv.datasets.scenes.render import RenderedScene
from visenv.experts.classical import make as make_classical
from visenv.experts.classical.lexicon import NOUNS
from visenv.experts.yolo import YoloExpert, save_yolo
from visenv.experts.yolo.quiet import import_tasks
from visenv.images import Provenance, RootPixels
from visenv.masks import Masks
from visenv.types import ToolCall

KINDS = tuple(NOUNS)
FAMILY, DIFFICULTY = "reasonseg", 1


def batches(count: int, side: int) -> Iterator[dict[str, torch.Tensor]]:
    """Endlessly new scenes, as the loss of ultralytics takes them."""
    scenes = ScenesDataset(FAMILY, "train", DIFFICULTY)
    start = 0
    while True:
        rendered = [scenes.explain(start + index)[0] for index in range(count)]
        start += count
        yield as_batch(rendered, side)


def as_batch(rendered: Sequence[RenderedScene], side: int) -> dict[str, torch.Tensor]:
    """Pictures, and of each object its kind, box and visible pixels (at a quarter of the resolution)."""
    images, owners, which, kinds, boxes = [], [], [], [], []
    for index, scene in enumerate(rendered):
        high, wide = scene.image.shape[:2]
        images.append(cv2.resize(scene.image, (side, side), interpolation=cv2.INTER_AREA))
        cells = (np.arange(side // 4) + 0.5) * 4 / side
        owners.append(scene.owners[(cells * high).astype(int)][:, (cells * wide).astype(int)])
        for thing in scene.scene.objects:
            x0, y0, x1, y1 = thing.box
            which.append(index)
            kinds.append(KINDS.index(thing.kind))
            boxes.append([(x0 + x1) / 2 / wide, (y0 + y1) / 2 / high, (x1 - x0) / wide, (y1 - y0) / high])
    return {
        "img": torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255,
        "masks": torch.from_numpy(np.stack(owners)).float(),
        "batch_idx": torch.tensor(which, dtype=torch.float32),
        "cls": torch.tensor(kinds, dtype=torch.float32)[:, None],
        "bboxes": torch.tensor(boxes, dtype=torch.float32),
    }


def train(side: int, count: int, minutes: float, most: int, seed: int) -> tuple[Any, int]:
    """A YOLO trained for some time of the processor, or so many steps if that is less; and how many steps it was."""
    tasks = import_tasks()
    from ultralytics.utils import DEFAULT_CFG

    torch.manual_seed(seed)
    plan = tasks.yaml_model_load("yolo11n-seg.yaml") | {"nc": len(KINDS)}
    model = tasks.SegmentationModel(plan, verbose=False)
    model.names, model.args = dict(enumerate(KINDS)), DEFAULT_CFG
    averaged = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=5e-4)
    scenes, start, step, share = batches(count, side), time.process_time(), 0, 0.0
    while share < 1:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 50) * max(0.02, 1 - share)
        losses, _ = model.train()(next(scenes))
        optimizer.zero_grad()
        (losses.sum() / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        step += 1
        average(averaged, model, min(0.99, step / (step + 10)))
        share = max(step / most, (time.process_time() - start) / 60 / minutes)
    return averaged.eval(), step


@torch.no_grad()
def average(into: torch.nn.Module, model: torch.nn.Module, keep: float) -> None:
    """Move an average of weights a little towards the newest ones."""
    for old, new in zip(into.state_dict().values(), model.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - keep)
        else:
            old.copy_(new)


def accuracy(expert: Any, scenes: int) -> tuple[float, float, float]:
    """Mean IoU and F1 over noun phrases about held-out scenes, and milliseconds a scene."""
    dataset, rng = ScenesDataset(FAMILY, "val", DIFFICULTY), np.random.default_rng(0)
    ious, matched, found_count, true_count, seconds = [], 0, 0, 0, 0.0
    for index in range(scenes):
        scene = dataset.explain(index)[0]
        present = list(dict.fromkeys(thing.kind for thing in scene.scene.objects))
        asked = [*present, str(rng.choice([kind for kind in KINDS if kind not in present]))]
        view = View(scene.image, Provenance(RootPixels(scene.image)))
        start = time.perf_counter()
        answers = expert.run([GroundPhrase(view, kind) for kind in asked])
        seconds += time.perf_counter() - start
        for kind, answer in zip(asked, answers, strict=True):
            truth = visible(scene, kind)
            found_count, true_count = found_count + len(answer), true_count + len(truth)
            matched += matches(answer.masks.iou(truth))
            if len(truth):
                ious.append(float(answer.masks.union().iou(truth.union())[0, 0]) if len(answer) else 0.0)
    return float(np.mean(ious)), 2 * matched / max(1, found_count + true_count), 1e3 * seconds / scenes


def visible(scene: RenderedScene, kind: str) -> Masks:
    """What can be seen of each object of a kind."""
    pieces = [scene.visible(i) for i, thing in enumerate(scene.scene.objects) if thing.kind == kind]
    corners = np.array([corner for _, corner in pieces], np.int64).reshape(-1, 2)
    return Masks.from_crops([mask for mask, _ in pieces], corners, scene.owners.shape)


def matches(iou: np.ndarray, least: float = 0.5) -> int:
    """Pairs, one to one, the highest IoU first."""
    count, iou = 0, iou.copy()
    while iou.size and iou.max() >= least:
        row, column = np.unravel_index(iou.argmax(), iou.shape)
        iou[row], iou[:, column] = -1, -1
        count += 1
    return count


def episode(expert: Any) -> str:
    """What an environment replies whose phrases this expert grounds."""
    experts = {"*": "classical", "GroundPhrase": expert}
    env = gym.make("VisHarness/ReasonSeg-v0", dataset="scenes", split="val", difficulty=DIFFICULTY, experts=experts)
    scenes = ScenesDataset(FAMILY, "val", DIFFICULTY)
    index = next(i for i in range(500) if any(thing.kind == "car" for thing in scenes.explain(i)[0].scene.objects))
    env.reset(seed=0, options={"index": index})
    *_, info = env.step(ToolCall("PhraseToBoxMask", {"images": ["img_0"], "phrase": "cars"}))
    env.close()
    return str(info["reply"]).splitlines()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--minutes", type=float, default=16.0, help="of processor time to train for, of all cores together"
    )
    parser.add_argument("--steps", type=int, default=10**6, help="to train for, if that is less")
    parser.add_argument("--side", type=int, default=192, help="of the square that a picture is fitted into, in pixels")
    parser.add_argument("--batch", type=int, default=16, help="scenes a step")
    parser.add_argument("--scenes", type=int, default=200, help="held-out scenes to be asked about")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="the folder to save to; a temporary one if left out")
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it works")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.side, options.batch, options.scenes = 2, 64, 2, 1
        torch.set_num_threads(1)
    start = time.process_time()
    model, steps = train(options.side, options.batch, options.minutes, options.steps, options.seed)
    minutes = (time.process_time() - start) / 60
    print(f"trained yolo11n-seg for {steps} steps of {options.batch} scenes in {minutes:.1f} processor minutes")
    with tempfile.TemporaryDirectory() as folder:
        saved = save_yolo(model, options.out or folder, options.side)
        yolo = YoloExpert(saved, device="cpu", synonyms=NOUNS)
        print("expert       mean IoU   F1 at 0.5   ms a scene")
        for name, expert in {"yolo": yolo, "classical": make_classical()[0]}.items():
            iou, f1, milliseconds = accuracy(expert, options.scenes)
            print(f"{name:12} {iou:<10.3f} {f1:<11.3f} {milliseconds:.0f}")
        print(f"asked for the cars of a scene: {episode(yolo)}")


if __name__ == "__main__":
    main()
