"""Minari: episodes as an offline data set that its own loader reads back, in a folder of one's choice.

Example:
    >>> import tempfile, warnings
    >>> warnings.simplefilter("ignore")  # Minari asks for an author and the like
    >>> folder = tempfile.mkdtemp()
    >>> env = make_collector("VisHarness/RefSeg-v0", folder=folder, experts="oracle", split="val", obs="features")
    >>> for index in range(2):
    ...     _ = env.reset(seed=0, options={"index": index})
    ...     _ = env.step(env.flat_action({"name": "Answer", "arguments": {"text": "Nothing there."}}))
    >>> env.create_dataset("refseg/answers-v0").total_episodes
    2
    >>> env.close()
    >>> texts_of(load("refseg/answers-v0", folder)[0].infos["tool"])
    ['', 'Answer']
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from visenv.adapters.flat import FlatEnv
from visenv.adapters.padding import Padding
from visenv.errors import InvalidData, MissingDependency

try:
    import jax.tree_util  # noqa: F401 - what Minari records with, which it asks for only at the first step
    import minari
    from minari import DataCollector, EpisodeMetadataCallback, MinariDataset, StepDataCallback
except ImportError as error:
    raise MissingDependency('visenv.adapters.minari needs Minari: pip install "visenv[minari]".') from error

PATH = "MINARI_DATASETS_PATH"
"""The environment variable from which Minari takes its folder."""


@contextmanager
def datasets_folder(folder: str | os.PathLike[str] | None) -> Iterator[None]:
    """Point Minari to a folder for a while; its own choice (``MINARI_DATASETS_PATH``, or one in the home) if None."""
    if folder is None:
        yield
        return
    before = os.environ.get(PATH)
    Path(folder).mkdir(parents=True, exist_ok=True)
    os.environ[PATH] = str(Path(folder).absolute())
    try:
        yield
    finally:
        if before is None:
            del os.environ[PATH]
        else:
            os.environ[PATH] = before


def load(dataset_id: str, folder: str | os.PathLike[str] | None = None) -> MinariDataset:
    """A data set, by Minari's own loader.

    Args:
        dataset_id: under which it was made.
        folder: where it is; see ``datasets_folder``.
    """
    with datasets_folder(folder):
        return minari.load_dataset(dataset_id)


class Collector(DataCollector):
    """Minari's ``DataCollector`` over a flat environment.

    Every array is kept as it is, pictures included (Minari writes JPEG otherwise). Of each info it keeps ``sample_id``,
    ``query``, ``tool`` (empty where there was no call), ``error`` (its code, or empty), ``termination`` (empty until
    the end) and ``visual_tokens``; in the metadata of an episode stand ``sample_id`` and ``termination``, besides
    Minari's figures of its rewards.

    Args:
        env: flat.
        folder: where data sets are written; see ``datasets_folder``.
        data_format: of Minari: ``"hdf5"``, ``"arrow"`` or ``"parquet"``; the latter need pyarrow.

    Raises:
        InvalidData: if the environment cannot be made again from text: such a data set would not know its own.
    """

    def __init__(self, env: FlatEnv, folder: str | os.PathLike[str] | None = None, data_format: str = "hdf5") -> None:
        try:
            if env.spec is None:
                raise ValueError("this one was not made by gym.make")
            env.spec.to_json()
        except (TypeError, ValueError) as error:
            raise InvalidData(
                "Expected an environment whose keywords are texts and numbers, so that the data set can name it, "
                f"but {error}. Name data sets, experts, tool sets and rewards instead of handing them over."
            ) from error
        self.flat = env
        with datasets_folder(folder):
            super().__init__(
                env,
                step_data_callback=_StepData,
                episode_metadata_callback=_EpisodeMetadata,
                record_infos=True,
                data_format=data_format,
                jpeg_encoding=False,
            )

    def flat_action(self, action: Mapping[str, Any]) -> Any:
        """See ``FlatEnv.flat_action``."""
        return self.flat.flat_action(action)

    def create_dataset(self, dataset_id: str, *args: Any, **keywords: Any) -> MinariDataset:
        """Write what was collected.

        Args:
            dataset_id: ``NAME-v0``, or ``NAMESPACE/NAME-v0``.
            *args: as Minari takes them.
            **keywords: as Minari takes them: ``author``, ``description``, ``eval_env``, …

        Raises:
            ValueError: by Minari: if there is such a data set already, or the name is none.
        """
        with datasets_folder(self.datasets_path):
            return super().create_dataset(dataset_id, *args, **keywords)


def make_collector(
    env_id: str,
    *,
    folder: str | os.PathLike[str] | None = None,
    padding: Padding | Mapping[str, int] | None = None,
    data_format: str = "hdf5",
    **keywords: Any,
) -> Collector:
    """An environment that notes down what is done in it.

    Args:
        env_id: as ``gym.make`` takes it.
        folder: where data sets are written; see ``datasets_folder``.
        padding: see ``visenv.adapters.flat.FlatEnv``.
        data_format: see ``Collector``.
        **keywords: of the environment.

    Raises:
        InvalidData: see ``Collector``.
        VisenvError: as ``gym.make``.
    """
    env = FlatEnv(gym.make(env_id, disable_env_checker=True, **keywords), padding)
    return Collector(env, folder, data_format)


def steps_of(nested: Any) -> Iterator[Any]:
    """Actions or observations of an episode one step at a time, as the environment takes and gives them.

    Args:
        nested: ``EpisodeData.actions``, ``EpisodeData.observations``, or any part of them.

    Example:
        >>> list(steps_of({"points": np.eye(2), "Answer": {"text": np.array([[0, 0], [3, 0]])}}))[1]
        {'points': array([0., 1.]), 'Answer': {'text': array([3, 0])}}
    """
    if isinstance(nested, Mapping):
        parts = {name: list(steps_of(part)) for name, part in nested.items()}
        count = min(map(len, parts.values()), default=0)
        yield from ({name: steps[index] for name, steps in parts.items()} for index in range(count))
    else:
        yield from nested


def texts_of(values: Any) -> list[str]:
    """Texts of infos, which some of Minari's formats return as bytes.

    Args:
        values: such as ``EpisodeData.infos["tool"]``.
    """
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


class _StepData(StepDataCallback):
    """Keeps of an info what has one kind and shape at every step."""

    def __call__(self, env: gym.Env[Any, Any], obs: Any, info: dict[str, Any], *args: Any, **keywords: Any) -> Any:
        kept = {
            "sample_id": info["sample_id"],
            "query": _storable(info["query"]),
            "tool": info["tool"] or "",
            "error": (info["error"] or {}).get("code", ""),
            "termination": info.get("termination") or "",
            "visual_tokens": np.int64(info["visual_tokens"]),
        }
        return super().__call__(env, obs, kept, *args, **keywords)


class _EpisodeMetadata(EpisodeMetadataCallback):
    def __call__(self, episode: dict[str, Any]) -> dict[str, Any]:
        last = {name: texts_of(episode["infos"][name][-1:])[0] for name in ("sample_id", "termination")}
        return super().__call__(episode) | last


def _storable(text: str) -> str:
    """A text that HDF5 can store: valid Unicode without zeros."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
