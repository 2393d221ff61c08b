"""Random-P2P: the baseline that knows nothing."""

from dataclasses import dataclass

from knexa.matchmaking.base import Matchmaker, Plan, RoundView


@dataclass(frozen=True, kw_only=True)
class Random(Matchmaker):
    """Uniformly random disjoint pairs with uniformly random roles, anew each round."""

    def propose(self, view: RoundView) -> Plan:
        """Pair the agents along a random order; the configured matching is not asked."""
        order = view.rng.permutation(view.num_agents).tolist()
        num_pairs = min(view.num_pairs, view.num_agents // 2)
        return view.plan([(order[2 * k], order[2 * k + 1]) for k in range(num_pairs)])
