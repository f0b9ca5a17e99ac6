"""Episodes of the scripted policy as an offline data set of Minari, read back by its loader and played again.

    pip install -e ".[minari]" && python examples/minari_record.py --out datasets

Without `--out`, nothing is kept. It prints:

    refseg/scripted-v0: 8 episodes, ... steps, mean reward +...
    The first one, played again in the environment that the data set names: +... as recorded.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings

import numpy as np

from visenv.adapters.minari import load, make_collector, steps_of
from visenv.policies import make_policy
from visenv.records import action_record

DATASET = "refseg/scripted-v0"


def record(folder: str, episodes: int, experts: str) -> None:
    env = make_collector("VisHarness/RefSeg-v0", folder=folder, split="val", experts=experts, obs="features")
    policy = make_policy("scripted")
    for index in range(episodes):
        env.reset(seed=index, options={"index": index})
        policy.reset(env.flat.vision, np.random.SeedSequence(index))
        ended = False
        while not ended:
            action = action_record(policy.act(env.flat.vision.episode))
            _, _, terminated, truncated, _ = env.step(env.flat_action(action))
            ended = terminated or truncated
    with warnings.catch_warnings():
        # Minari asks for an author and the like, which a data set needs only where it is published.
        warnings.simplefilter("ignore")
        env.create_dataset(DATASET, algorithm_name="scripted")
    env.close()


def main() -> None:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", help="folder of data sets, for MINARI_DATASETS_PATH")
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--experts", default="oracle", help="who answers the tools")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.out or scratch
        record(folder, args.episodes, args.experts)
        dataset = load(DATASET, folder)
        rewards = [float(episode.rewards.sum()) for episode in dataset.iterate_episodes()]
        print(
            f"{dataset.id}: {len(rewards)} episodes, {dataset.total_steps} steps, mean reward {np.mean(rewards):+.2f}"
        )

        env = dataset.recover_environment()
        (facts,) = dataset.storage.get_episode_metadata([0])
        env.reset(options={"sample_id": facts["sample_id"]})
        paid = sum(float(env.step(action)[1]) for action in steps_of(dataset[0].actions))
        told = "as recorded" if abs(paid - rewards[0]) < 1e-6 else f"recorded was {rewards[0]:+.2f}"
        print(f"The first one, played again in the environment that the data set names: {paid:+.2f} {told}.")


if __name__ == "__main__":
    main()
