"""The Central Profiler/Matchmaker: the only party that sees everybody, and how little it sees.

It takes profiles and scalar rewards. Data, adapters and knowledge packages never reach it. Axes: N
agents, F profile features, K feedbacks, d context features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from knexa.matchmaking.base import (
    Array,
    Context,
    Feedback,
    Mask,
    Matching,
    Matchmaker,
    Plan,
    Probe,
    RoundView,
)
from knexa.matchmaking.ledger import Ledger
from knexa.matchmaking.rewards import Reward


@dataclass(frozen=True, slots=True)
class _Pending:
    """A directive without feedback yet: its pair, and the context that it was chosen on.

    ``pair`` is None where the directive is no pair; ``context_d`` also where the policy does not
    learn.
    """

    pair: tuple[int, int] | None
    context_d: Array | None


class CPM:
    """One matchmaker with its context, matching and reward, and the queue of unanswered directives.

    Args:
        matchmaker: The policy; the CPM owns its state from now on.
        context: How profiles become features of ordered pairs.
        matching: How scores become disjoint pairs.
        reward: Says how rewards are normalised before the policy learns.
        protocol: The exchange protocol of the config; a policy that dictates its own overrides it.
        num_profile_features: F.
        num_pairs: K_p; None is the paper's floor(N / 2).
        trust_column: The profile feature that the CPM fills in with the agent's trust (see
            ``Ledger.trust``); None: profiles have none.
        admissible_NN: Which ordered pairs the protocol can serve; None is all.
        mutual: Whether each pair teaches both ways.
    """

    def __init__(
        self,
        *,
        matchmaker: Matchmaker,
        context: Context,
        matching: Matching,
        reward: Reward,
        protocol: str,
        num_profile_features: int,
        num_pairs: int | None = None,
        trust_column: int | None = None,
        admissible_NN: Mask | None = None,
        mutual: bool = False,
    ) -> None:
        self.matchmaker = matchmaker
        self.context = context
        self.matching = matching
        self.protocol = matchmaker.protocol or protocol
        self.num_pairs = num_pairs
        self.trust_column = trust_column
        self.admissible_NN = admissible_NN
        self.mutual = mutual
        self.ledger = Ledger()
        self._normalizer = reward.normalizer()
        self._pending: dict[str, _Pending] = {}
        self._learns = type(matchmaker).learn is not Matchmaker.learn
        matchmaker.start(context.num_features(num_profile_features))

    @property
    def pending(self) -> tuple[str, ...]:
        """Ids of the directives that no feedback has answered yet, oldest first."""
        return tuple(self._pending)

    def propose(
        self,
        round: int,
        profiles_NF: Array,
        rng: np.random.Generator,
        probe: Probe | None = None,
        peer_losses_NN: Array | None = None,
    ) -> Plan:
        """Return the round's plan and remember the context behind each pair.

        Args:
            round: 1-based round number.
            profiles_NF: The newest profiles.
            rng: The round's generator.
            probe: Shown only to a policy that declares ``needs = {"probes"}``.
            peer_losses_NN: Shown only to a policy that declares ``needs = {"peer losses"}``.

        Raises:
            ValueError: When the policy needs what is not there, or when a directive's id is
                already waiting for feedback.
        """
        view = self._view(round, profiles_NF, rng, probe, peer_losses_NN)
        plan = self.matchmaker.propose(view)
        ids = [directive.id for directive in plan]
        seen = set(self._pending)
        for id_ in ids:
            if id_ in seen:
                raise ValueError(f"directive {id_!r} was issued before; ids must be unique")
            seen.add(id_)
        pairs = [directive.pair for directive in plan]
        known = [pair for pair in pairs if pair is not None]
        rows = iter(view.contexts_of(known) if self._learns and known else ())
        for id_, pair in zip(ids, pairs, strict=True):
            self._pending[id_] = _Pending(pair, None if pair is None else next(rows, None))
        return plan

    def receive(self, feedbacks: Sequence[Feedback]) -> list[float]:
        """Teach the policy these rewards, of this round or any earlier, and return them normalised.

        Each reward meets the context that its directive was chosen on. The batch is checked whole
        and then taken whole, in its order.

        Raises:
            ValueError: When a reward is not finite, or an id was never issued, was answered
                already, or comes twice; nothing is taken then.
        """
        if not feedbacks:
            return []
        self._check(feedbacks)
        raw_K = np.array([feedback.reward for feedback in feedbacks], dtype=np.float64)
        rewards_K = self._normalizer.normalize(raw_K)
        answered = [self._pending.pop(feedback.directive_id) for feedback in feedbacks]
        for pending, feedback in zip(answered, feedbacks, strict=True):
            if pending.pair is not None:
                self.ledger.record(*pending.pair, feedback.reward)
        rows = [pending.context_d for pending in answered if pending.context_d is not None]
        if rows:
            learnable_K = np.array([pending.context_d is not None for pending in answered])
            self.matchmaker.learn(np.stack(rows), rewards_K[learnable_K])
        return [float(reward) for reward in rewards_K]

    def state_dict(self) -> dict[str, Any]:
        """Return the policy's state, the reward statistics, the ledger and what is unanswered.

        Dictionaries, lists, arrays, numbers, strings and None only.
        """
        contexts = {
            id_: pending.context_d
            for id_, pending in self._pending.items()
            if pending.context_d is not None
        }
        return {
            "matchmaker": self.matchmaker.state_dict(),
            "reward": self._normalizer.state_dict(),
            "ledger": self.ledger.state_dict(),
            "pending": {
                id_: None if pending.pair is None else list(pending.pair)
                for id_, pending in self._pending.items()
            },
            "pending_with_context": list(contexts),
            "pending_contexts": np.stack(list(contexts.values())) if contexts else np.zeros((0, 0)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned; the run then continues bit for bit."""
        self.matchmaker.load_state_dict(state["matchmaker"])
        self._normalizer.load_state_dict(state["reward"])
        self.ledger.load_state_dict(state["ledger"])
        rows = dict(zip(state["pending_with_context"], state["pending_contexts"], strict=True))
        self._pending = {
            id_: _Pending(
                None if pair is None else (int(pair[0]), int(pair[1])),
                np.array(rows[id_], dtype=np.float64) if id_ in rows else None,
            )
            for id_, pair in state["pending"].items()
        }

    def _view(
        self,
        round: int,
        profiles_NF: Array,
        rng: np.random.Generator,
        probe: Probe | None,
        peer_losses_NN: Array | None,
    ) -> RoundView:
        """Return what the policy may see."""
        needs, name = self.matchmaker.needs, type(self.matchmaker).__name__
        if "probes" in needs and probe is None:
            raise ValueError(f"{name} needs the probe of every round; round {round} has none")
        if "peer losses" in needs and peer_losses_NN is None:
            raise ValueError(f"{name} needs the peer losses of every round; round {round} has none")
        num_agents = len(profiles_NF)
        if self.trust_column is not None:
            profiles_NF = profiles_NF.copy()
            profiles_NF[:, self.trust_column] = self.ledger.trust(num_agents)
        return RoundView(
            round=round,
            profiles_NF=profiles_NF,
            context=self.context,
            matching=self.matching,
            num_pairs=num_agents // 2 if self.num_pairs is None else self.num_pairs,
            protocol=self.protocol,
            rng=rng,
            ledger=self.ledger,
            admissible_NN=self.admissible_NN,
            mutual=self.mutual,
            probe=probe if "probes" in needs else None,
            peer_losses_NN=peer_losses_NN if "peer losses" in needs else None,
        )

    def _check(self, feedbacks: Sequence[Feedback]) -> None:
        """Raise ValueError where a feedback cannot be taken."""
        seen: set[str] = set()
        for feedback in feedbacks:
            if feedback.directive_id in seen:
                raise ValueError(f"feedback on directive {feedback.directive_id!r} comes twice")
            seen.add(feedback.directive_id)
            if feedback.directive_id not in self._pending:
                raise ValueError(
                    f"feedback on directive {feedback.directive_id!r}, which was never issued "
                    "or has been answered already"
                )
            if not np.isfinite(feedback.reward):
                raise ValueError(
                    f"feedback on directive {feedback.directive_id!r}: reward {feedback.reward} is "
                    "not finite"
                )
