"""One episode as a sans-IO state machine.

``Episode.step`` is a generator: it parses and validates an action, and where a tool needs a model it yields a list of
expert requests and is sent as many results. It never calls a model, opens a socket, sleeps or reads a clock; a driver
owns the waiting (``visenv.driving.drive`` is the immediate one). All that an episode knows is one frozen
``EpisodeState``, which a step replaces at its end: a step that is abandoned half-way leaves no trace.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import GeneratorType
from typing import Any, Protocol, TypeAlias, runtime_checkable

from visenv.capabilities import ExpertFailure, Request, Result
from visenv.conversation import Message, Shown, as_blocks, as_messages, in_view, plain_text
from visenv.errors import EpisodeOver, ExpertError, InvalidData
from visenv.memory import Latest, MemoryPolicy, Seen, TokenRule, VisualMemory, token_rule
from visenv.protocol import Dialect, get_dialect
from visenv.protocol.intake import checked, is_message, kept_text, plain_action, raw_text
from visenv.protocol.prompt import JOB, system_prompt
from visenv.tools.arguments import validate
from visenv.tools.base import Tool, ToolContext, ToolError
from visenv.types import (
    Action,
    Answer,
    FloatArray,
    Malformed,
    Outcome,
    Sample,
    Termination,
    ToolCall,
    ToolSpec,
    Truth,
    Turn,
)
from visenv.workspace import Effect, Overlay, Picture, Workspace

Stepping: TypeAlias = Generator[list[Request], Sequence["Result | ExpertFailure"], "StepResult"]


@runtime_checkable
class Reward(Protocol):
    """What an episode pays."""

    bounds: tuple[float, float]
    """The least and the most that one episode can pay in all."""

    def turn(self, turn: Turn) -> dict[str, float]:
        """What a turn pays, by term; charged for every turn."""
        ...

    def final(self, outcome: Outcome, truth: Truth) -> dict[str, float]:
        """What the end pays, by term; charged once, unless the episode is invalid."""
        ...


@runtime_checkable
class ProcessReward(Reward, Protocol):
    """A reward that also pays for what a turn has changed."""

    def progress(self, turn: Turn, before: Workspace, after: Workspace, truth: Truth) -> dict[str, float]:
        """What the change from one workspace to the next pays, by term; asked after every turn that counts."""
        ...


@dataclass(frozen=True)
class EpisodeConfig:
    """The rules of an episode."""

    tools: Mapping[str, Tool]
    reward: Reward
    max_turns: int = 10
    token_budget: int | None = None
    """Visual tokens that may be shown in all; None for no limit."""
    memory: MemoryPolicy = field(default_factory=Latest)
    tokens: TokenRule = field(default_factory=lambda: token_rule("qwen3_vl"))
    dialect: str = "qwen3_vl"
    job: str = JOB
    """What a model is told of its work, before the tools and the grammar; ``{max_turns}`` stands for their number."""
    show_inputs: bool = True
    """Whether the inputs are shown with the task; if not, they have to be asked for by name."""

    def __post_init__(self) -> None:
        get_dialect(self.dialect)
        if isinstance(self.reward, type) or not isinstance(self.reward, Reward):
            raise InvalidData(f"Expected reward to be an object with bounds, turn and final, but got {self.reward!r}.")
        for name, value in (("max_turns", self.max_turns), ("token_budget", self.token_budget)):
            if value is None and name == "token_budget":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidData(f"Expected {name} to be a whole number of at least 1, but got {value!r}.")


@dataclass(frozen=True)
class EpisodeState:
    """All that an episode knows between two steps."""

    sample: Sample
    workspace: Workspace
    memory: VisualMemory
    messages: tuple[Message, ...]
    visible: tuple[Shown, ...]
    """The pictures in view, oldest first; ``memory.visible`` has what they cost."""
    transcript: tuple[Turn, ...] = ()
    termination: Termination | None = None
    answer: str | None = None
    problem: str | None = None
    """Why the episode is invalid."""


@dataclass(frozen=True)
class StepResult:
    """What one step gives a trainer."""

    turn: Turn
    reward: float
    reward_terms: dict[str, float]
    terminated: bool
    truncated: bool


class Episode:
    """One agent at work on one sample.

    Args:
        config: the rules.
        sample: the images, the query, and the truth that only the reward gets to see.
    """

    def __init__(self, config: EpisodeConfig, sample: Sample) -> None:
        self.config = config
        self._state = self._begin(sample)

    def _begin(self, sample: Sample) -> EpisodeState:
        workspace = Workspace(sample.images)
        pictures = [Picture(name, image) for name, image in workspace.images.items()]
        memory = VisualMemory(self.config.memory, self.config.tokens)
        blocks: list[str | Shown] = [f"Task: {sample.query}\n"]
        shown: list[Shown] = []
        if self.config.show_inputs:
            memory, _ = memory.show(_sizes(pictures))
            shown = [Shown(key, picture) for key, picture in enumerate(pictures)]
            for block in shown:
                width, height = block.picture.size
                blocks += [f"{block.picture.name} ({width}x{height}):\n", block]
        else:
            blocks.append("".join(f"{name} ({width}x{height})\n" for name, (width, height), _ in _sizes(pictures)))
        return EpisodeState(sample, workspace, memory, (Message(tuple(blocks)),), in_view(shown, memory))

    # --- looking ----------------------------------------------------------------------------------------------------

    @property
    def sample_id(self) -> str:
        """The sample's identifier."""
        return self._state.sample.sample_id

    @property
    def query(self) -> str:
        """What is asked."""
        return self._state.sample.query

    @property
    def workspace(self) -> Workspace:
        """The named images and what was found on them."""
        return self._state.workspace

    @property
    def memory(self) -> VisualMemory:
        """What is in view, and what seeing has cost."""
        return self._state.memory

    @property
    def transcript(self) -> tuple[Turn, ...]:
        """The turns so far."""
        return self._state.transcript

    @property
    def turns(self) -> int:
        """Turns spent."""
        return len(self._state.transcript)

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._state.termination is not None

    @property
    def problem(self) -> str | None:
        """Why the episode is invalid; None if it is not."""
        return self._state.problem

    @property
    def outcome(self) -> Outcome:
        """What it has come to: all that rewards and metrics look at besides the truth."""
        return _outcome(self._state)

    @property
    def truth(self) -> Truth:
        """What it is scored against. For metrics and reports; no tool, expert or observation asks for it."""
        return self._state.sample.truth

    @property
    def dialect(self) -> Dialect:
        """How actions and replies are written."""
        return get_dialect(self.config.dialect)

    def pictures(self) -> list[Shown]:
        """Every picture shown so far, oldest first."""
        return [block for message in self._state.messages for block in message.blocks if isinstance(block, Shown)]

    def visible(self) -> list[Picture]:
        """The pictures in view, oldest first."""
        return [shown.picture for shown in self._state.visible]

    def newest_picture(self) -> Picture:
        """What to look at to see where the episode stands: the final result on ``img_0``, or the newest picture."""
        final = self.workspace.final
        if final is not None and self.done:
            return Picture("final", self.workspace.root, Overlay(detections=final))
        pictures = self.pictures()
        return pictures[-1].picture if pictures else Picture("img_0", self.workspace.root)

    def messages(self) -> list[dict[str, Any]]:
        """The conversation as a model sees it now: roles and content blocks, a placeholder for each archived picture.

        Returns:
            One ``{"role", "content"}`` a message, ``content`` a list of ``{"type": "text", "text"}`` and
            ``{"type": "image", "image", "name"}`` blocks, ``image`` (H, W, 3) uint8.
        """
        specs = [tool.spec for tool in self.config.tools.values()]
        system = system_prompt(specs, self.dialect, self.config.max_turns, self.config.job)
        return as_messages(system, self._state.messages, self._state.memory, self.dialect)

    def reply(self) -> list[dict[str, Any]]:
        """What the environment said last, as content blocks: the task, or the reply to the last turn.

        Nothing of the dialect is around it: for trainers that wrap the replies of tools themselves.
        """
        return as_blocks(self._state.messages[-1], self._state.memory)

    # --- stepping ---------------------------------------------------------------------------------------------------

    def step(self, action: Action | Mapping[str, Any] | str | bytes, finish_reason: str | None = None) -> Stepping:
        """Take one turn.

        Args:
            action: an action, ``{"name": …, "arguments": {…}}``, or what a model wrote, to be parsed in the dialect:
                its raw text, or (of ``openai``) the assistant message.
            finish_reason: why the model stopped writing; ``"length"`` means that its text was cut.

        Yields:
            Lists of expert requests; the generator is to be sent as many results (or failures), in order.

        Returns:
            What the turn came to. A bad action is a turn like any other, never an exception.

        Raises:
            EpisodeOver: if the episode has ended, or has moved on while this step was waiting.
        """
        before = self._state
        if before.termination is not None:
            raise EpisodeOver(
                f"The episode ended ({before.termination}) after {len(before.transcript)} turns: reset it."
            )
        text = raw_text(action)
        written = action if is_message(action) else text
        parsed = checked(self.dialect.parse(written, finish_reason) if written is not None else plain_action(action))
        came: Effect | Malformed | ExpertError | None = None
        if isinstance(parsed, ToolCall):
            came = yield from self._call(parsed, written=written is not None)
        elif isinstance(parsed, Malformed):
            came = parsed
        if self._state is not before:
            raise EpisodeOver("The episode has moved on while this step was waiting: it was not taken.")
        self._state, result = self._commit(before, parsed, came, text)
        return result

    def stop(self) -> dict[str, float]:
        """End the episode where it stands, without a turn: for trainers whose agent may simply call nothing any more.

        It counts as ended by the turn limit: what was merged last is scored, and nothing was said about there being
        nothing.

        Returns:
            What the end pays, by term.

        Raises:
            EpisodeOver: if it has ended already.
        """
        before = self._state
        if before.termination is not None:
            raise EpisodeOver(f"The episode ended ({before.termination}) already: reset it.")
        self._state = replace(before, termination="max_turns")
        terms = self.config.reward.final(self.outcome, before.sample.truth)
        return {name: float(value) for name, value in terms.items()}

    def _call(self, call: ToolCall, written: bool) -> Generator[list[Request], Sequence[Result | ExpertFailure], Any]:
        tool = self.config.tools.get(call.name)
        if tool is None and call.name == self.dialect.several:
            return Malformed("two_calls", "One call a turn can be carried out here: make the others in later turns.")
        if tool is None:
            names = ", ".join(self.config.tools)
            return Malformed("unknown_tool", f"There is no tool {call.name[:80]!r}. The tools are: {names}.")
        state, dialect = self._state, self.dialect
        context = ToolContext(
            state.workspace,
            state.sample.sample_id,
            len(state.transcript) + 1,
            self._write,
            lambda size: dialect.frame.describe(size, self.config.tokens.resized(*size)),
        )
        try:
            arguments = validate(tool.spec, call.arguments, state.workspace)
            if written:
                arguments = self._in_pixels(tool.spec, arguments)
            running = tool.run(arguments, context)
            return (yield from running) if isinstance(running, GeneratorType) else running
        except ToolError as error:
            return Malformed(error.code, error.message)
        except ExpertError as error:
            return error

    def _in_pixels(self, spec: ToolSpec, arguments: dict[str, Any]) -> dict[str, Any]:
        """Points and boxes that a model wrote, in pixels of the image that the call names, or else of ``img_0``."""
        workspace = self._state.workspace
        named = [arguments[argument.name] for argument in spec.arguments if argument.kind == "image"]
        size = workspace.images[named[0] if named else "img_0"].size
        shown = self.config.tokens.resized(*size)
        for argument in spec.arguments:
            if arguments[argument.name] is None:
                continue
            if argument.kind in ("point", "box"):
                pixels = self.dialect.frame.to_pixels(arguments[argument.name], size, shown)
                arguments = arguments | {argument.name: tuple(pixels.tolist())}
            elif argument.kind == "points":
                signed = arguments[argument.name]
                pixels = self.dialect.frame.to_pixels([point[:2] for point in signed], size, shown)
                points = tuple((*xy, point[2]) for xy, point in zip(pixels.tolist(), signed, strict=True))
                arguments = arguments | {argument.name: points}
        return arguments

    def _write(self, found: FloatArray, size: tuple[int, int]) -> list[list[float]]:
        """Coordinates in pixels of an image, as the dialect writes them."""
        return self.dialect.frame.write(found, size, self.config.tokens.resized(*size))

    def _commit(
        self, before: EpisodeState, action: Action, came: Effect | Malformed | ExpertError | None, text: str | None
    ) -> tuple[EpisodeState, StepResult]:
        index = len(before.transcript) + 1
        error = came if isinstance(came, Malformed) else None
        effect = came if isinstance(came, Effect) else None
        workspace = before.workspace.after(effect) if effect else before.workspace
        memory, archived = before.memory.turned(), _NOTHING
        pictures: list[Picture] = []
        if effect:
            pictures = [part for part in effect.reply if isinstance(part, Picture)]
            memory, archived = memory.show(_sizes(pictures))
        termination = self._termination(action, came, index, memory)
        blocks = self._reply(before, came, action, index, termination)
        visible = before.visible
        if effect:
            visible = in_view([*visible, *(block for block in blocks if isinstance(block, Shown))], memory)
            for shown in before.visible:
                if shown not in visible:
                    shown.picture.forget()
        turn = Turn(
            index=index,
            action=action,
            reply=plain_text(blocks),
            error=error,
            shown=tuple(picture.name for picture in pictures),
            archived=tuple(seen.name for seen in archived),
            created=tuple(image.name for image in effect.images) if effect else (),
            visual_tokens=memory.tokens,
            cut=error is not None and error.code == "cut",
            text=kept_text(text, action),
            tools=(effect.tools or (action.name,)) if effect and isinstance(action, ToolCall) else (),
        )
        state = EpisodeState(
            sample=before.sample,
            workspace=workspace,
            memory=memory,
            messages=(*before.messages, Message(tuple(blocks), turn)),
            visible=visible,
            transcript=(*before.transcript, turn),
            termination=termination,
            answer=action.text if isinstance(action, Answer) else effect.answer if effect else None,
            problem=str(came) if isinstance(came, ExpertError) else None,
        )
        return state, self._paid(before, state, turn)

    def _termination(self, action: Action, came: object, index: int, memory: VisualMemory) -> Termination | None:
        if isinstance(came, ExpertError):
            return "invalid"
        if isinstance(action, Answer) or (isinstance(came, Effect) and came.answer is not None):
            return "answer"
        if index >= self.config.max_turns:
            return "max_turns"
        if self.config.token_budget is not None and memory.spent > self.config.token_budget:
            return "token_budget"
        return None

    def _reply(
        self, before: EpisodeState, came: object, action: Action, index: int, termination: Termination | None
    ) -> list[str | Shown]:
        blocks: list[str | Shown] = []
        if isinstance(came, Effect):
            key = before.memory.shown
            for part in came.reply:
                if isinstance(part, Picture):
                    blocks += [Shown(key, part), "\n"]
                    key += 1
                else:
                    blocks.append(f"{part}\n")
        elif isinstance(came, Malformed):
            blocks.append(f"Error ({came.code}): {came.message}\n")
        elif isinstance(came, ExpertError):
            blocks.append("A vision expert is not available: the episode ends here and does not count.\n")
        left = self.config.max_turns - index
        blocks.append(f"Turns left: {left}." if termination is None else f"The episode has ended: {termination}.")
        return blocks

    def _paid(self, before: EpisodeState, state: EpisodeState, turn: Turn) -> StepResult:
        if state.termination == "invalid":
            return StepResult(turn, 0.0, {}, terminated=False, truncated=True)
        reward, truth = self.config.reward, state.sample.truth
        terms = reward.turn(turn)
        # A protocol's isinstance would take longer than many a turn.
        progress = getattr(reward, "progress", None)
        if progress is not None:
            terms = terms | progress(turn, before.workspace, state.workspace, truth)
        if state.termination is not None:
            terms = terms | reward.final(_outcome(state), truth)
        ended = state.termination is not None
        terms = {name: float(value) for name, value in terms.items()}
        return StepResult(turn, sum(terms.values()), terms, terminated=ended, truncated=False)

    # --- state ------------------------------------------------------------------------------------------------------

    def get_state(self) -> EpisodeState:
        """Everything about the episode but its rules; frozen, so that it needs no copy, and picklable."""
        return self._state

    def set_state(self, state: EpisodeState) -> None:
        """Go to a state that ``get_state`` gave; a step that is under way from another one will not be taken."""
        self._state = state


_NOTHING: tuple[Seen, ...] = ()


def _outcome(state: EpisodeState) -> Outcome:
    made = state.workspace.made
    worked = [name for turn in state.transcript for name in turn.tools]
    return Outcome(
        state.workspace.final,
        state.answer,
        state.termination,
        len(state.transcript),
        None if made is None else made.pixels,
        tuple(worked),
    )


def _sizes(pictures: Sequence[Picture]) -> list[tuple[str, tuple[int, int], bool]]:
    return [(picture.name, picture.size, picture.is_visualisation) for picture in pictures]
