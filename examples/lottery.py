# python -m knexa -cd . matching=lottery federation=synthetic 'trusted_modules=[lottery]'
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from knexa.matchmaking import Array, Matching
from knexa.matchmaking.matchings import Greedy


@dataclass(frozen=True, kw_only=True)
class Lottery(Matching):
    """Pairs are drawn one after another, each with a chance of softmax(score / temperature)."""

    temperature: Annotated[float, Field(gt=0)] = 0.1

    def match(
        self, scores_NN: Array, num_pairs: int, rng: np.random.Generator
    ) -> list[tuple[int, int]]:
        # The largest of scores with Gumbel noise is such a draw; -inf stays -inf.
        noise_NN = self.temperature * rng.gumbel(size=scores_NN.shape)
        return Greedy().match(scores_NN + noise_NN, num_pairs, rng)
