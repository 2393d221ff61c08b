"""Simulated faults as a seeded schedule: absent agents, slow machines and links, lost packages.

Every draw is a pure function of (run seed, purpose, round, agent), so a schedule is the same after
an interruption and for every matchmaker.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import numpy as np
from pydantic import Field

from knexa.matchmaking.arrays import Array, Mask
from knexa.seeding import derive_rng

Rate = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(ge=1)]
PerSecond = Annotated[float, Field(gt=0)]
Seconds = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Rates of faults, and the machines and links that virtual time is computed from.

    Attributes:
        dropout: Chance that an agent leaves, drawn every round, also while it is away.
        max_absence: The most rounds of an absence, drawn uniformly from 1; absences may overlap.
        abrupt: Share of the leavers that leave in the middle of the round, after being matched.
        late_joiners: Share of the agents that are not there from the start.
        joined_by: The last round in which they join.
        stragglers: Share of the agents that compute slower.
        straggler_factor: How many times slower.
        slow_links: Share of the agents whose link is slow.
        slow_link_factor: How many times slower.
        lost: Chance that a package never arrives; this and the next four hold for each copy.
        duplicated: Chance that the network delivers a second copy, which has faults of its own.
        reordered: Chance that a package is delayed, so that later ones overtake it.
        truncated: Chance that a package arrives cut short.
        corrupted: Chance that a package arrives with bytes changed.
        max_delay_s: The longest delay of a reordered package or a second copy.
        timeout_s: Time without a package after which its directive is given up.
        restarts: Rounds after which the matchmaker is rebuilt from its checkpoint.
        train_tokens_s: Tokens that an agent at full speed trains on in a second.
        generate_tokens_s: Tokens that an agent at full speed generates in a second.
        link_kb_s: Kilobytes (1,024 bytes) that a link at full speed carries in a second.
        latency_s: Constant part of a package's travel time.
    """

    dropout: Rate = 0.0
    max_absence: Annotated[int, Field(ge=1)] = 3
    abrupt: Rate = 0.5
    late_joiners: Rate = 0.0
    joined_by: Annotated[int, Field(ge=2)] = 4
    stragglers: Rate = 0.0
    straggler_factor: Factor = 4.0
    slow_links: Rate = 0.0
    slow_link_factor: Factor = 20.0
    lost: Rate = 0.0
    duplicated: Rate = 0.0
    reordered: Rate = 0.0
    truncated: Rate = 0.0
    corrupted: Rate = 0.0
    max_delay_s: Seconds = 30.0
    timeout_s: Seconds = 60.0
    restarts: tuple[Annotated[int, Field(ge=1)], ...] = ()
    train_tokens_s: PerSecond = 1000.0
    generate_tokens_s: PerSecond = 500.0
    link_kb_s: PerSecond = 100.0
    latency_s: Seconds = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """The faults of one copy of a package.

    Attributes:
        lost: It never arrives.
        delay_s: Its delay.
        truncated: Share of it that arrives; None: all of it.
        flips: (place as a share of the length, mask that the byte is xor-ed with), for corruption.
        duplicate: It is the network's second copy.
    """

    lost: bool = False
    delay_s: float = 0.0
    truncated: float | None = None
    flips: tuple[tuple[float, int], ...] = ()
    duplicate: bool = False

    @property
    def faults(self) -> tuple[str, ...]:
        """The kinds of fault, as the run counts them; a lost copy has no other."""
        if self.lost:
            return ("lost",)
        kinds = {
            "reordered": self.delay_s > 0.0 and not self.duplicate,
            "truncated": self.truncated is not None,
            "corrupted": bool(self.flips),
        }
        return tuple(kind for kind, struck in kinds.items() if struck)

    def carry(self, data: bytes) -> bytes:
        """Return the bytes that arrive."""
        if self.truncated is not None:
            data = data[: int(self.truncated * len(data))]
        if self.flips and data:
            arrived = bytearray(data)
            for place, mask in self.flips:
                index = int(place * len(arrived))
                arrived[index] = data[index] ^ mask  # of the original, so no two flips cancel
            data = bytes(arrived)
        return data


@dataclass(frozen=True)
class Schedule:
    """The faults of one run. Axes: N agents."""

    faults: Faults
    seed: int
    num_agents: int

    def present(self, round_number: int) -> Mask:
        """Return present_N: the agents present at the beginning of the round."""
        faults, present_N = self.faults, np.ones(self.num_agents, dtype=np.bool_)
        if not faults.dropout and not faults.late_joiners:
            return present_N
        for agent in range(self.num_agents):
            joined = self._joined(agent)
            present_N[agent] = joined <= round_number and not any(
                self._is_away(left, agent, round_number)
                for left in range(max(joined, round_number - faults.max_absence), round_number + 1)
            )
        return present_N

    def leaving(self, round_number: int) -> frozenset[int]:
        """Return the agents that are present at the round's beginning but not at its end."""
        if not self.faults.dropout:
            return frozenset()
        present_N = self.present(round_number)
        return frozenset(
            agent
            for agent in range(self.num_agents)
            if present_N[agent] and self._departure(round_number, agent)[1] > 0
        )

    def _joined(self, agent: int) -> int:
        """Return the first round of the agent; 0: it is there from the start."""
        if not self.faults.late_joiners:
            return 0
        rng = derive_rng(self.seed, "fault-joins", agent)
        late, joined = rng.random(), int(rng.integers(2, self.faults.joined_by + 1))
        return joined if late < self.faults.late_joiners else 0

    def _departure(self, round_number: int, agent: int) -> tuple[bool, int]:
        """Return (leaves in mid-round, rounds away), with 0 rounds where the agent stays."""
        return _departure(self.faults, self.seed, round_number, agent)

    def _is_away(self, left: int, agent: int, round_number: int) -> bool:
        midway, rounds = self._departure(left, agent)
        first = left + 1 if midway else left
        return first <= round_number < first + rounds

    def speeds(self) -> Array:
        """Return speeds_N, as shares of full computing speed."""
        slow = 1.0 / self.faults.straggler_factor
        return self._slowed("fault-speed", self.faults.stragglers, slow)

    def links(self) -> Array:
        """Return links_N in kilobytes a second."""
        faults = self.faults
        slow = 1.0 / faults.slow_link_factor
        return faults.link_kb_s * self._slowed("fault-link", faults.slow_links, slow)

    def _slowed(self, purpose: str, share: float, slow: float) -> Array:
        draws_N = derive_rng(self.seed, purpose).random(self.num_agents)
        return np.where(draws_N < share, slow, 1.0)

    def copies(self, round_number: int, teacher: int, nth: int) -> tuple[Copy, ...]:
        """Return the copies of the ``nth`` (from 0) package that the teacher sends that round."""
        faults = self.faults
        if not any(
            (faults.lost, faults.duplicated, faults.reordered, faults.truncated, faults.corrupted)
        ):
            return (Copy(),)
        rng = derive_rng(self.seed, "fault-package", round_number, teacher, nth)
        first, second = self._copy(rng), self._copy(rng, duplicate=True)
        return (first, second) if rng.random() < faults.duplicated else (first,)

    def _copy(self, rng: np.random.Generator, *, duplicate: bool = False) -> Copy:
        faults = self.faults
        chances = rng.random(4)
        delay_s, cut = float(rng.uniform(0.0, faults.max_delay_s)), float(rng.uniform(0.0, 0.999))
        places, masks = rng.random(8), rng.integers(1, 256, 8)
        flips = tuple((float(p), int(m)) for p, m in zip(places, masks, strict=True))
        return Copy(
            lost=bool(chances[0] < faults.lost),
            delay_s=delay_s if duplicate or chances[1] < faults.reordered else 0.0,
            truncated=cut if chances[2] < faults.truncated else None,
            flips=flips[: int(rng.integers(1, 9))] if chances[3] < faults.corrupted else (),
            duplicate=duplicate,
        )


@lru_cache(maxsize=1 << 16)
def _departure(faults: Faults, seed: int, round_number: int, agent: int) -> tuple[bool, int]:
    if round_number < 1 or not faults.dropout:
        return False, 0
    rng = derive_rng(seed, "fault-departure", round_number, agent)
    leaves, abrupt = rng.random(2)
    rounds = int(rng.integers(1, faults.max_absence + 1))
    return bool(abrupt < faults.abrupt), rounds if leaves < faults.dropout else 0
