"""Reasoning segmentation."""

from __future__ import annotations

from typing import ClassVar

from visenv.env import VisionToolEnv
from visenv.vector import VisionToolVectorEnv


class ReasonSegEnv(VisionToolEnv):
    """Segment the one region that a query implies.

    Source: the task is ReasonSeg's (LISA, arXiv 2308.00692), the tools, grammar and reward are VisHarness's
    (arXiv 2605.29894).

    ## Description
    The agent is shown a picture and a query that may need reasoning ("something that keeps the rain off, left of the
    house"). Over several turns it calls vision tools, which are backed by frozen experts, until the merged result
    covers what the query means; then it answers. Where nothing in the picture fits the query, the right thing is to
    answer without a result.

    ## Action Space
    One tool call or one answer a turn. `action_mode` says how it is written:

    | mode | space | an action |
    |---|---|---|
    | `structured` | `OneOf`, one `Dict` a tool, the answer last | `(0, {"images": …, "phrase": "red car"})` |
    | `text` | `Text` | `<think>…</think><tool_call>{"name": …, "arguments": {…}}</tool_call>` |
    | `discrete` | `MultiDiscrete` | tool, image slot, phrase, mode, patch size, point cell |

    Every mode also takes a `ToolCall`, an `Answer`, or `{"name": …, "arguments": {…}}`. The tools of `visharness` are
    PhraseToBoxMask, PhraseToPoint, PointToBoxMask, SplitImageIntoPatches, SuperResolution and MergeBoxMask.

    ## Observation Space
    | key | shape | range | meaning |
    |---|---|---|---|
    | `image` | (128, 128, 3) uint8 | 0 to 255 | the newest picture in view, letterboxed; zeros where none is |
    | `memory_images` | (128, 128, 3) uint8 | 0 to 255 | contact sheet of the 16 image slots |
    | `memory_state` | (16, 11) float32 | 0 to 16 | per slot, see below |
    | `detections` | (32, 6) float32 | 0 to 1 | box (4, parts of the root's sides), score, 1 if final |
    | `query` | (32,) int32 | 0 to 4095 | token ids of the query, in order, padded with 0 |
    | `phrases` | (16, 6) int32 | 0 to 4095 | token ids of the candidates of discrete mode |
    | `calls` | (tools + 1,) float32 | 0 to 1 | a tool each: 1 / turns since it last worked; last: faulty turn |
    | `progress` | (1,) float32 | 0 to 1 | turns spent, in parts of the turn limit |

    The columns of `memory_state` are: valid, visible, log2 of the scale, window in the root (4, parts of its sides),
    has points, has boxes, log(1 + count), age in parts of the turn limit. `obs="features"` leaves the pictures out.
    Full-size pictures and all text are in `env.unwrapped.episode.messages()`.

    ## Rewards
    At the end, from the merged result: 8 · IoU − 3, ignored pixels counting for neither side. Where there is nothing to
    find: +5 for answering without any result, −3 otherwise. No result where one is due: −3. A step costs `step_cost`
    (0 by default).

    ## Metrics
    `gIoU` and `cIoU`, as LISA reports ReasonSeg; `N_acc` and `T_acc` for samples on which nothing is to be found.

    ## Starting State
    One picture in view, `img_0`, and the query. Which sample it is, is drawn with `reset(seed=…)`, or asked for with
    `options={"index": …}` or `{"sample_id": …}`.

    ## Episode End
    Terminated by an answer, by `max_turns` (10), or by the visual-token budget. Truncated where an expert stays broken
    after bounded retries: `info["invalid"]` says why, and that step pays 0.

    ## Arguments
    See `visenv.env.VisionToolEnv`.

    ## Version History
    * v0: initial version
    """

    family: ClassVar[str] = "reasonseg"
    metric_names: ClassVar[tuple[str, ...]] = (
        "visenv.rewards.metrics:GIoU",
        "visenv.rewards.metrics:CIoU",
        "visenv.rewards.metrics:NullAccuracy",
    )


class ReasonSegVectorEnv(VisionToolVectorEnv):
    """Many `ReasonSegEnv` at once."""

    env_class: ClassVar[type[VisionToolEnv]] = ReasonSegEnv
