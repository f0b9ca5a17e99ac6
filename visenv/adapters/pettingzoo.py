"""PettingZoo: two agents on one episode, an actor that calls tools, and a verifier of its answers.

Example:
    >>> from visenv.adapters.pettingzoo import ACCEPT, ActorVerifierEnv
    >>> env = ActorVerifierEnv("VisHarness/RefSeg-v0", split="val", experts="oracle")
    >>> observations, infos = env.reset(seed=0)
    >>> env.agents, infos["actor"]["phase"]
    (['actor', 'verifier'], 'act')
    >>> answer = {"name": "Answer", "arguments": {"text": "There is nothing."}}
    >>> _, _, _, _, infos = env.step({"actor": answer, "verifier": ACCEPT})
    >>> infos["verifier"]["phase"], infos["verifier"]["answer"]
    ('verify', 'There is nothing.')
    >>> _, rewards, terminations, _, _ = env.step({"actor": answer, "verifier": ACCEPT})
    >>> rewards["actor"] == rewards["verifier"], terminations, env.agents
    (True, {'actor': True, 'verifier': True}, [])
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from visenv.adapters.making import make_env
from visenv.errors import EpisodeOver, InvalidData, MissingDependency
from visenv.observation import Observation
from visenv.protocol.intake import checked, plain_action
from visenv.spaces import PHRASE_TOKENS, VOCABULARY, token_ids
from visenv.types import Answer, Malformed

try:
    from pettingzoo import AECEnv, ParallelEnv
    from pettingzoo.utils import parallel_to_aec
except ImportError as error:
    raise MissingDependency('visenv.adapters.pettingzoo needs PettingZoo: pip install "visenv[pettingzoo]".') from error

ACTOR, VERIFIER = "actor", "verifier"
SEND_BACK, ACCEPT = 0, 1
"""The verifier's actions."""
ACT, VERIFY = "act", "verify"
"""Whose action counts: the actor's, or, once it has answered, the verifier's."""
SENT_BACK = "The verifier has sent your answer back: look again."


class ActorVerifierEnv(ParallelEnv[str, Observation, Any]):
    """An actor calls tools; when it answers, a verifier accepts the answer, which ends the episode, or sends it back.

    Both act at every step, as parallel environments have it, but one action counts: ``infos[agent]["phase"]`` and the
    observation ``phase`` say whose. Sending back takes a turn of the actor, so that nothing goes on for ever. Both are
    paid what the episode pays.

    Observations are the environment's own, and ``phase`` (1,): 0 while the actor acts, 1 while its answer is verified;
    ``answer`` (8,): the ends of what it has answered, as token ids. Infos are the environment's, ``phase`` and
    ``answer``.

    Args:
        env_id: as ``gym.make`` takes it.
        **keywords: of the environment; ``action_mode`` is ``"discrete"`` unless said otherwise.

    Raises:
        VisenvError: as ``gym.make``.
    """

    def __init__(self, env_id: str, **keywords: Any) -> None:
        self.env = made = make_env(env_id, {"action_mode": "discrete", **keywords})
        self.metadata = {**made.metadata, "name": env_id.replace("/", "_"), "is_parallelizable": True}
        self.render_mode = made.render_mode
        self.possible_agents = [ACTOR, VERIFIER]
        self.agents: list[str] = []
        seen = made.observation_space
        assert isinstance(seen, spaces.Dict)
        own: dict[str, gym.Space[Any]] = {
            "phase": spaces.Box(0, 1, (1,), np.float32),
            "answer": spaces.Box(0, VOCABULARY - 1, (PHRASE_TOKENS,), np.int32),
        }
        self.observation_spaces = {agent: spaces.Dict({**seen.spaces, **own}) for agent in self.possible_agents}
        self.action_spaces = {ACTOR: made.action_space, VERIFIER: spaces.Discrete(2)}
        self._answer: Answer | None = None

    def observation_space(self, agent: str) -> gym.Space[Any]:
        """What an agent observes; the same for both."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> gym.Space[Any]:
        """What an agent does: the environment's actions, or 0 to send back and 1 to accept."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        """Begin an episode.

        Args:
            seed: of samples, and of what the action spaces draw.
            options: ``index`` or ``sample_id``; PettingZoo passes others on, which say nothing here.
        """
        known = {name: value for name, value in (options or {}).items() if name in ("index", "sample_id")}
        self.env.reset(seed=seed, options=known)
        if seed is not None:
            for number, space in enumerate(self.action_spaces.values()):
                space.seed(np.random.SeedSequence(seed).spawn(2)[number].generate_state(1)[0].item())
        self.agents, self._answer = list(self.possible_agents), None
        return self._observations(), self._infos()

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Take the actor's turn, or the verifier's decision on its answer.

        Args:
            actions: of both agents; the one whose phase it is not is not looked at.

        Raises:
            EpisodeOver: if there is no episode.
            InvalidData: if an action is missing, or the verifier's is neither 0 nor 1.
        """
        if not self.agents:
            raise EpisodeOver("The episode has ended, or none was begun: call reset().")
        if not isinstance(actions, Mapping):
            raise InvalidData(f"Expected an action by agent, but got {actions!r:.80}.")
        if missing := [agent for agent in self.agents if agent not in actions]:
            raise InvalidData(f"Expected an action of each agent, but got none of {', '.join(missing)}.")
        reward, terminated, truncated = self._advance(actions)
        observations, infos = self._observations(), self._infos()
        agents = self.agents
        if terminated or truncated:
            self.agents = []
        return (
            observations,
            dict.fromkeys(agents, reward),
            dict.fromkeys(agents, terminated),
            dict.fromkeys(agents, truncated),
            infos,
        )

    def _advance(self, actions: dict[str, Any]) -> tuple[float, bool, bool]:
        if self._answer is None:
            action = self.env.interpret(actions[ACTOR])
            action = self.env.episode.dialect.parse(action) if isinstance(action, (str, bytes)) else action
            answer = _as_answer(action)
            if answer is not None:
                self._answer = answer
                return 0.0, False, False
            taken: Any = action
        else:
            decision = np.asarray(actions[VERIFIER])
            if decision.shape != () or decision.dtype.kind not in "iu" or decision not in (SEND_BACK, ACCEPT):
                raise InvalidData(f"Expected the verifier's action to be 0 or 1, but got {actions[VERIFIER]!r:.80}.")
            taken = self._answer if decision == ACCEPT else Malformed("sent_back", SENT_BACK)
            self._answer = None
        _, reward, terminated, truncated, _ = self.env.step(taken)
        return float(reward), terminated, truncated

    def render(self) -> Any:
        """See ``VisionToolEnv.render``."""
        return self.env.render()

    def close(self) -> None:
        """See ``VisionToolEnv.close``."""
        self.env.close()

    def _observations(self) -> dict[str, Observation]:
        answer = "" if self._answer is None else self._answer.text
        own: Observation = {
            "phase": np.array([self._answer is not None], np.float32),
            "answer": token_ids(answer, PHRASE_TOKENS),
        }
        return {agent: {**self.env.observation(), **own} for agent in self.agents}

    def _infos(self) -> dict[str, dict[str, Any]]:
        own = {
            "phase": ACT if self._answer is None else VERIFY,
            "answer": None if self._answer is None else self._answer.text,
        }
        return {agent: {**self.env.info(), **own} for agent in self.agents}


def _as_answer(action: Any) -> Answer | None:
    """The answer that an action is, as the episode would take it; None if it is something else."""
    taken = checked(plain_action(action)) if isinstance(action, (Answer, Mapping)) else None
    return taken if isinstance(taken, Answer) else None


def aec_env(env_id: str, **keywords: Any) -> AECEnv[str, Any, Any]:
    """The same for agents that act one after the other.

    Args:
        env_id: as ``gym.make`` takes it.
        **keywords: of the environment.
    """
    made: AECEnv[str, Any, Any] = parallel_to_aec(ActorVerifierEnv(env_id, **keywords))
    return made
