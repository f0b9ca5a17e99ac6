"""What all trajectories of a process share: data, experts and their batches; verl makes a new agent loop for each."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import WeakKeyDictionary

from visenv.adapters.making import make_env
from visenv.adapters.rows import row_options
from visenv.async_batches import WINDOW, AsyncPool, ExpertThreads
from visenv.capabilities import CAPABILITIES, Request, Result
from visenv.env import VisionToolEnv
from visenv.episode import EpisodeState
from visenv.errors import ExpertError, InvalidData
from visenv.registration import Entry

DEFAULTS = {"memory": "keep_all", "obs": "features"}
"""Keywords of environments, unless the settings say otherwise."""
NOT_FIGURES = ("_n", "_failed")
"""What metrics report of how many samples they cover: says nothing of one."""


class SharedEnv:
    """The environments of one process with one set of settings; see ``shared_env``.

    Args:
        env_id: as ``gym.make`` takes it.
        keywords: of the environment.
        window: for how many seconds expert requests are gathered.
    """

    def __init__(self, env_id: str, keywords: Mapping[str, Any], window: float = WINDOW) -> None:
        self.env_id, self._window = env_id, window
        self.keywords = {**DEFAULTS, **keywords, "action_mode": "text"}
        self._envs: dict[str | None, VisionToolEnv] = {}
        self._making = threading.Lock()
        self._threads = ExpertThreads()
        self._drawing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="visenv-samples")
        # An event loop's own, gone with it. Environments stay, and so are their pools' ids nobody else's.
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[int, AsyncPool]] = WeakKeyDictionary()

    def env(self, split: str | None = None) -> VisionToolEnv:
        """The environment of a split, made once: to be copied, not stepped.

        Args:
            split: of the data set; the settings' own if left out.

        Raises:
            VisenvError: as ``gym.make``.
        """
        with self._making:
            if split not in self._envs:
                self._envs[split] = self._make(split)
            return self._envs[split]

    def _make(self, split: str | None) -> VisionToolEnv:
        keywords = self.keywords if split is None else {**self.keywords, "split": split}
        first = next(iter(self._envs.values()), None)
        if first is None or any(expert.per_sample for expert in first.pool.experts.values()):
            # Experts that are told the truth are told that of their own split.
            return make_env(self.env_id, keywords)
        experts = {"experts": first.pool.experts, "expert_workers": 0, "expert_timeout": None}
        env = make_env(self.env_id, {**keywords, **experts})
        env.pool = first.pool
        return env

    async def begin(self, split: str | None, options: Mapping[str, Any]) -> VisionToolEnv:
        """An environment of one's own in which an episode has begun; the sample is read on another thread.

        Args:
            split: of the data set; the settings' own if left out.
            options: as ``reset`` takes them.

        Raises:
            VisenvError: as ``gym.make`` and ``reset``.
        """

        def prepare() -> tuple[VisionToolEnv, EpisodeState]:
            env = self.env(split)
            sample = env.choose(options)
            assert sample is not None
            return env, env.prepare(sample)

        env, state = await asyncio.get_running_loop().run_in_executor(self._drawing, prepare)
        env = copy.copy(env)
        env.begin(state.sample)
        env.episode.set_state(state)
        return env

    def pool(self, env: VisionToolEnv) -> AsyncPool:
        """Who answers an environment's requests: one for all that runs on an event loop, so that they are batched."""
        pools = self._pools.setdefault(asyncio.get_running_loop(), {})
        if id(env.pool) not in pools:
            pools[id(env.pool)] = AsyncPool(env.pool, self._threads, self._window)
        return pools[id(env.pool)]


class Nobody:
    """Stands for the experts of an environment whose tools are only described."""

    name = fingerprint = "nobody"
    capabilities, max_batch, per_sample = tuple(CAPABILITIES), 1, False

    def run(self, requests: Sequence[Request]) -> list[Result]:
        """Answer nothing."""
        raise ExpertError(self.name, "there are no experts here: this environment is not to be played.")


def described_env(env_id: str, keywords: Mapping[str, Any]) -> VisionToolEnv:
    """An environment that says what its samples and tools are, without loading or asking its experts.

    Args:
        env_id: as ``gym.make`` takes it.
        keywords: of the environment; those of experts are not heeded.

    Raises:
        VisenvError: as ``gym.make``.
    """
    fixed = {"experts": Nobody(), "expert_workers": 0, "expert_timeout": None, "action_mode": "text"}
    return make_env(env_id, {**DEFAULTS, **keywords, **fixed})


_shared: dict[str, SharedEnv] = {}
_sharing = threading.Lock()


def shared_env(env_id: str, keywords: Mapping[str, Any], window: float = WINDOW) -> SharedEnv:
    """What a process has with these settings, made when it is first asked for.

    Args:
        env_id: as ``gym.make`` takes it; ``package.module:ID`` imports the module that registers it.
        keywords: of the environment, as a YAML file can have them.
        window: for how many seconds expert requests are gathered, unless all trajectories wait for experts.

    Raises:
        InvalidData: if a keyword is no plain value, or the window is out of range.

    Example:
        >>> first = shared_env("VisHarness/RefSeg-v0", {"experts": "oracle", "split": "val"})
        >>> first is shared_env("VisHarness/RefSeg-v0", {"split": "val", "experts": "oracle"})
        True
    """
    if isinstance(window, bool) or not isinstance(window, (int, float)) or not 0 <= window < float("inf"):
        raise InvalidData(f"Expected expert_window to be a number of seconds of at least 0, but got {window!r}.")
    try:
        key = json.dumps([env_id, dict(keywords), window], sort_keys=True)
    except TypeError as error:
        raise InvalidData(
            f"Expected the settings of {env_id!r} to be plain values, as a YAML file has them, but {error}: register "
            "data sets and experts of your own under a name, or an environment id that has them."
        ) from None
    with _sharing:
        if key not in _shared:
            _shared[key] = SharedEnv(env_id, keywords, window)
        return _shared[key]


def plain_settings(settings: Any) -> dict[str, Any]:
    """Keywords from a YAML file, which OmegaConf may have wrapped, as a plain dict.

    Raises:
        InvalidData: if they are no mapping.
    """
    if hasattr(settings, "_metadata"):
        from omegaconf import OmegaConf

        settings = OmegaConf.to_container(settings, resolve=True)
    if settings is None:
        return {}
    if not isinstance(settings, Mapping):
        raise InvalidData(f"Expected the keywords of an environment as a mapping, but got {settings!r:.80}.")
    return {str(name): value for name, value in settings.items()}


def sample_of(extra_info: object) -> tuple[str | None, dict[str, Any]]:
    """Which split and sample a row of a data set is about.

    Args:
        extra_info: of the row, as ``to_parquet`` writes it: ``sample_id`` or ``index``, and ``split``.

    Returns:
        The split, None if it names none; and the options of ``reset``.

    Raises:
        InvalidData: if it names no sample.

    Example:
        >>> sample_of({"index": 3, "sample_id": "scenes/refseg/d1/val/3", "split": "val"})
        ('val', {'sample_id': 'scenes/refseg/d1/val/3'})
    """
    info = extra_info if isinstance(extra_info, Mapping) else {}
    if options := row_options(info):
        return None if info.get("split") is None else str(info["split"]), options
    raise InvalidData(
        f"Expected the row's extra_info to name a sample by 'sample_id' or 'index', but got {extra_info!r:.120}: write "
        "the file with visenv.adapters.verl.to_parquet."
    )


def figures(env: VisionToolEnv) -> dict[str, float | None]:
    """An episode's metrics and costs under the same names for every episode of its environment, as verl's logs need it.

    Returns:
        None where a figure does not apply.
    """
    names = [name for entry in env.metric_names for name in Entry(entry, entry).load()().compute()]
    applying = env.metrics()
    fixed: dict[str, float | None] = {name: None for name in names if not name.endswith(NOT_FIGURES)}
    return fixed | applying
