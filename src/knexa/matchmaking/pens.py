"""PENS: learn from the peers whose text has a low loss under one's own model."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from knexa.matchmaking.arrays import Array
from knexa.matchmaking.base import Matchmaker, Plan, RoundView


@dataclass(frozen=True, kw_only=True)
class PENS(Matchmaker):
    """Performance-based neighbour selection (Onoszko et al. 2021), as disjoint pairs of text.

    In the paper each client samples peers' models, measures their loss on its own data and merges
    the ``m`` best. Here a peer's loss is the student's loss on the peer's text, and an agent is in
    one pair at most: a pair's score is the student's mean loss over all peers less its loss on the
    teacher's text, and the configured matching chooses among each student's ``num_top`` best of
    ``num_sampled`` random peers. (Without subtracting the mean, students with low losses would
    always be chosen.) The paper's second phase, a fixed neighbourhood, is left out.

    Attributes:
        num_sampled: How many random peers each student considers a round; None is all.
        num_top: How many of them, those of lowest loss, may teach it; None is all. A small number
            can leave fewer disjoint pairs than the plan could hold.
    """

    name: ClassVar[str] = "pens"
    needs: ClassVar[frozenset[str]] = frozenset({"peer losses"})

    num_sampled: Annotated[int, Field(ge=1)] | None = None
    num_top: Annotated[int, Field(ge=1)] | None = None

    def propose(self, view: RoundView) -> Plan:
        """Match by the losses of the candidates that each student kept."""
        if view.peer_losses_NN is None:
            raise ValueError("PENS needs the round's peer losses")
        losses_NN = np.where(np.isfinite(view.peer_losses_NN), view.peer_losses_NN, np.inf)
        np.fill_diagonal(losses_NN, np.inf)
        if view.admissible_NN is not None:
            losses_NN[~view.admissible_NN] = np.inf
        scores_NN = _below_mean(losses_NN)
        draws_NN = np.where(np.isinf(losses_NN), np.inf, view.rng.random(losses_NN.shape))
        if self.num_sampled is not None:
            losses_NN[_ranks(draws_NN, draws_NN) >= self.num_sampled] = np.inf
        if self.num_top is not None:
            losses_NN[_ranks(losses_NN, draws_NN) >= self.num_top] = np.inf
        return view.match(np.where(np.isinf(losses_NN), -np.inf, scores_NN))


def _below_mean(losses_NN: Array) -> Array:
    """Return each student's mean finite loss less the loss; 0 where the loss is infinite."""
    known_NN = np.isfinite(losses_NN)
    finite_NN = np.where(known_NN, losses_NN, 0.0)
    means_N = finite_NN.sum(axis=0) / np.maximum(known_NN.sum(axis=0), 1)
    return np.where(known_NN, means_N[None, :] - finite_NN, 0.0)


def _ranks(values_NN: Array, ties_NN: Array) -> Array:
    """Return each teacher's rank (0 is the lowest value) within its student's column."""
    order_NN = np.lexsort((ties_NN, values_NN), axis=0)
    return np.asarray(np.argsort(order_NN, axis=0))
