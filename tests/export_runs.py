"""Runs that training sets are made of: episodes of which it is known what is good in them."""

import json
import shutil
from pathlib import Path

import datasets
import gymnasium as gym

from visenv.export import load_set
from visenv.wrappers import RecordTrajectories

datasets.disable_progress_bars()

ENV_ID = "VisHarness/RefSeg-v0"
EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "own_tool.py"
KEYWORDS = {"dataset": "scenes", "split": "val", "experts": "oracle"}


def call(name, thought="", **arguments):
    return f"<think>{thought}</think><tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


FIND = call("PhraseToBoxMask", "Look.", images=["img_0"], phrase="it")
MERGE = call("MergeBoxMask", images=["img_0"])
WRONG = call("MergeBoxMask", images=["img_7"])
DONE = "<think></think><answer>There it is, not an <image>.</answer>"
EPISODES = [
    (0, [FIND, MERGE, DONE]),
    (0, [FIND, MERGE, DONE]),  # the same once more
    (0, [DONE]),  # nothing found
    (1, [FIND, "just text", WRONG, FIND, MERGE, DONE]),
    (1, [FIND, MERGE, DONE]),
    (2, [FIND, MERGE, DONE]),
]


def play(folder, episodes=EPISODES, policy="mine", **keywords):
    """Record episodes; what was seen before each turn, by episode and turn."""
    keywords = {**KEYWORDS, "action_mode": "text", **keywords}
    env = gym.make(ENV_ID, obs="features", **keywords)
    settings = {"policy": policy, **{name: value for name, value in keywords.items() if isinstance(value, str)}}
    recorder = RecordTrajectories(env, folder, settings, pictures=False, page=None)
    seen = {}
    for number, (index, turns) in enumerate(episodes):
        recorder.reset(options={"index": index})
        for turn, text in enumerate(turns, 1):
            seen[number, turn] = env.unwrapped.episode.messages()
            recorder.step(text)
        assert env.unwrapped.episode.done
    recorder.close()
    return seen


def rows_of(made):
    return list(load_set(made["folder"]))


def dropped(made, of="dropped"):
    return {(each["episode"], *([each["turn"]] if "turn" in each else [])): each["why"] for each in made[of]}


def joined(content):
    """Neighbouring texts as one, pictures as None."""
    out = []
    for block in content:
        if block["type"] == "image":
            out.append(None)
        elif out and out[-1] is not None:
            out[-1] += block["text"]
        else:
            out.append(block["text"])
    return out


def changed(run, tmp_path, edit):
    """A copy of a run whose last episode was edited."""
    folder = tmp_path / "changed"
    shutil.copytree(run[0], folder)
    lines = (folder / "trajectories.jsonl").read_text().splitlines()
    record = json.loads(lines[-1])
    edit(record)
    (folder / "trajectories.jsonl").write_text("\n".join([*lines[:-1], json.dumps(record)]) + "\n")
    return folder
