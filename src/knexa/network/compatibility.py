"""What all organisations must configure alike, and which configurations work over a network.

Every organisation composes the configuration for itself, as ``python -m knexa`` does. A hash of the
shared part is compared at registration. What each organisation chooses for itself (data, training,
guardrail, evaluation, engine) is not in it.
"""

import hashlib
import json
import logging
from dataclasses import dataclass
from typing import Any

from knexa.errors import UserError
from knexa.federation.settings import LLMSettings, Settings
from knexa.federation.simulated_network.faults import Faults
from knexa.matchmaking.answers import NO_TOPICS, TransferTopics
from knexa.matchmaking.arrays import Mask
from knexa.network.authority import MATCHMAKER, check_name
from knexa.network.messages import PROTOCOL_VERSION
from knexa.recipe import RECIPE

log = logging.getLogger(__name__)

_ALIKE = ("seed", "federation", "topics", "exchange", "profile", "reward", "privacy")
_OWN = ("matchmaker", "context", "matching")


@dataclass(frozen=True, kw_only=True)
class ServedAgents:
    """What the matchmaker knows of the agents before they register; any two may be paired."""

    num_agents: int
    protocol_name: str
    admissible_NN: Mask | None = None
    topics: TransferTopics = NO_TOPICS


def agreement(settings: Settings) -> str:
    """Return the SHA-256 (hex) of what all organisations must configure alike.

    Topics that each of them finds for itself are in it as they were found: whoever's software finds
    others is refused.
    """
    config = settings.config
    alike: dict[str, Any] = {key: config[key] for key in _ALIKE if key in config}
    alike["agents"] = config["roster"]["agents"]
    # The transfer and test sets are shared; where an organisation keeps the files is its own.
    alike["data"] = {key: value for key, value in config["data"].items() if key != "path"}
    if settings.topics.of_prompts and settings.data is not None:
        public = settings.data.load().transfer
        found = settings.topics.find(public, public)
        alike["found"] = [(each.task_id, topic) for each, topic in zip(public, found, strict=True)]
    document = json.dumps([PROTOCOL_VERSION, RECIPE, alike], sort_keys=True, default=str)
    return hashlib.sha256(document.encode()).hexdigest()


def matchmaker_agreement(settings: Settings) -> str:
    """Return the SHA-256 (hex) of the configuration that a matchmaker's checkpoint belongs to."""
    own = {key: settings.config[key] for key in _OWN}
    document = json.dumps([agreement(settings), own], sort_keys=True, default=str)
    return hashlib.sha256(document.encode()).hexdigest()


def check_servable(settings: Settings) -> LLMSettings:
    """Return the settings, if separate organisations can and may do what they ask for.

    Raises:
        UserError: It needs something that only a run in one process has.
    """
    if not isinstance(settings, LLMSettings):
        raise UserError("only federation=llm has agents that could be processes of their own")
    for agent in settings.roster.agents:
        check_name(agent.name)
        if agent.name == MATCHMAKER:
            raise UserError(f"an agent cannot be called {MATCHMAKER}: that is the matchmaker")
    matchmaker, exchange = settings.matchmaker, settings.exchange
    if matchmaker.needs:
        raise UserError(
            f"matchmaker={settings.matchmaker_name} needs {', '.join(sorted(matchmaker.needs))}, "
            "which no organisation shows another; choose one that needs profiles and rewards alone"
        )
    if not exchange.pairs or matchmaker.num_servers:
        raise UserError(
            f"exchange={exchange.name} puts many teachers' packages together; over a network one "
            "peer teaches another: choose an exchange of pairs, such as akd_verified"
        )
    if exchange.common != "nothing":
        raise UserError(
            f"exchange={exchange.name} needs agents with the same {exchange.common}, which is not "
            "served over a network: choose one that carries text, such as akd_verified"
        )
    if settings.federation.faults != Faults():
        raise UserError("federation/faults simulates faults; over a network they are real: none")
    if settings.roster.byzantine.num:
        raise UserError(
            "roster.byzantine simulates Byzantine agents; over a network set it to num=0"
        )
    if settings.regret.every:
        log.info("regret is not measured: nobody sees what all agents would teach (regret=none)")
    return settings
