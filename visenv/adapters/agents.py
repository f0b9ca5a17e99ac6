r"""PettingZoo: VipAct's orchestrator and its specialists, each an agent of its own, on one episode.

Example:
    >>> from visenv.adapters.agents import CAPTIONER, ORCHESTRATOR, SpecialistsEnv
    >>> env = SpecialistsEnv("VisHarness/Blink-v0", split="val", difficulty=0)
    >>> env.reset(seed=0)
    >>> env.agent_selection
    'orchestrator'
    >>> env.step({"name": "ImageCaptioning", "arguments": {"image": "img_0", "focus": "the cup"}})
    >>> env.agent_selection, env.observe(CAPTIONER)["text"]
    ('captioning', 'caption\nthe cup')
    >>> env.step("A red cup on the left.")
    >>> env.agent_selection, env.infos[ORCHESTRATOR]["reply"].splitlines()[0]
    ('orchestrator', 'img_0: A red cup on the left.')
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from visenv.adapters.making import make_env
from visenv.capabilities import Describe, Description, Request
from visenv.episode import Stepping
from visenv.errors import EpisodeOver, InvalidData, MissingDependency
from visenv.experts_making import make_experts
from visenv.experts_pool import ExpertPool
from visenv.images import letterbox
from visenv.spaces import PRINTABLE, SIDE, AnyText
from visenv.types import Pixels

try:
    from pettingzoo import AECEnv
except ImportError as error:
    raise MissingDependency('visenv.adapters.agents needs PettingZoo: pip install "visenv[pettingzoo]".') from error

ORCHESTRATOR, CAPTIONER, COMPARER, MARK_READER = "orchestrator", "captioning", "comparison", "visual_prompt"
SPECIALISTS = {"caption": CAPTIONER, "compare": COMPARER, "visual_prompt": MARK_READER}
"""Who is asked, by the task of ``Describe``."""
MOST_IMAGES = 8
"""Images that a specialist is shown at most."""
MAX_TEXT = 2_000
"""Characters of what a specialist is told, and of what it says that are kept."""
SILENCE = "I cannot say."
"""What a specialist is taken to have said that says nothing."""


TASKS = {
    "caption": "Describe this image precisely, above all: {focus}. Say only what can be seen.",
    "compare": "Compare these images, above all: {focus}. Say what they have in common and how each differs.",
    "visual_prompt": "Say which circles, boxes, arrows and letters mark this image, and what each is on.",
}
"""What a specialist's messages ask for; the words are our own."""


class SpecialistsEnv(AECEnv[str, Any, Any]):
    """An orchestrator calls tools; a call that asks a specialist makes that specialist the next to act.

    What a tool asks a ``Describe`` expert for is asked of an agent here: of ``captioning``, ``comparison`` or
    ``visual_prompt``. It observes the images that it was given and what it was told, and nothing else: not the
    question, not the conversation, no other image. Its action is a text, which goes back to the orchestrator as the
    tool's reply. All other experts answer as elsewhere. Every agent is paid what the episode pays.

    Observations: the orchestrator's are the environment's own. A specialist's are ``images`` (8, 128, 128, 3) uint8,
    the ones that it was given, letterboxed, then zeros; ``count`` (1,); and ``text``, the task and the focus. Before a
    specialist is asked, they are empty. At full size its images are in ``infos[agent]["images"]``.

    Args:
        env_id: as ``gym.make`` takes it; its tools should ask ``Describe``.
        experts_for: specialists, by name, that are no agents here: who plays them. ``{"captioning": expert}`` is asked
            in its place, an expert for ``Describe``, or the name of one (``"sight"``).
        **keywords: of the environment; ``action_mode`` is ``"text"`` for language models, ``"structured"`` unless said
            otherwise.

    Raises:
        InvalidData: if there is no specialist of a name, or what plays it is no expert for ``Describe``.
        VisenvError: as ``gym.make``.
    """

    def __init__(self, env_id: str, *, experts_for: Mapping[str, Any] | None = None, **keywords: Any) -> None:
        super().__init__()
        names = ", ".join(SPECIALISTS.values())
        if experts_for is not None and not isinstance(experts_for, Mapping):
            raise InvalidData(
                f"Expected experts_for to be experts by name, out of {names}, but got {experts_for!r:.80}."
            )
        given = dict(experts_for or {})
        if unknown := [name for name in given if name not in SPECIALISTS.values()]:
            raise InvalidData(f"Expected specialists out of {names}, but got {unknown[0]!r:.80}.")
        self.env = made = make_env(env_id, keywords)
        find = made.dataset.find
        self._stand_ins = {name: ExpertPool(make_experts({"Describe": who}, find)) for name, who in given.items()}
        for pool in self._stand_ins.values():
            pool.check(["Describe"])
        self.metadata = {**made.metadata, "name": f"{env_id.replace('/', '_')}_agents", "is_parallelizable": False}
        self.render_mode = made.render_mode
        self.possible_agents = [ORCHESTRATOR, *(name for name in SPECIALISTS.values() if name not in given)]
        asked = spaces.Dict(
            {
                "images": spaces.Box(0, 255, (MOST_IMAGES, SIDE, SIDE, 3), np.uint8),
                "count": spaces.Box(0, MOST_IMAGES, (1,), np.int32),
                "text": AnyText(MAX_TEXT),
            }
        )
        self.observation_spaces = {name: asked for name in self.possible_agents} | {
            ORCHESTRATOR: made.observation_space
        }
        said = {name: spaces.Text(256, min_length=0, charset=PRINTABLE) for name in self.possible_agents}
        self.action_spaces: dict[str, gym.Space[Any]] = {**said, ORCHESTRATOR: made.action_space}
        self.agents: list[str] = []
        self.agent_selection = ORCHESTRATOR
        self._stepping: Stepping | None = None
        self._requests: list[Request] = []
        self._answers: list[Any] = []

    def observation_space(self, agent: str) -> gym.Space[Any]:
        """What an agent observes."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> gym.Space[Any]:
        """What an agent does: the environment's actions, or a text."""
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Begin an episode.

        Args:
            seed: of samples, and of what the action spaces draw.
            options: ``index`` or ``sample_id``; PettingZoo passes others on, which say nothing here.
        """
        known = {name: value for name, value in (options or {}).items() if name in ("index", "sample_id")}
        self.env.reset(seed=seed, options=known)
        if seed is not None:
            children = np.random.SeedSequence(seed).spawn(len(self.possible_agents))
            for agent, child in zip(self.possible_agents, children, strict=True):
                self.action_spaces[agent].seed(child.generate_state(1)[0].item())
        self.agents = list(self.possible_agents)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self._stepping, self._requests, self._answers = None, [], []
        self.agent_selection = ORCHESTRATOR
        self._tell()

    def step(self, action: Any) -> None:
        """Take the turn of ``agent_selection``: the orchestrator's action, or what a specialist says.

        Raises:
            EpisodeOver: if there is no episode.
        """
        if not self.agents:
            raise EpisodeOver("The episode has ended, or none was begun: call reset().")
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        if agent == ORCHESTRATOR:
            self._stepping = self.env.stepping(action)
            self._go_on(None)
        else:
            text = action if isinstance(action, str) else ""
            self._answers.append(Description(_plain(text) or SILENCE))
            self._ask()
        self._accumulate_rewards()

    def _go_on(self, results: Sequence[Any] | None) -> None:
        """Run the episode's step to its next requests, or to its end."""
        assert self._stepping is not None
        try:
            self._requests = next(self._stepping) if results is None else self._stepping.send(results)
        except StopIteration as stop:
            self._stepping, self._requests = None, []
            result = self.env.finish(stop.value)
            self.rewards = dict.fromkeys(self.agents, float(result.reward))
            self.terminations = dict.fromkeys(self.agents, result.terminated)
            self.truncations = dict.fromkeys(self.agents, result.truncated)
            self.agent_selection = ORCHESTRATOR
            self._tell()
            return
        self._answers = []
        self._ask()

    def _ask(self) -> None:
        """Answer the requests in order, up to one that an agent has to answer."""
        while len(self._answers) < len(self._requests):
            request = self._requests[len(self._answers)]
            name = SPECIALISTS[request.task] if isinstance(request, Describe) else None
            if name in self.possible_agents:
                self.agent_selection = str(name)
                self._tell()
                return
            pool = self.env.pool if name is None else self._stand_ins[name]
            self._answers.append(_asked(pool, request))
        self._go_on(self._answers)

    def observe(self, agent: str) -> Any:
        """What an agent sees: the orchestrator the episode, a specialist what it was given and nothing else.

        Raises:
            InvalidData: if there is no such agent.
            EpisodeOver: if no episode was begun.
        """
        if agent == ORCHESTRATOR:
            return self.env.observation()
        request = self._request_of(agent)
        images = np.zeros((MOST_IMAGES, SIDE, SIDE, 3), np.uint8)
        if request is None:
            return {"images": images, "count": np.zeros(1, np.int32), "text": ""}
        shown = _pictures(request)
        for place, pixels in enumerate(shown):
            images[place] = letterbox(pixels, SIDE)[0]
        text = f"{request.task}\n{request.focus}"[:MAX_TEXT]
        return {"images": images, "count": np.array([len(shown)], np.int32), "text": text}

    def messages(self, agent: str) -> list[dict[str, Any]]:
        """What an agent sees as messages, for an endpoint: the orchestrator's conversation, or a specialist's one task.

        Returns:
            Roles and content blocks as ``Episode.messages`` has them; none for a specialist that is not asked now.

        Raises:
            InvalidData: if there is no such agent.
            EpisodeOver: if no episode was begun.
        """
        if agent == ORCHESTRATOR:
            return self.env.episode.messages()
        request = self._request_of(agent)
        if request is None:
            return []
        content: list[dict[str, Any]] = [{"type": "text", "text": TASKS[request.task].format(focus=request.focus)}]
        for place, pixels in enumerate(_pictures(request)):
            content.append({"type": "image", "image": pixels, "name": f"image {place + 1}"})
        return [{"role": "user", "content": content}]

    def render(self) -> Any:
        """See ``VisionToolEnv.render``."""
        return self.env.render()

    def close(self) -> None:
        """See ``VisionToolEnv.close``."""
        self.env.close()

    def _request_of(self, agent: str) -> Describe | None:
        """What an agent is asked now; None if it is not its turn."""
        if agent not in self.possible_agents:
            raise InvalidData(f"Expected one of {', '.join(self.possible_agents)}, but got {agent!r:.80}.")
        if agent != self.agent_selection or len(self._answers) >= len(self._requests):
            return None
        request = self._requests[len(self._answers)]
        return request if isinstance(request, Describe) else None

    def _tell(self) -> None:
        """Write the infos: the episode's for the orchestrator, what it was given for a specialist."""
        self.infos: dict[str, dict[str, Any]] = {}
        for agent in self.agents:
            if agent == ORCHESTRATOR:
                self.infos[agent] = self.env.info()
                continue
            request = self._request_of(agent)
            self.infos[agent] = (
                {} if request is None else {"task": request.task, "focus": request.focus, "images": _pictures(request)}
            )


def play(env: SpecialistsEnv, players: Mapping[str, Any], *, seed: int | None = None, **options: Any) -> float:
    """Play an episode to its end, each agent by a player of its own.

    Args:
        env: the environment.
        players: by agent; one that has ``act`` is a policy, and is shown the episode (the orchestrator alone may be
            one); any other is called with the agent's messages, and returns a text: a function around an endpoint.
        seed: of the episode.
        **options: ``index`` or ``sample_id``.

    Returns:
        What the episode paid.

    Raises:
        InvalidData: if an agent has no player, or a specialist's is a policy.
    """
    for agent in env.possible_agents:
        if agent not in players or (agent != ORCHESTRATOR and hasattr(players[agent], "act")):
            raise InvalidData(f"Expected a player for {agent!r}, a function of messages that returns a text.")
    env.reset(seed=seed, options=options)
    head = players[ORCHESTRATOR]
    if hasattr(head, "act"):
        head.reset(env.env, np.random.SeedSequence(seed))
    paid = 0.0
    while not env.terminations[ORCHESTRATOR] and not env.truncations[ORCHESTRATOR]:
        agent = env.agent_selection
        player = players[agent]
        env.step(player.act(env.env.episode) if hasattr(player, "act") else player(env.messages(agent)))
        paid += env.rewards[ORCHESTRATOR]
    return paid


def _pictures(request: Describe) -> list[Pixels]:
    return [view.pixels for view in (request.view, *request.others)][:MOST_IMAGES]


def _plain(text: str) -> str:
    """What a specialist says, cut, without what cannot be written as UTF-8."""
    return text[:MAX_TEXT].encode("utf-8", errors="replace").decode("utf-8").strip()


def _asked(pool: ExpertPool, request: Request) -> Any:
    """What an expert answers to one request."""
    (result,) = pool.answer([request])
    return result
