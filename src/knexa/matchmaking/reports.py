"""Comparison of students' reports: verification is deterministic, so who contradicts others lies.

In a round a teacher's text on a topic is the same for all who asked, and so is the number of its
answers that pass their tests. Two reports that differ are proof that one of the two is forged. Not
covered: how many answers were new to a student, which nobody else can tell.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Text = tuple[int, int, int]
"""Round, teacher and topic's category: what several students may report on."""
Counts = tuple[int, int]
"""Answers asked for, and right ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the reports so far say of each other.

    Attributes:
        forgers: Students that have forged a report, surely as long as no more lie than may.
        disputed: Texts on which the others' reports still differ: which are forged is not known.
    """

    forgers: frozenset[int] = frozenset()
    disputed: frozenset[Text] = frozenset()


def compare(reports: Iterable[tuple[Text, int, Counts]], most_liars: int) -> Comparison:
    """Return who has forged reports, and on which texts reports cannot be told apart.

    Honest students never contradict each other. So one that more students contradict than may lie
    is contradicted by an honest one, and has lied; one liar less may then be among the others (the
    kernel of vertex cover of Buss and Goldsmith 1993). Coalitions that are no larger than
    ``most_liars`` convict nobody honest, whatever they report. A lone report contradicts nothing.

    Args:
        reports: (text, student, counts) of all reports.
        most_liars: How many students may lie at most.
    """
    by_text: dict[Text, dict[int, Counts]] = defaultdict(dict)
    for text, student, counts in reports:
        by_text[text][student] = counts
    differing = {t: told for t, told in by_text.items() if len(set(told.values())) > 1}
    contradictors: dict[int, set[int]] = defaultdict(set)
    for told in differing.values():
        for student, counts in told.items():
            contradictors[student].update(i for i in told if told[i] != counts)
    forgers: set[int] = set()
    while found := _proven(contradictors, forgers, most_liars):
        forgers.add(found[0])
    return Comparison(
        forgers=frozenset(forgers),
        disputed=frozenset(
            text
            for text, told in differing.items()
            if len({counts for i, counts in told.items() if i not in forgers}) > 1
        ),
    )


def _proven(contradictors: Mapping[int, set[int]], forgers: set[int], most_liars: int) -> list[int]:
    """Return the other students that more of the others contradict than liars may be left."""
    return [
        student
        for student, others in sorted(contradictors.items())
        if student not in forgers and len(others - forgers) > most_liars - len(forgers)
    ]
