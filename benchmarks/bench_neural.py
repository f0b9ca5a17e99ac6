"""Neural experts by batch size and precision, and while episodes play: ``python -m benchmarks.bench_neural``.

For each family: requests about images of their own, in batches of several sizes against one by one; half precision
against fp32; and 64 environments that step together against the same expert called for one request at a time, with the
share of the time in which the device computes. Models have random weights, which cost the same. Where there is a GPU
they have their real sizes; on a CPU, and with ``--quick``, they are small: such figures try the benchmark out, and say
little of the experts.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import gymnasium as gym

import visenv  # noqa: F401 - registers the ids
from benchmarks._neural import Case, CaseMaker
from benchmarks._timing import Row, print_rows, row
from visenv.capabilities import Expert, Request

FAMILIES: dict[str, str] = {
    "sam2": "benchmarks.bench_sam2:case",
}
"""Family to where its case is made: a function that takes whether the model is to be small."""
ENV_ID = "VisHarness/RefSeg-v0"


class Metered:
    """An expert, and how long it ran.

    Args:
        expert: who answers.
        max_batch: the most requests it is handed at once.
    """

    per_sample = False

    def __init__(self, expert: Expert, max_batch: int) -> None:
        self._expert, self.max_batch = expert, max_batch
        self.name, self.fingerprint, self.capabilities = expert.name, expert.fingerprint, expert.capabilities
        self.seconds = 0.0

    def run(self, requests: Sequence[Request]) -> Sequence[Any]:
        start = time.perf_counter()
        answers = self._expert.run(requests)
        self.seconds += time.perf_counter() - start
        return answers


def worth_a_page() -> bool:
    """Whether its figures say something: with a GPU, on which models have their real sizes."""
    import torch

    return torch.cuda.is_available()


def run(repeats: int = 3, quick: bool = False) -> list[Row]:
    """Measure every family.

    Args:
        repeats: runs, of which the shortest counts.
        quick: whether to use small models, few sizes and few environments.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    small = quick or not on_gpu
    rows = []
    for name, where in FAMILIES.items():
        module, _, function = where.partition(":")
        make: CaseMaker = getattr(importlib.import_module(module), function)
        case = make(small)
        rows += _by_batch(name, case, (2, 4) if small else (4, 16, 64), repeats)
        rows.append(_by_precision(name, case, 4 if small else 16, repeats))
        rows.append(_while_playing(name, case, 8 if small else 64))
    return rows


def _by_batch(name: str, case: Case, sizes: Sequence[int], repeats: int) -> list[Row]:
    """Seconds a request, in batches and one by one."""
    most = max(sizes)
    expert = _warm(case, most)
    where = f"{case.title}, {_device()}; a request"
    single = min(_run(expert, case.requests(most, seed), 1) for seed in range(1, repeats + 1)) / most
    rows = []
    for size in sizes:
        best = min(_run(expert, case.requests(most, 100 * size + seed), size) for seed in range(repeats)) / most
        rows.append(row(f"{name}, batches of {size}", best, "one by one", single, where))
    return rows


def _by_precision(name: str, case: Case, size: int, repeats: int) -> Row:
    """Seconds a request in bf16 and in fp32."""
    times = []
    for precision in ("bf16", "fp32"):
        expert = _warm(case, size, precision=precision)
        times.append(min(_run(expert, case.requests(size, seed), size) for seed in range(1, repeats + 1)) / size)
    return row(f"{name}, bf16", times[0], "fp32", times[1], f"{case.title}, batches of {size}; a request")


def _while_playing(name: str, case: Case, count: int) -> Row:
    """Seconds a step of many environments, with requests in batches and one by one."""
    seconds, shares = [], []
    for max_batch in (count, 1):
        expert = Metered(_warm(case, max_batch), max_batch)
        envs = gym.make_vec(
            ENV_ID, num_envs=count, dataset="scenes", split="val", experts=_beside_classical(expert), max_turns=20
        )
        with closing(envs):
            envs.reset(seed=list(range(count)))
            with _busy(expert) as busy:
                start = time.perf_counter()
                for tool, arguments in case.turns:
                    envs.step([{"name": tool, "arguments": {"images": ["img_0"], **arguments}}] * count)
                total = time.perf_counter() - start
        seconds.append(total / len(case.turns))
        shares.append(busy() / total)
    detail = (
        f"{count} environments, a step of all; {_device()} busy {shares[0]:.0%} of the time, one by one "
        f"{shares[1]:.0%}; the rest are the classical experts and the episodes"
    )
    return row(f"{name}, while {count} play", seconds[0], "one by one", seconds[1], detail)


def _beside_classical(expert: Expert) -> dict[str, Any]:
    return {"*": "classical", **dict.fromkeys(expert.capabilities, expert)}


@contextmanager
def _busy(expert: Metered) -> Iterator[Callable[[], float]]:
    """Count the seconds in which the device computes: of kernels on a GPU, of the expert's calls on a CPU."""
    import torch

    if not torch.cuda.is_available():
        expert.seconds = 0.0
        yield lambda: expert.seconds
        return
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        yield lambda: sum(event.self_device_time_total for event in profile.key_averages()) / 1e6
        torch.cuda.synchronize()


def _warm(case: Case, max_batch: int, **keywords: Any) -> Expert:
    """An expert whose first, slow calls lie behind it."""
    expert = case.make(max_batch=max_batch, **keywords)
    expert.run(case.requests(min(2, max_batch), 0))
    return expert


def _run(expert: Expert, requests: Sequence[Request], size: int) -> float:
    """Seconds for some requests in batches; results are on the CPU, so nothing is left under way."""
    start = time.perf_counter()
    for first in range(0, len(requests), size):
        expert.run(requests[first : first + size])
    return time.perf_counter() - start


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "the CPU"


if __name__ == "__main__":
    print_rows(run())
