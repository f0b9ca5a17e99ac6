"""verl's fallback: its own tool agent loop calls the tools, and its own reward manager asks for the score."""

import asyncio
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
from verl.tools.schemas import OpenAIFunctionToolSchema, ToolResponse
from verl.tools.tool_registry import load_all_tools
from verl.trainer.ppo.reward import load_reward_manager
from verl_parts import SQUARES, Run, make_config, register_env

from visenv.adapters.verl import VisenvTool, compute_score, write_tool_config
from visenv.adapters.verl.data import ground_truth
from visenv.adapters.verl.tools import FINISHED
from visenv.errors import InvalidData, UnknownName
from visenv.masks import Masks
from visenv.protocol.flat import flat_tools
from visenv.types import AnswerTruth, BoxesTruth, ImageTruth, MaskTruth, PointsTruth

torch.set_num_threads(1)
SCORING = [
    "reward.custom_reward_function.path=pkg://visenv.adapters.verl.scoring",
    "reward.custom_reward_function.name=compute_score",
]


def flat(name, **arguments):
    """A turn of a model that is told of verl's schemas, in the format that verl calls hermes."""
    return f"I look.\n<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


FIND = flat("PhraseToBoxMask", images="img_0", phrase="square")
FAIL = flat("PhraseToBoxMask", images="img_0", phrase="fail")
MERGE = flat("MergeBoxMask", images="img_0")
ANSWER = flat("Answer", text="It is marked.")


@pytest.fixture(scope="module", autouse=True)
def _env():
    register_env()


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    """The file that names the tools to verl."""
    return write_tool_config(SQUARES, tmp_path_factory.mktemp("tools") / "tools.yaml", max_turns=6)


def row(index):
    made = {"create_kwargs": {"index": index}}
    return {"index": index, "tools_kwargs": {name: made for name in ("PhraseToBoxMask", "MergeBoxMask", "Answer")}}


class ToolRun(Run):
    """A batch that verl's ``tool_agent`` has played, scored by verl's reward manager."""

    def __init__(self, model, tools, *scripts, rows=None, **settings):
        config = make_config(
            model,
            f"actor_rollout_ref.rollout.multi_turn.tool_config_path={tools}",
            "actor_rollout_ref.rollout.multi_turn.max_tool_response_length=4096",
            *SCORING,
            *(f"{name}={value}" for name, value in settings.items()),
        )
        super().__init__(config, *scripts, rows=rows or [row(0)], agent_name="tool_agent", scored=True)


def test_the_schemas_are_kept_whole(tools):
    made = load_all_tools(str(tools), None)
    assert [tool.name for tool in made] == ["PhraseToBoxMask", "MergeBoxMask", "Answer"]
    for tool in made:
        (schema,) = flat_tools([tool.spec])
        assert tool.tool_schema.model_dump(exclude_unset=True, exclude_none=True) == schema
        assert isinstance(tool.tool_schema, OpenAIFunctionToolSchema)


def test_verls_own_loop_plays_an_episode_with_flat_calls(model, tools):
    run = ToolRun(model, tools, [FIND, MERGE, ANSWER, "Done."])
    text = run.tokenizer.decode(run.response()[0])
    assert "1 box with a mask" in text
    assert "Merged: the final result is 1 object" in text
    assert "The episode has ended: answer." in text
    assert text.count("<|vision_start|>") == 1
    (inputs,) = run.fields("multi_modal_inputs")
    assert len(inputs["image_grid_thw"]) == 1, "The prompt of this row has none; the tool's is there."
    assert run.out.batch["rm_scores"].sum() == 5.0
    assert run.fields("trajectory_finished") == [True]
    assert run.fields("tool_rewards") == [[0.0, 0.0, 5.0]]


def test_after_the_end_tools_change_nothing(model, tools):
    run = ToolRun(model, tools, [FIND, MERGE, ANSWER, flat("MergeBoxMask", images="img_7"), "Done."])
    assert FINISHED in run.tokenizer.decode(run.response()[0])
    assert run.out.batch["rm_scores"].sum() == 5.0
    assert len(run.fields("turn_records")[0]) == 3


def test_what_just_stops_is_scored_as_at_the_turn_limit(model, tools):
    run = ToolRun(model, tools, [FIND, MERGE, "Done."], [FIND, "Done."], ["Done."], rows=[row(0), row(1), row(2)])
    # Who asks first says the first script.
    scores = run.out.batch["rm_scores"].sum(dim=1).tolist()
    assert sorted(scores) == [-3.0, -3.0, 5.0]
    assert run.fields("score") == scores, "Of every trajectory the same figures, called tools or not."


def test_bad_calls_are_turns(model, tools):
    bad = [flat("PhraseToBoxMask", images="img_9", phrase="x"), flat("PhraseToBoxMask"), flat("MergeBoxMask")]
    run = ToolRun(model, tools, [*bad, FIND, MERGE, ANSWER, "Done."])
    assert run.out.batch["rm_scores"].sum() == 5.0
    assert run.fields("tool_args_error_count") == [3.0]
    assert run.tokenizer.decode(run.response()[0]).count("Error (") == 3


def test_an_experts_failure_scores_nothing(model, tools):
    run = ToolRun(model, tools, [FAIL, "Done."])
    assert run.out.batch["rm_scores"].sum() == 0.0
    assert run.fields("trajectory_invalid") == [True]
    assert "does not count" in run.tokenizer.decode(run.response()[0])


def test_several_calls_of_one_turn_are_turns_of_one_episode(model, tools):
    both = f"{FIND}\n{FIND}"
    many = {"actor_rollout_ref.rollout.multi_turn.max_parallel_calls": 4}
    run = ToolRun(model, tools, [both, MERGE, ANSWER, "Done."], **many)
    assert len(run.fields("turn_records")[0]) == 4
    assert run.out.batch["rm_scores"].sum() == 5.0


def test_a_tool_that_is_created_once_a_trajectory_keeps_its_episode(tools):
    find, merge, answer = load_all_tools(str(tools), None)

    async def lifecycle():
        for tool in (find, merge, answer):
            assert await tool.create("one", create_kwargs={"index": 1}) == ("one", ToolResponse())
        assert await find.calc_reward("one") == 0.0
        reply, reward, info = await find.execute("one", {"images": "img_0", "phrase": "square"})
        assert isinstance(reply.image[0], Image.Image)
        assert (reward, info) == (0.0, {"error": None})
        assert await find.calc_reward("one") == -3.0, "Nothing is merged yet."
        await merge.execute("one", {"images": "img_0"})
        assert await answer.calc_reward("one") == 5.0, "All tools of a trajectory work in one episode."
        assert (await merge.execute("one", {"images": "img_9"}))[2] == {"error": "missing_image"}
        assert (await answer.execute("one", {"text": "There."}))[1] == 5.0
        assert (await find.execute("one", {}))[0].text == FINISHED
        await answer.release("one")
        assert await answer.calc_reward("one") == 0.0
        other, _ = await find.create()
        with pytest.raises(InvalidData, match="name a sample"):
            await find.execute(other, {"images": "img_0", "phrase": "square"})

    asyncio.run(lifecycle())


def test_settings_of_a_tool_are_checked():
    with pytest.raises(UnknownName, match="Known: PhraseToBoxMask, MergeBoxMask, Answer"):
        VisenvTool({"env_id": SQUARES, "tool": "Teleport"})
    with pytest.raises(InvalidData, match="'tool', a text"):
        VisenvTool({"env_id": SQUARES})


# --- scoring ----------------------------------------------------------------------------------------------------------


def test_the_reward_function_is_found_by_verls_settings(model):
    config = make_config(model, *SCORING, "+reward.custom_reward_function.reward_kwargs.trajectory_step_cost=0.5")

    async def manager():
        return load_reward_manager(config, AgentLoopWorker(config, None).tokenizer)

    score = asyncio.run(manager()).compute_score
    truth = json.dumps({"type": "point", "data": [[1, 1], [2, 2]]})
    records = {
        "turn_records": [{"output_format_success": True, "tool_args_success": True}] * 2,
        "final_results": {"final_bboxes": [[0, 0, 3, 3]] * 2, "final_masks": [], "count": 2},
    }
    figures = score(data_source="x", solution_str="y", ground_truth=truth, extra_info=records, reward_router_address=1)
    assert (figures["score"], figures["trajectory_reward"]) == (5.0, 4.0)
    assert all(type(value) is float for value in figures.values())


def test_scores_of_tasks_that_the_published_reward_does_not_know():
    truth = json.dumps({"type": "boxes", "data": {"boxes": [[0, 0, 1, 1]], "labels": None}})
    figures = compute_score("x", "y", truth, {"episode_score": 4.25, "turn_records": [{}]})
    assert figures["score"] == 4.25
    assert math.isnan(figures["task_reward"])
    assert figures.keys() == compute_score("x", "y", '{"type": "point", "data": []}', {}).keys()
    assert compute_score("x", "y", truth, {"silent_score": -2.0})["score"] == -2.0
    with pytest.raises(InvalidData, match="ground truth of the type"):
        compute_score("x", "y", truth, {})


def test_truths_as_plain_values():
    square, left = (Masks.from_boxes([box], (4, 6)) for box in ([1, 1, 3, 3], [0, 0, 1, 4]))
    (rle,) = square.to_coco_rles()
    assert ground_truth(MaskTruth(square)) == {"type": "gres_rle_mask", "data": rle}
    assert ground_truth(MaskTruth(None)) == {"type": "gres_rle_mask", "data": None}
    assert ground_truth(MaskTruth(Masks.empty((4, 6)), left)) == {"type": "gres_rle_mask", "data": None}
    both = ground_truth(MaskTruth(square, left))
    assert both == {"type": "reasonseg_rle_mask", "data": {"target_rle": rle, "ignore_rle": left.to_coco_rles()[0]}}
    assert ground_truth(PointsTruth(np.array([[1, 2]]))) == {"type": "point", "data": [[1.0, 2.0]]}
    boxes = ground_truth(BoxesTruth(np.array([[0, 0, 2, 2]]), ("cup",)))
    assert boxes == {"type": "boxes", "data": {"boxes": [[0.0, 0.0, 2.0, 2.0]], "labels": ["cup"]}}
    assert ground_truth(AnswerTruth(("a", "b"))) == {"type": "answer", "data": ["a", "b"]}
    assert ground_truth(ImageTruth(np.zeros((2, 2, 3), np.uint8), ("blur",))) == {"type": "image", "data": None}
