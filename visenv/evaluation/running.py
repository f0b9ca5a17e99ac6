"""An evaluation from its first episode to its report, in this process or in several."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import IO, Any

from visenv.env import VisionToolEnv
from visenv.errors import InvalidData, VisenvError
from visenv.evaluation.config import EvalConfig
from visenv.evaluation.following import Follower
from visenv.evaluation.scoring import score
from visenv.evaluation.store import Run
from visenv.evaluation.working import play, work
from visenv.training import one_thread_each

LOOK = 0.3
"""Seconds between two looks at what worker processes have written."""
MOST_LOSSES = 3
"""How many worker processes may die, with no episode written in between, before the run gives up."""
LAST_WORDS = 4000
"""Bytes of what a worker process said that are looked at for why it died."""
MISTAKE = 2
"""Exit code of a worker process that met a user's mistake; its last line of standard error says which."""
_BOOT = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from visenv.evaluation.running import _serve; _serve()"
)

Progress = Callable[[Follower], None]
"""Told from time to time what has ended."""


def begin(config: EvalConfig, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Run:
    """Settle what an evaluation is made of, in its folder; nothing is played yet.

    Args:
        config: who is evaluated, on what.
        folder: of the evaluation; one of the same settings goes on.
        overwrite: whether another one that is there is replaced.

    Raises:
        VisenvError: if the environment or the policy cannot be made, or the folder holds something else.
    """
    config.make_policy()
    with closing(config.make_env()) as env:
        return _begun(config, folder, env, overwrite)


def _begun(config: EvalConfig, folder: str | os.PathLike[str], env: VisionToolEnv, overwrite: bool) -> Run:
    size = env.dataset.size
    if config.episodes is None and size is None:
        raise InvalidData("Expected a number of episodes (--episodes): this data set has no end.")
    episodes = config.episodes or size or 0
    if size is not None and episodes > size:
        raise InvalidData(f"Expected at most {size} episodes, one a sample of {env.dataset.split!r}.")
    episodes *= config.tries
    facts = {
        "dataset": env.dataset.name,
        "split": env.dataset.split,
        "family": env.family,
        "samples": size,
        "reward_bounds": list(env.config.reward.bounds),
        "metric_names": list(env.metric_names),
    }
    return Run.open(folder, config.settings(), episodes, facts, overwrite=overwrite)


def evaluate(
    config: EvalConfig,
    folder: str | os.PathLike[str],
    *,
    workers: int = 1,
    concurrency: int = 1,
    overwrite: bool = False,
    progress: Progress = lambda follower: None,
) -> dict[str, Any]:
    """Play an evaluation to its end, and write its report; what an earlier call has played is kept.

    Args:
        config: who is evaluated, on what.
        folder: where to; other processes may work in it at the same time.
        workers: how many processes play, one thread each; 1 plays in this one.
        concurrency: how many episodes each of them has under way.
        overwrite: whether an evaluation that is there is replaced.
        progress: told what has ended.

    Returns:
        The report; see ``score``.

    Raises:
        VisenvError: if something cannot be made or written, or worker processes keep dying.

    Example:
        >>> import tempfile
        >>> config = EvalConfig("VisHarness/RefSeg-v0", policy="oracle", episodes=4)
        >>> report = evaluate(config, tempfile.mkdtemp())
        >>> report["metrics"]["mIoU"], report["intervals"]["mIoU"], report["ends"]
        (1.0, [1.0, 1.0], {'answer': 4})
    """
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise InvalidData(f"Expected workers to be a whole number of at least 1, but got {workers!r}.")
    if workers > 1:
        run = begin(config, folder, overwrite=overwrite)
        follower = _followed(run, progress)
        if not follower.complete:
            Team(run, follower, progress, workers, concurrency).play()
        return score(run.folder)
    # One process makes its experts and its policy once.
    policy = config.make_policy()
    with closing(config.make_env()) as env:
        run = _begun(config, folder, env, overwrite)
        follower = _followed(run, progress)
        looked = time.monotonic()

        def told() -> None:
            nonlocal looked
            if time.monotonic() - looked >= LOOK:
                looked = time.monotonic()
                follower.look()
                progress(follower)

        play(run, config, env, policy, concurrency=concurrency, told=told)
    follower.look()
    progress(follower)
    return score(run.folder)


def _followed(run: Run, progress: Progress) -> Follower:
    follower = Follower(run)
    follower.look()
    progress(follower)
    return follower


class Team:
    """Worker processes of one thread each, replaced when they die.

    Args:
        run: what they play.
        follower: looks on.
        progress: told what has ended.
        workers: how many there are.
        concurrency: how many episodes each of them has under way.
    """

    def __init__(self, run: Run, follower: Follower, progress: Progress, workers: int, concurrency: int) -> None:
        self._run, self._follower, self._progress = run, follower, progress
        self._workers, self._concurrency = workers, concurrency
        self._processes: list[subprocess.Popen[bytes]] = []
        self._said: list[IO[bytes]] = []
        """What each writes to its standard error: files, since a full pipe that nobody reads stops who writes."""

    def play(self) -> None:
        """Play until all episodes have ended.

        Raises:
            VisenvError: what one of them met, or if they keep dying.
        """
        with ExitStack() as files:
            self._said = [files.enter_context(tempfile.TemporaryFile()) for _ in range(self._workers)]
            self._play()

    def _play(self) -> None:
        losses = 0
        try:
            self._processes = [self._started(place) for place in range(self._workers)]
            while not self._follower.complete:
                time.sleep(LOOK)
                if self._follower.look():
                    losses = 0
                    self._progress(self._follower)
                for place, process in enumerate(self._processes):
                    code = process.poll()
                    if not code:
                        continue
                    losses += 1
                    said = self._last_words(place)
                    if code == MISTAKE or losses > MOST_LOSSES:
                        raise VisenvError(said or f"Worker processes keep dying (exit code {code}).")
                    self._processes[place] = self._started(place)
        finally:
            for process in self._processes:
                process.kill()
                process.wait()
                if process.stdin is not None:
                    with suppress(OSError):
                        process.stdin.close()

    def _started(self, place: int) -> subprocess.Popen[bytes]:
        one = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        job = json.dumps({"folder": str(self._run.folder.resolve()), "concurrency": self._concurrency})
        # Standard input stays open as long as this process lives: its end tells the worker to stop, too.
        return subprocess.Popen(
            [sys.executable, "-c", _BOOT, json.dumps([os.getcwd(), *sys.path]), job],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._said[place],
            env={**os.environ, **one},
        )

    def _last_words(self, place: int) -> str:
        said = self._said[place]
        said.seek(max(0, said.seek(0, os.SEEK_END) - LAST_WORDS))
        lines = said.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""


def _serve() -> None:
    """The main function of a worker process."""
    job = json.loads(sys.argv[2])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    one_thread_each()
    try:
        work(Path(job["folder"]), concurrency=job["concurrency"])
    except VisenvError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(MISTAKE) from None
    except KeyboardInterrupt:
        raise SystemExit(0) from None


def _end_with_parent() -> None:
    """End at once when the process that started this one has ended; every line written is on the disk by then."""
    # Not through sys.stdin, whose lock this thread would hold while the interpreter shuts down.
    while os.read(0, 1):
        continue
    os._exit(1)
