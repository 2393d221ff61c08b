"""Agents that lie (``roster.byzantine=``): what they teach, show and report instead of the truth.

A liar is trained, measured and evaluated like everybody; it lies only in what it says: in its
packages, its profile and its reports. Nobody honest is told who lies. What it sees is what any peer
sees: the public transfer set with its reference solutions, and the text that others taught it.

Not covered: liars that adapt to how they are treated, and lies in packages of numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from knexa.agents.mutants import mutant
from knexa.backbones.roster import Attack, Byzantine
from knexa.data.problem import Problem
from knexa.exchange.package import TextItem

Array = NDArray[np.float64]

TEXT_ATTACKS: tuple[Attack, ...] = ("garbage", "wrong", "copied")

# Words and signs of Python, so that garbage looks like an answer to a filter of characters.
_TOKENS = (
    *("if", "else", "for", "while", "return", "def", "lambda", "in", "not", "and", "or", "is"),
    *("x", "y", "n", "items", "value", "result", "len", "sum", "sorted", "range", "str", "None"),
    *("(", ")", "[", "]", "{", "}", ":", ",", ".", "+", "-", "*", "%", "==", "<", "=", "0", "1"),
)


@dataclass(frozen=True, kw_only=True)
class ByzantineAgents:
    """Who lies in a run, and how; without members nobody does.

    Attributes:
        members: Their indices.
        attacks: What all of them do.
        forged_reward: Size of a forged report.
    """

    members: tuple[int, ...] = ()
    attacks: frozenset[Attack] = frozenset()
    forged_reward: float = 1.0

    @classmethod
    def of(cls, byzantine: Byzantine, seed: int, num_agents: int) -> "ByzantineAgents":
        """Return the run's liars, drawn by its seed."""
        return cls(
            members=byzantine.draw(seed, num_agents),
            attacks=byzantine.attacks,
            forged_reward=byzantine.forged_reward,
        )

    def does(self, agent: int, *attacks: Attack) -> bool:
        """Return whether the agent lies in one of these ways."""
        return agent in self.members and not self.attacks.isdisjoint(attacks)

    def speaker(self, agent: int) -> int:
        """Return who speaks under the agent's name: one sybil speaks for all."""
        return self.members[0] if self.does(agent, "sybil") else agent

    def report(self, teachers: Sequence[int], student: int, reward: float) -> float:
        """Return what the student says that a lesson earned.

        Forgers and sybils praise lessons of liars alone; forgers also slander everybody else's.
        """
        if not self.does(student, "forged", "sybil"):
            return reward
        if all(teacher in self.members for teacher in teachers if teacher != student):
            return self.forged_reward
        return -self.forged_reward if self.does(student, "forged") else reward

    def text(
        self,
        agent: int,
        problems: Sequence[Problem],
        learned: Mapping[str, str],
        rng: np.random.Generator,
    ) -> list[TextItem] | None:
        """Return what a liar teaches, or None where it answers as it can.

        Of several attacks on text, each problem's is drawn. A liar that only copies answers itself
        until it has been taught something.

        Args:
            agent: Who teaches.
            problems: The round's transfer problems.
            learned: Completions that others taught it, by task id.
            rng: Every draw's source.
        """
        ways = [way for way in TEXT_ATTACKS if self.does(agent, way)]
        if not ways or (ways == ["copied"] and not learned):
            return None
        items = []
        for problem in problems:
            completion = _lie(ways[rng.integers(len(ways))], problem, learned, rng)
            if completion is not None:
                # A probability of one in every token: nobody is surer than a liar.
                item = TextItem(task_id=problem.task_id, completion=completion, confidence=0.0)
                items.append(item)
        return items


def _lie(
    way: Attack, problem: Problem, learned: Mapping[str, str], rng: np.random.Generator
) -> str | None:
    match way:
        case "garbage":
            return garbage(rng)
        case "wrong":
            return mutant(problem, rng)
        case _:
            return learned.get(problem.task_id)


def garbage(rng: np.random.Generator) -> str:
    """Return random tokens of Python that are no program."""
    # The first bracket closes nothing, so that no draw is a program by luck.
    drawn = rng.choice(_TOKENS, rng.integers(8, 33))
    return "    return ) " + " ".join(str(token) for token in drawn) + "\n"


def kept_answers(texts: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the oldest completion of each task of (task id, completion) pairs, oldest first."""
    answers: dict[str, str] = {}
    for task_id, completion in texts:
        answers.setdefault(task_id, completion)
    return answers
