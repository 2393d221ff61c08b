"""The membership inference experiment: clients train and teach, an attacker reads their packages.

The candidates are a client's private problems: its training problems are the members; its
validation problems, drawn uniformly from the same share and never trained on, are the non-members.
Both have the same distribution over categories and templates, so any difference in scores is
leakage. (Validation problems influence profiles and rewards, and so who teaches whom.)

Every run has two controls: ``regurgitated`` replaces the client's packages with its own training
solutions, which every attack must detect; ``another's`` attacks it with the text of another client,
which must not succeed. Faults and probes are left out.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict

from knexa.data.partition import AgentData
from knexa.errors import UserError
from knexa.exchange.package import decode
from knexa.federation.experiment import build_cpm
from knexa.federation.llm.setup import LLMSetup
from knexa.federation.llm.world import LLMWorld
from knexa.federation.settings import LLMSettings, Settings
from knexa.matchmaking.cpm import CPM
from knexa.membership_inference.attacks import ATTACKS, Attack, Evidence, Tokens, tokens
from knexa.membership_inference.measures import power
from knexa.seeding import derive_rng

Sent = list[tuple[Tokens, ...]]
"""The texts of every client, in roster order."""


class _NoObserver:
    """Ignores the progress of phases."""

    def begin(self, phase: str, num_tasks: int) -> None: ...

    def done(self, phase: str, key: int, seconds: float) -> None: ...


def attack_run(settings: Settings) -> dict[str, dict[str, dict[str, float]]]:
    """Train the clients of one config and attack them.

    Returns:
        Power by evidence (``packages`` and the controls) and attack.

    Raises:
        UserError: The exchange sends no text, or the run cannot work as configured.
    """
    splits, sent = packages(settings)
    return attack_all(splits, sent, settings.seed)


def packages(settings: Settings) -> tuple[list[AgentData], Sent]:
    """Run the configured rounds; return the clients' data and the texts of all their packages.

    Clients that were not paired in a round make a package as well.
    """
    if not isinstance(settings, LLMSettings) or settings.exchange.carries != "text":
        raise UserError(
            "membership inference reads packages of text: choose federation=llm and an exchange "
            "that sends text, such as akd_verified"
        )
    with ExitStack() as stack:
        setup = LLMSetup(settings, stack)
        world = setup.world(_NoObserver())
        cpm = build_cpm(settings, world)
        sent: list[list[Tokens]] = [[] for _ in range(world.num_agents)]
        for number in range(1, settings.federation.num_rounds + 1):
            _run_round(settings, world, cpm, number, sent)
        return setup.runtime.splits, [tuple(texts) for texts in sent]


def _run_round(
    settings: Settings, world: LLMWorld, cpm: CPM, number: int, sent: list[list[Tokens]]
) -> None:
    needs, by_topic = cpm.matchmaker.needs, cpm.matching.by_topic
    world.begin_round(number)
    plan = cpm.propose(
        number,
        world.profiles(),
        rng=derive_rng(settings.seed, "matchmaker", number),
        probe=world.probe(number, by_topic=by_topic) if "probes" in needs else None,
        peer_losses=(
            world.peer_losses(number, by_topic=by_topic) if "peer losses" in needs else None
        ),
    )
    for texts, (package, _) in zip(sent, world.taught(number, range(len(sent))), strict=True):
        texts += [tokens(item.completion) for item in decode(package.text).items]
    exchanges = world.commit(number, world.try_learning(number, plan))
    cpm.receive([e.feedback() for e in exchanges])


def attack_all(
    splits: Sequence[AgentData], sent: Sent, seed: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Return every attack's power on the packages and on the two controls."""
    evidence: Mapping[str, list[Evidence]] = {
        "packages": [_evidence(sent, client, client) for client in range(len(sent))],
        "regurgitated": [
            Evidence(
                tuple(tokens(problem.canonical_solution) for problem in data.train),
                _evidence(sent, client, client).others,
            )
            for client, data in enumerate(splits)
        ],
        # Contains none of the attacked client's own texts.
        "another's": [
            _evidence(sent, (client + 1) % len(sent), client) for client in range(len(sent))
        ],
    }
    return {
        kind: {
            name: asdict(power(*scores(attack, splits, held), derive_rng(seed, "membership")))
            for name, attack in ATTACKS.items()
        }
        for kind, held in evidence.items()
    }


def _evidence(sent: Sent, own: int, left_out: int) -> Evidence:
    others = (texts for client, texts in enumerate(sent) if client not in (own, left_out))
    return Evidence(sent[own], tuple(text for texts in others for text in texts))


def scores(
    attack: Attack, splits: Sequence[AgentData], held: Sequence[Evidence]
) -> tuple[list[float], list[float]]:
    """Return the scores of all members and of all non-members, each less its client's mean.

    An attacker knows that mean; subtracting it allows one threshold for all clients.
    """
    ins: list[float] = []
    outs: list[float] = []
    for data, evidence in zip(splits, held, strict=True):
        found = attack(evidence, (*data.train, *data.validation))
        mean = sum(found) / len(found)
        ins += [score - mean for score in found[: len(data.train)]]
        outs += [score - mean for score in found[len(data.train) :]]
    return ins, outs
