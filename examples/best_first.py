# python -m knexa -cd . matchmaker=best_first federation=synthetic 'trusted_modules=[best_first]'
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from knexa.matchmaking import Matchmaker, Plan, RoundView
from knexa.profiles.layout import PASS_AT_1


@dataclass(frozen=True, kw_only=True)
class BestFirst(Matchmaker):
    """The larger the teacher's lead in recent pass@1, the better the pair."""

    noise: Annotated[float, Field(ge=0)] = 0.0

    def propose(self, view: RoundView) -> Plan:
        solves = view.profiles_NF[:, PASS_AT_1]
        leads = solves[:, None] - solves[None, :]  # [teacher, student]
        return view.match(leads + self.noise * view.rng.normal(size=leads.shape))
