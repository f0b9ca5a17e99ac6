"""Sixteen clients of an OpenEnv server play an episode each, at once.

    pip install -e ".[openenv]" && (cd examples/openenv && uvicorn server.app:app --port 8000) &
    python examples/openenv/play.py http://127.0.0.1:8000

A model would choose the actions: from `observation.content` (OpenAI content parts) and from the tools in
`(await client.state()).tools`. Here the first two tools that the task needs are called, and the answer is given.
"""

import asyncio
import sys

from visenv.adapters.openenv import VisionAction, VisionClient


async def episode(address: str, seed: int) -> float:
    """Play one episode, and return its reward."""
    async with VisionClient(base_url=address) as client:
        task = await client.reset(seed=seed)
        phrase = task.observation.query[:64]
        total = 0.0
        for name, arguments in (
            ("PhraseToBoxMask", {"images": ["img_0"], "phrase": phrase}),
            ("MergeBoxMask", {"images": ["img_0"]}),
            ("Answer", {"text": "It is marked."}),
        ):
            result = await client.step(VisionAction(name=name, arguments=arguments))
            total += result.reward
        return total


async def main(address: str) -> None:
    rewards = await asyncio.gather(*(episode(address, seed) for seed in range(16)))
    print(f"{len(rewards)} episodes at once, mean reward {sum(rewards) / len(rewards):.1f}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"))
