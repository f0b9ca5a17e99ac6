"""The data sets that verl trains and validates on: samples of the environment in a file of agent loops.

    python examples/verl/prepare.py --out data --train 2000 --val 200

The rows hold prompts, pictures and what is right; the episodes themselves are played by the agent loop that they name.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from visenv.adapters.verl import to_parquet
from visenv.errors import InvalidData

AGENT_LOOPS = Path(__file__).parent / "agent_loops.yaml"


def prepare(
    out: str | Path, train: int | None, val: int | None, *, agent_loops: str | Path = AGENT_LOOPS, name: str = "visenv"
) -> dict[str, int]:
    """Write ``train.parquet`` and ``val.parquet``.

    Args:
        out: the folder.
        train: how many samples of the split ``train``; all of them if None.
        val: how many of ``val``.
        agent_loops: the file of agent loops.
        name: of the one that is to play.

    Returns:
        How many rows each split has.

    Raises:
        InvalidData: if there is no agent loop of that name.
    """
    loops = {each["name"]: each for each in yaml.safe_load(Path(agent_loops).read_text("utf-8"))}
    if name not in loops:
        raise InvalidData(f"Expected one of the agent loops of {agent_loops} ({', '.join(loops)}), but got {name!r}.")
    chosen: dict[str, Any] = loops[name]
    return {
        split: to_parquet(
            chosen["env_id"],
            Path(out) / f"{split}.parquet",
            size=size,
            agent_name=name,
            **{**chosen.get("env", {}), "split": split},
        )
        for split, size in (("train", train), ("val", val))
    }


def main() -> None:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", default="data", help="folder of the files")
    parser.add_argument("--train", type=int, help="how many samples are trained on; all, if the split has an end")
    parser.add_argument("--val", type=int, help="how many are validated on")
    parser.add_argument("--agent-loops", default=str(AGENT_LOOPS), help="file of agent loops")
    parser.add_argument("--name", default="visenv", help="of the one in it that is to play")
    args = parser.parse_args()
    print(prepare(args.out, args.train, args.val, agent_loops=args.agent_loops, name=args.name))


if __name__ == "__main__":
    main()
