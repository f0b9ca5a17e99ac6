"""How well the classical experts do on the generated scenes, for each pipeline of calls.

    python -m benchmarks.expert_accuracy --family reasonseg --difficulty 1 --samples 50

The pipelines are fixed: no policy chooses among them. Segmentation is scored by mean IoU over the samples with a target
(1 or 0 on null ones apart), dense detection by micro F1 at IoU 0.5, counting by the share of exact counts and the MAE.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from visenv.capabilities import Candidates, GroundPhrase, PointPhrase, Points, Prompt, SegmentPrompts, Upscale, View
from visenv.datasets.scenes.dataset import ScenesDataset
from visenv.experts.classical import make as make_classical
from visenv.experts.classical.expert import Classical
from visenv.masks import Masks
from visenv.tools.merge import SourceDetections, merge_detections
from visenv.tools.split import split_windows
from visenv.types import BoxesTruth, Detections, MaskTruth, PointsTruth, Sample
from visenv.workspace import NamedImage, Workspace

Pipeline = Callable[[Classical, Sample], Detections]


def ground(expert: Classical, sample: Sample) -> Detections:
    """One ``GroundPhrase`` of the whole query on the whole image."""
    workspace = Workspace(sample.images)
    return _merge(expert, workspace, [workspace.root], sample, _ground)


def point_segment(expert: Classical, sample: Sample) -> Detections:
    """``PointPhrase`` on the whole image, then the best-scored mask of each point."""
    workspace = Workspace(sample.images)
    return _merge(expert, workspace, [workspace.root], sample, _point_segment)


def split_upscale(patch_size: int, find: Callable[..., Detections]) -> Pipeline:
    """Split, enlarge each patch four times, then ``find`` on each."""

    def pipeline(expert: Classical, sample: Sample) -> Detections:
        workspace = Workspace(sample.images)
        root = workspace.root
        images = []
        for window in split_windows(*root.size, patch_size):
            patch = root.patch(f"r{window.row}_c{window.column}", (window.x0, window.y0, window.x1, window.y1), 1)
            (large,) = expert.run([Upscale(_view(patch, sample))])
            images.append(patch.upscaled(f"{patch.name}_4x", large.pixels, 4, large.fingerprint, 2))
        return _merge(expert, workspace, images, sample, find)

    return pipeline


def _view(image: NamedImage, sample: Sample) -> View:
    return View(image.pixels, image.provenance, image.name, image.root.name, image.to_root, sample.sample_id)


def _ground(expert: Classical, image: NamedImage, sample: Sample) -> Detections:
    (found,) = expert.run([GroundPhrase(_view(image, sample), sample.query)])
    assert isinstance(found, Detections)
    return found


def _point_segment(expert: Classical, image: NamedImage, sample: Sample) -> Detections:
    view = _view(image, sample)
    (points,) = expert.run([PointPhrase(view, sample.query)])
    assert isinstance(points, Points)
    prompts = tuple(Prompt(points=point[None]) for point in points.points)
    (candidates,) = expert.run([SegmentPrompts(view, prompts)])
    assert isinstance(candidates, Candidates)
    chosen = [
        masks[[int(np.argmax(scores))]] for masks, scores in zip(candidates.masks, candidates.scores, strict=True)
    ]
    masks = Masks.concatenate(chosen, view.size[::-1])
    return Detections(masks.boxes, masks=masks)


def _merge(
    expert: Classical,
    workspace: Workspace,
    images: Sequence[NamedImage],
    sample: Sample,
    find: Callable[[Classical, NamedImage, Sample], Detections],
) -> Detections:
    sources = [
        SourceDetections(image.name, find(expert, image, sample), image.to_root, image.split, image.depth)
        for image in images
    ]
    return merge_detections(sources, workspace.root.size)


@dataclass
class Tally:
    """Sums over samples."""

    ious: list[float]
    nulls: list[float]
    counts: list[float]
    matched: int = 0
    predicted: int = 0
    true: int = 0

    def add(self, found: Detections, truth: object) -> None:
        """Score one sample."""
        assert found.masks is not None
        if isinstance(truth, MaskTruth):
            if truth.is_null:
                self.nulls.append(float(len(found) == 0))
            else:
                self.ious.append(float(found.masks.union().iou(truth.target.union())[0, 0]))
        elif isinstance(truth, PointsTruth):
            self.counts.append(abs(len(found) - len(truth.points)))
        elif isinstance(truth, BoxesTruth):
            self.matched += _matches(found.boxes, truth.boxes)
            self.predicted += len(found)
            self.true += len(truth.boxes)

    def summary(self) -> str:
        """One line."""
        parts = []
        if self.ious:
            parts.append(
                f"IoU {np.mean(self.ious):.3f} (n={len(self.ious)}, >.5: {np.mean(np.array(self.ious) > 0.5):.2f})"
            )
        if self.nulls:
            parts.append(f"null {np.mean(self.nulls):.2f} (n={len(self.nulls)})")
        if self.counts:
            exact = np.mean(np.array(self.counts) == 0)
            parts.append(f"MAE {np.mean(self.counts):.2f}, exact {exact:.2f} (n={len(self.counts)})")
        if self.true:
            parts.append(
                f"F1@.5 {2 * self.matched / max(self.predicted + self.true, 1):.3f}"
                f" (P {self.matched / max(self.predicted, 1):.2f}, R {self.matched / self.true:.2f})"
            )
        return ", ".join(parts)


def _matches(predicted: np.ndarray, true: np.ndarray) -> int:
    """Greedy one-to-one matches at box IoU 0.5, the highest first."""
    if not len(predicted) or not len(true):
        return 0
    low = np.maximum(predicted[:, None, :2], true[None, :, :2])
    high = np.minimum(predicted[:, None, 2:], true[None, :, 2:])
    inter = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (predicted, true)]
    iou = inter / (areas[0][:, None] + areas[1][None, :] - inter)
    count = 0
    while iou.max() >= 0.5:
        i, j = np.unravel_index(int(iou.argmax()), iou.shape)
        iou[i, :] = iou[:, j] = -1
        count += 1
    return count


def pipelines(family: str, patch_size: int) -> dict[str, Pipeline]:
    """The pipelines that make sense for a family."""
    chosen: dict[str, Pipeline] = {"ground": ground}
    if family != "densedet":
        chosen["point+segment"] = point_segment
    chosen[f"split {patch_size}+4x+ground"] = split_upscale(patch_size, _ground)
    if family != "densedet":
        chosen[f"split {patch_size}+4x+point+segment"] = split_upscale(patch_size, _point_segment)
    return chosen


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="reasonseg", help="comma-separated")
    parser.add_argument("--difficulty", default="1", help="comma-separated")
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--split", default="val")
    parser.add_argument("--patch", type=int, default=160)
    parser.add_argument("--only", default="", help="pipelines whose name contains this")
    options = parser.parse_args()
    for family in options.family.split(","):
        for difficulty in map(int, options.difficulty.split(",")):
            dataset = ScenesDataset(family, options.split, difficulty)
            samples = [dataset.get(options.first + index) for index in range(options.samples)]
            for name, pipeline in pipelines(family, options.patch).items():
                if options.only not in name:
                    continue
                (expert,) = make_classical()
                tally = Tally([], [], [])
                start = time.perf_counter()
                for sample in samples:
                    tally.add(pipeline(expert, sample), sample.truth)
                seconds = (time.perf_counter() - start) / len(samples)
                print(f"{family} d{difficulty} {name}: {tally.summary()}; {1e3 * seconds:.0f} ms a sample", flush=True)


if __name__ == "__main__":
    main()
