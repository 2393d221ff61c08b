"""Byzantine agents (``roster.byzantine=``): agents that lie in packages, profiles and reports.

They are trained, measured and evaluated like all others, and honest agents are not told who they
are. They know what any peer knows: the public transfer set with its reference solutions, and the
text that others taught them.

Not covered: agents that adapt to how they are treated, and lies in packages of numbers.
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

# Tokens of Python, so that a filter of characters takes garbage for an answer.
_TOKENS = (
    *("if", "else", "for", "while", "return", "def", "lambda", "in", "not", "and", "or", "is"),
    *("x", "y", "n", "items", "value", "result", "len", "sum", "sorted", "range", "str", "None"),
    *("(", ")", "[", "]", "{", "}", ":", ",", ".", "+", "-", "*", "%", "==", "<", "=", "0", "1"),
)


@dataclass(frozen=True, kw_only=True)
class ByzantineAgents:
    """The Byzantine agents of a run, and their attacks.

    Attributes:
        members: Their indices; empty where everybody is honest.
        attacks: What all of them do.
        forged_reward: Size of a forged reward.
    """

    members: tuple[int, ...] = ()
    attacks: frozenset[Attack] = frozenset()
    forged_reward: float = 1.0

    @classmethod
    def of(cls, byzantine: Byzantine, seed: int, num_agents: int) -> "ByzantineAgents":
        """Return the run's Byzantine agents, drawn by its seed."""
        return cls(
            members=byzantine.draw(seed, num_agents),
            attacks=byzantine.attacks,
            forged_reward=byzantine.forged_reward,
        )

    def does(self, agent: int, *attacks: Attack) -> bool:
        """Return whether the agent makes one of these attacks."""
        return agent in self.members and not self.attacks.isdisjoint(attacks)

    def speaker(self, agent: int) -> int:
        """Return who writes the agent's packages: the first sybil writes those of all sybils."""
        return self.members[0] if self.does(agent, "sybil") else agent

    def report(self, teachers: Sequence[int], student: int, reward: float) -> float:
        """Return the reward that the student reports for an exchange."""
        match self.praises(teachers, student):
            case None:
                return reward
            case praised:
                return self.forged_reward if praised else -self.forged_reward

    def praises(self, teachers: Sequence[int], student: int) -> bool | None:
        """Return whether the student's report lies in favour of its teachers or against them.

        None where it does not lie. Forgers and sybils praise Byzantine teachers; forgers also
        report a loss from all others.
        """
        if not self.does(student, "forged", "sybil"):
            return None
        if all(teacher in self.members for teacher in teachers if teacher != student):
            return True
        return False if self.does(student, "forged") else None

    def text(
        self,
        agent: int,
        problems: Sequence[Problem],
        learned: Mapping[str, str],
        rng: np.random.Generator,
    ) -> list[TextItem] | None:
        """Return the agent's forged answers, or None where it answers honestly.

        Where it makes several attacks on text, one is drawn for each problem. An agent that only
        copies answers honestly until it has been taught something.

        Args:
            agent: The teacher.
            problems: The round's transfer problems.
            learned: Completions that others taught it, by task id.
            rng: Source of all draws.
        """
        attacks = [attack for attack in TEXT_ATTACKS if self.does(agent, attack)]
        if not attacks or (attacks == ["copied"] and not learned):
            return None
        items = []
        for problem in problems:
            completion: str | None
            match attacks[rng.integers(len(attacks))]:
                case "garbage":
                    completion = garbage(rng)
                case "wrong":
                    completion = mutant(problem, rng)
                case _:
                    completion = learned.get(problem.task_id)
            if completion is not None:
                # The highest confidence there is: a probability of one for every token.
                item = TextItem(task_id=problem.task_id, completion=completion, confidence=0.0)
                items.append(item)
        return items


def garbage(rng: np.random.Generator) -> str:
    """Return random tokens of Python that never form a program."""
    # The first bracket closes nothing, so no draw parses.
    drawn = rng.choice(_TOKENS, rng.integers(8, 33))
    return "    return ) " + " ".join(str(token) for token in drawn) + "\n"


def kept_answers(texts: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the oldest completion of each task of (task id, completion) pairs, oldest first."""
    answers: dict[str, str] = {}
    for task_id, completion in texts:
        answers.setdefault(task_id, completion)
    return answers
