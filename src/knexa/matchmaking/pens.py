"""PENS: learn from the peers whose text has a low loss under one's own model."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from knexa.matchmaking.arrays import Array
from knexa.matchmaking.base import Matchmaker
from knexa.matchmaking.plans import Plan
from knexa.matchmaking.round_view import RoundView


@dataclass(frozen=True, kw_only=True)
class PENS(Matchmaker):
    """Performance-based neighbour selection (Onoszko et al. 2021), of text.

    In the paper each client samples peers' models, measures their loss on its own data and merges
    the ``m`` best. Here a peer's loss is the student's loss on the peer's text, of arms with topics
    on its answers on the topic. An arm's score is the student's mean loss over all peers less its
    loss on the teacher's text, and the configured selection chooses among each student's
    ``num_top`` best of ``num_sampled`` random peers. (Without subtracting the mean, pairs of
    students with low losses would always be chosen.) The paper's second phase, a fixed
    neighbourhood, is left out.

    Attributes:
        num_sampled: How many random peers each student considers a round; None is all.
        num_top: How many of them, those of lowest loss, may teach it; None is all. A small number
            can leave fewer disjoint pairs than the plan could hold.
    """

    name: ClassVar[str] = "pens"
    by_topic: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"peer losses"})

    num_sampled: Annotated[int, Field(ge=1)] | None = None
    num_top: Annotated[int, Field(ge=1)] | None = None

    def propose(self, view: RoundView) -> Plan:
        """Match by the losses of the candidates that each student kept."""
        if view.peer_losses is None:
            raise ValueError("PENS needs the round's peer losses")
        losses = np.where(np.isfinite(view.peer_losses), view.peer_losses, np.inf)
        everyone = np.arange(view.num_agents)
        losses[everyone, everyone] = np.inf
        if view.admissible_NN is not None:
            losses[~view.admissible_NN] = np.inf
        scores = _below_mean(losses)
        draws = np.where(np.isinf(losses), np.inf, view.rng.random(losses.shape))
        if self.num_sampled is not None:
            losses[_ranks(draws, draws) >= self.num_sampled] = np.inf
        if self.num_top is not None:
            losses[_ranks(losses, draws) >= self.num_top] = np.inf
        return view.match(np.where(np.isinf(losses), -np.inf, scores))


def _below_mean(losses: Array) -> Array:
    """Return each student's mean finite loss less the loss; 0 where the loss is infinite."""
    known = np.isfinite(losses)
    finite = np.where(known, losses, 0.0)
    means = finite.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(known, means[None] - finite, 0.0)


def _ranks(values: Array, ties: Array) -> Array:
    """Return each teacher's rank (0 is the lowest value) among those of a student (and topic)."""
    order = np.lexsort((ties, values), axis=0)
    return np.asarray(np.argsort(order, axis=0))
