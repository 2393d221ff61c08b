"""The Central Profiler/Matchmaker: the only party that sees everybody, and how little it sees.

It takes profiles and scalar rewards. Data, adapters and knowledge packages never reach it. Axes: N
agents, F profile features, K feedbacks, d context features.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from knexa.matchmaking.base import (
    Array,
    Context,
    Feedback,
    Matching,
    Matchmaker,
    Plan,
    Probe,
    RoundView,
)
from knexa.matchmaking.rewards import LocalLoss


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
    """

    def __init__(
        self,
        *,
        matchmaker: Matchmaker,
        context: Context,
        matching: Matching,
        reward: LocalLoss,
        protocol: str,
        num_profile_features: int,
        num_pairs: int | None = None,
    ) -> None:
        self.matchmaker = matchmaker
        self.context = context
        self.matching = matching
        self.protocol = matchmaker.protocol or protocol
        self.num_pairs = num_pairs
        self._normalizer = reward.normalizer()
        # Directive id -> the context that the choice was made on; None where there is nothing to
        # learn from: the directive is no pair, or the policy does not learn.
        self._pending: dict[str, Array | None] = {}
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
    ) -> Plan:
        """Return the round's plan and remember the context behind each pair.

        Args:
            round: 1-based round number.
            profiles_NF: The newest profiles.
            rng: The round's generator.
            probe: Shown only to a policy that declares ``needs = {"probes"}``.

        Raises:
            ValueError: When the policy needs a probe and there is none, or when a directive's id is
                already waiting for feedback.
        """
        view = self._view(round, profiles_NF, rng, probe)
        plan = self.matchmaker.propose(view)
        pending: dict[str, Array | None] = {}
        for directive in plan:
            if directive.id in self._pending or directive.id in pending:
                raise ValueError(
                    f"directive {directive.id!r} was issued before; ids must be unique"
                )
            pair = directive.pair
            learnable = self._learns and pair is not None
            pending[directive.id] = view.contexts()[pair].copy() if learnable else None
        self._pending.update(pending)
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
        contexts = [self._pending.pop(feedback.directive_id) for feedback in feedbacks]
        rows = [context for context in contexts if context is not None]
        if rows:
            learnable_K = np.array([context is not None for context in contexts])
            self.matchmaker.learn(np.stack(rows), rewards_K[learnable_K])
        return [float(reward) for reward in rewards_K]

    def state_dict(self) -> dict[str, Any]:
        """Return the policy's state, the reward statistics and the unanswered directives.

        Dictionaries, lists, arrays, numbers, strings and None only.
        """
        waiting = [id_ for id_, context in self._pending.items() if context is not None]
        rows = [context for context in self._pending.values() if context is not None]
        return {
            "matchmaker": self.matchmaker.state_dict(),
            "reward": self._normalizer.state_dict(),
            "pending": list(self._pending),
            "pending_with_context": waiting,
            "pending_contexts": np.stack(rows) if rows else np.zeros((0, 0)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned; the run then continues bit for bit."""
        self.matchmaker.load_state_dict(state["matchmaker"])
        self._normalizer.load_state_dict(state["reward"])
        rows = dict(zip(state["pending_with_context"], state["pending_contexts"], strict=True))
        self._pending = {
            id_: np.array(rows[id_], dtype=np.float64) if id_ in rows else None
            for id_ in state["pending"]
        }

    def _view(
        self, round: int, profiles_NF: Array, rng: np.random.Generator, probe: Probe | None
    ) -> RoundView:
        """Return what the policy may see."""
        if "probes" not in self.matchmaker.needs:
            probe = None
        elif probe is None:
            name = type(self.matchmaker).__name__
            raise ValueError(f"{name} needs the probe of every round; round {round} has none")
        num_pairs = len(profiles_NF) // 2 if self.num_pairs is None else self.num_pairs
        return RoundView(
            round=round,
            profiles_NF=profiles_NF,
            context=self.context,
            matching=self.matching,
            num_pairs=num_pairs,
            protocol=self.protocol,
            rng=rng,
            probe=probe,
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
