"""The options that several commands have, each written once: what it is called, what it may be, and its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visenv.cli.common import OWN
from visenv.policies.chat import KEY_VARIABLE

EnvId = Annotated[str, typer.Argument(metavar="ID", help="An environment, such as VisHarness/ReasonSeg-v0.")]

# --- of an environment ------------------------------------------------------------------------------------------------

DatasetName = Annotated[
    str | None,
    typer.Option(help=f"Where samples come from: a name, or name:path. {OWN}: scenes)", show_default=False),
]
Experts = Annotated[
    str | None,
    typer.Option(
        help=f"Who answers the tools. {OWN}: classical; oracle with --policy oracle)",
        show_default=False,
    ),
]
Difficulty = Annotated[int | None, typer.Option(help=f"0 to 3, of generated data. {OWN}: 1)", show_default=False)]
Tasks = Annotated[
    str | None,
    typer.Option(help="What Mixed-v0 mixes: reasonseg,refcount, or with weights reasonseg=3,refcount=1."),
]
MaxTurns = Annotated[
    int | None, typer.Option(min=1, help=f"Turns after which an episode ends. {OWN}: 10)", show_default=False)
]
TokenBudget = Annotated[int | None, typer.Option(min=1, help="Visual tokens after which an episode ends.")]
RewardName = Annotated[
    str | None,
    typer.Option(help=f"What an episode pays: a name, or name:argument=number. {OWN}: visharness)", show_default=False),
]
Toolset = Annotated[str | None, typer.Option(help=f"What the agent may call. {OWN}: visharness)", show_default=False)]
Memory = Annotated[
    str | None,
    typer.Option(
        help=f"What stays in view: latest, last_k:K, token_budget:N or keep_all. {OWN}: latest)", show_default=False
    ),
]

# --- of a run ---------------------------------------------------------------------------------------------------------

NewFolder = Annotated[
    Path | None,
    typer.Option(help="Folder to write. (default: a new one under runs/)", show_default=False, file_okay=False),
]
Seed = Annotated[int, typer.Option(min=0, help="Of the order of samples and of all choices.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes that play, one thread each.")]

# --- of a chat endpoint -----------------------------------------------------------------------------------------------

BaseUrl = Annotated[str, typer.Option(help=f"Of a chat endpoint. Its key is read from ${KEY_VARIABLE} alone.")]
Parallel = Annotated[int, typer.Option(min=1, help="Requests to a chat endpoint under way at once, in each process.")]
MaxTokens = Annotated[int, typer.Option(min=1, help="Of an answer of a chat endpoint.")]
Temperature = Annotated[float, typer.Option(min=0.0, help="Of a chat endpoint.")]
RequestTimeout = Annotated[float, typer.Option(min=0.1, help="Seconds that one request to a chat endpoint may take.")]
Retries = Annotated[int, typer.Option(min=0, help="How often a request to a chat endpoint that failed is sent again.")]

# --- of a training set ------------------------------------------------------------------------------------------------

MinIou = Annotated[float, typer.Option(min=0, max=1, help="The least IoU of masks, or F1 of boxes.")]
MaxCountError = Annotated[float, typer.Option(min=0, help="The greatest relative error of a count.")]
Answered = Annotated[bool, typer.Option("--answered", help="Keep only episodes that end with an answer.")]
MinReward = Annotated[
    float | None,
    typer.Option(help="The least sum of rewards; what restores a picture is judged by it alone.", show_default=False),
]
Faulty = Annotated[
    str,
    typer.Option(
        help="Turns that were errors: drop (later turns still see them), keep, or episode to drop whole episodes."
    ),
]
PatchBudget = Annotated[
    int | None,
    typer.Option(
        min=1, help="Visual tokens that the pictures of a row may have. (default: no limit)", show_default=False
    ),
]
PerSample = Annotated[
    int | None,
    typer.Option(min=1, help="Episodes of a sample that are kept, the best first. (default: all)", show_default=False),
]
MixedOnly = Annotated[
    bool, typer.Option("--mixed-only", help="Leave out samples that every try, or no try, got right.")
]
Files = Annotated[
    str | None,
    typer.Option(
        help="parquet, which holds its pictures, or jsonl, which names them. (default: the form's)",
        show_default=False,
    ),
]
