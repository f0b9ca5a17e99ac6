"""Several tasks in one environment."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import numpy as np
from gymnasium import spaces

from visenv.datasets.base import FAMILIES, Dataset
from visenv.datasets.mixed import Tasks, mix, task_of
from visenv.env import VisionToolEnv
from visenv.envs.densedet import DenseDetEnv
from visenv.envs.grefseg import GRefSegEnv
from visenv.envs.reasonseg import ReasonSegEnv
from visenv.envs.refcount import RefCountEnv
from visenv.envs.refseg import RefSegEnv
from visenv.observation import Observation
from visenv.types import Sample
from visenv.vector import VisionToolVectorEnv

METRICS: dict[str, tuple[str, ...]] = {
    env.family: env.metric_names for env in (ReasonSegEnv, GRefSegEnv, RefSegEnv, DenseDetEnv, RefCountEnv)
}
"""What each task is measured by: as in its own environment."""


class MixedEnv(VisionToolEnv):
    """Solve tasks of several kinds, one an episode, drawn by weights.

    Source: the tools, grammar and reward are VisHarness's (arXiv 2605.29894); the mix is ours.

    ## Description
    Every episode is one of `VisHarness/ReasonSeg-v0`, `VisHarness/GRefSeg-v0`, `VisHarness/RefSeg-v0`,
    `VisHarness/DenseDet-v0` or `VisHarness/RefCount-v0`: the same pictures, queries, tools, reward and metrics, for one
    agent that has to tell the tasks apart.

    ## Action Space
    As `VisHarness/ReasonSeg-v0`.

    ## Observation Space
    As `VisHarness/ReasonSeg-v0`, and one key more:

    | key | shape | range | meaning |
    |---|---|---|---|
    | `task` | (5,) float32 | 0 or 1 | one-hot: `reasonseg`, `grefseg`, `refseg`, `densedet`, `refcount` |

    It has five places whichever tasks are mixed, so that a policy fits any mix. `info["task"]` holds the name.

    ## Rewards
    As the environment of the episode's task. All pay from −3 to 5.

    ## Metrics
    As the environment of the episode's task.

    ## Starting State
    One picture in view, `img_0`, and the query. A draw chooses the task by its weight, then a sample of it. An
    identifier is `TASK:IDENTIFIER`. Numbers (`options={"index": …}`) go round the tasks, whatever the weights: with
    five tasks, 0 to 4 are the first sample of each, 5 is the second sample of the first; a task that has run out is
    passed over. `visenv.datasets.mixed.MixedDataset` says more.

    ## Episode End
    As `VisHarness/ReasonSeg-v0`. `info["metrics"]` holds the figures of the episode's own task; a run's summary holds
    each figure over the episodes that have it, and all figures task by task.

    ## Arguments
    See `visenv.env.VisionToolEnv`.

    This environment takes one more, and reads `dataset` in its own way:

    * `tasks` (None): names of tasks, `("reasonseg", "refcount")`; or a mapping from their names to weights,
      `{"reasonseg": 3, "refcount": 1}`, to data sets, `{"reasonseg": "photos", "refcount": "rec8k:/path"}`, or to both,
      `{"reasonseg": ("photos", 3), "refcount": ("rec8k:/path", 1)}`. None: all that `dataset` has samples for.
    * `dataset` (`"scenes"`): the data set of every task that names none of its own; or an object whose identifiers name
      their tasks, which is taken as it is.

    Without weights, they are the square roots of the data sets' sizes, so that large sets do not drown small ones; or
    all the same where none of the sets ends, as with `scenes` in training. Where some end and others do not, weights
    have to be given.

    The pictures of `densedet` have 1280x960 pixels, those of the others 256x256 to 512x512, so that `classical` spends
    most of its time on them. The task is in the mix all the same, as the one that cannot be solved without cutting and
    enlarging; where time is short, name the other four.

    ## Version History
    * v0: initial version
    """

    family: ClassVar[str] = "mixed"
    metric_names: ClassVar[tuple[str, ...]] = tuple(dict.fromkeys(name for names in METRICS.values() for name in names))

    def __init__(
        self,
        tasks: Tasks | None = None,
        dataset: str | Dataset = "scenes",
        split: str = "train",
        difficulty: int = 1,
        **keywords: Any,
    ) -> None:
        if isinstance(dataset, str):
            dataset = mix(tasks, dataset=dataset, split=split, difficulty=difficulty)
        super().__init__(dataset, split, difficulty, **keywords)
        members = cast("spaces.Dict", self.observation_space).spaces
        self.observation_space = spaces.Dict({**members, "task": spaces.Box(0, 1, (len(FAMILIES),), np.float32)})
        self._one_hot = np.zeros(len(FAMILIES), np.float32)

    @property
    def task(self) -> str:
        """What kind of task the episode at hand is."""
        return task_of(self.episode.sample_id)

    @property
    def episode_metrics(self) -> tuple[str, ...]:
        """Those of the episode's own task."""
        return METRICS[self.task]

    def begin(self, sample: Sample) -> None:
        """Begin an episode on a sample.

        Raises:
            DatasetError: if the sample's identifier does not name its task.
        """
        self._one_hot = np.array([task == task_of(sample.sample_id) for task in FAMILIES], np.float32)
        super().begin(sample)

    def empty_observation(self) -> Observation:
        """Zeros in the shapes of the observation space."""
        return super().empty_observation() | {"task": np.zeros_like(self._one_hot)}

    def observation(self, out: Observation | None = None) -> Observation:
        """What is observed now, the task included."""
        seen = super().observation(out)
        seen["task"][:] = self._one_hot
        return seen

    def info(self) -> dict[str, Any]:
        """What stands beside the observation now, the task included."""
        return super().info() | {"task": self.task}


class MixedVectorEnv(VisionToolVectorEnv):
    """Many `MixedEnv` at once."""

    env_class: ClassVar[type[VisionToolEnv]] = MixedEnv
