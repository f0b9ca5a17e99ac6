"""What serving experts costs: ``python -m benchmarks.bench_serve``.

The classical expert behind a real Ray Serve on this machine, over HTTP and inside the Ray, beside the same expert in
this process; and what is sent, beside sending pixels with every request.
"""

from __future__ import annotations

import base64
import itertools
import socket
import time
from collections.abc import Callable, Sequence

import gymnasium as gym

from benchmarks._timing import Row, amount_row, print_rows, row
from visenv.capabilities import Expert, GroundPhrase, PointPhrase, Request, View
from visenv.datasets.scenes import make as make_scenes
from visenv.experts.classical import make
from visenv.images import Provenance, RootPixels, to_png_bytes
from visenv.policies import make_policy, rollout
from visenv.serve.client import connect
from visenv.serve.codec import digest_of, pack_requests
from visenv.serve.running import start

BATCH = 32


def run(repeats: int = 3, quick: bool = False) -> list[Row]:
    """Serve, and time.

    Args:
        repeats: runs, of which the shortest counts.
        quick: whether to use 8 images in place of 32.
    """
    data = make_scenes(family="reasonseg", split="val", difficulty=1)
    views = [_view(data.get(index).image) for index in range(8 if quick else BATCH)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with start("classical", address, num_cpus=1) as serving:
        over_http, inside = connect(serving.address)[0], connect(f"ray://{serving.app}")[0]
        return [
            *_round_trip(over_http, inside, views[0], repeats),
            _batch(over_http, views, repeats),
            _at_once(over_http, views, repeats),
            _episodes(serving.address, 4 if quick else 20, repeats),
            _sent(views[0]),
        ]


def _view(pixels: object) -> View:
    return View(pixels, Provenance(RootPixels(pixels)))  # type: ignore[arg-type]


def _phrases() -> Callable[[], str]:
    """Words that were not asked before: what is remembered takes no time on either side."""
    numbers = itertools.count()
    return lambda: f"car {next(numbers)}"


def _best(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(max(repeats, 1)):
        start_time = time.perf_counter()
        work()
        times.append(time.perf_counter() - start_time)
    return min(times)


def _round_trip(over_http: Expert, inside: Expert, view: View, repeats: int) -> list[Row]:
    """One question about an image that was looked at before: the way there and back is most of it."""
    here, phrase = make()[0], _phrases()
    times = []
    for expert in (over_http, inside, here):
        expert.run([GroundPhrase(view, phrase())])
        times.append(_best(lambda asked=expert: asked.run([GroundPhrase(view, phrase())]), 10 * repeats))  # type: ignore[misc]
    detail = "a phrase about a known image of 256x256, one request a call"
    return [
        row("served, HTTP", times[0], "in this process", times[2], detail),
        row("served, inside the Ray", times[1], "in this process", times[2], detail),
    ]


def _batch(served: Expert, views: Sequence[View], repeats: int) -> Row:
    """New images in one call."""
    rounds = iter(range(1000))

    def fresh() -> list[Request]:
        number = next(rounds)
        moved = [_view(view.pixels[number % 8 :, number // 8 :].copy()) for view in views]
        return [GroundPhrase(view, "car") for view in moved]

    batches = [fresh() for _ in range(max(1, repeats))]
    ours = min(_best(lambda asked=asked: served.run(asked), 1) for asked in batches)  # type: ignore[misc]
    plain = min(_best(lambda asked=asked: make()[0].run(asked), 1) for asked in batches)  # type: ignore[misc]
    detail = f"{len(views)} new images of 256x256; a request"
    return row("a batch, served", ours / len(views), "in this process", plain / len(views), detail)


def _at_once(served: Expert, views: Sequence[View], repeats: int) -> Row:
    """Questions about known images: in one call, and a call each."""
    phrase = _phrases()
    served.run([GroundPhrase(view, phrase()) for view in views])
    ours = _best(lambda: served.run([GroundPhrase(view, phrase()) for view in views]), repeats)
    single = _best(lambda: [served.run([GroundPhrase(view, phrase())]) for view in views], repeats)
    count = len(views)
    return row("one call", ours / count, "a call a request", single / count, f"{count} known images, served; a request")


def _episodes(address: str, episodes: int, repeats: int) -> Row:
    """Whole episodes, one after another: the worst case, since nothing is asked together."""

    def play(experts: str) -> None:
        env = gym.make("VisHarness/ReasonSeg-v0", experts=experts, split="val", obs="features")
        list(rollout(env, make_policy("scripted"), episodes=episodes, seed=0))

    ours = _best(lambda: play(address), repeats) / episodes
    plain = _best(lambda: play("classical"), repeats) / episodes
    return row("an episode, served", ours, "in this process", plain, "ReasonSeg-v0, scripted, one at a time")


def _sent(view: View) -> Row:
    """What four turns about one image send."""
    digest = digest_of(view.pixels)
    digests, first = {view.provenance.key: digest}, {digest: view.pixels}
    turns = [
        GroundPhrase(view, "red mug"),
        PointPhrase(view, "the mug"),
        GroundPhrase(view, "car"),
        GroundPhrase(view, ""),
    ]
    ours = sum(len(pack_requests([turn], digests, {} if number else first)) for number, turn in enumerate(turns))
    other = len(turns) * len(base64.b64encode(to_png_bytes(view.pixels)))
    return amount_row(
        "sent", ours / 1e6, "PNG as base64 with each", other / 1e6, "four questions about one scene of 256x256"
    )


if __name__ == "__main__":
    print_rows(run())
