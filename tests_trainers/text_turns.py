"""Turns of an episode as a model writes them."""

import json


def call(name, **arguments):
    return f"<think>So.</think>\n<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


FIND = call("PhraseToBoxMask", images=["img_0"], phrase="square")
FAIL = call("PhraseToBoxMask", images=["img_0"], phrase="fail")
SPLIT = call("SplitImageIntoPatches", patch_configs={"img_0": 64})
MERGE = call("MergeBoxMask", images=["img_0"])
ANSWER = "<think>It is plain.</think><answer>There it is.</answer>"
PLAYED = (FIND, "not a call", call("Fly", images=["img_0"]), SPLIT, MERGE, ANSWER)
"""Turns that are good and bad, to the end of an episode."""
