"""Membership inference attacks: a score for every candidate problem, higher for likely members.

An attacker knows the candidates (prompt and canonical solution) and all text that clients sent, but
no models. Tokens are words, numbers and single signs, independent of indentation and the agents'
tokenizers.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from knexa.data.problem import Problem

Tokens = tuple[str, ...]

_TOKEN = re.compile(r"\w+|[^\w\s]")
_START, _OVERLAP, _ORDER = "\x02", 4, 4


def tokens(text: str) -> Tokens:
    """Return the words, numbers and signs of a text."""
    return tuple(_TOKEN.findall(text))


@dataclass(frozen=True)
class Evidence:
    """The attacker's evidence about one client: its texts, and those of all others."""

    own: tuple[Tokens, ...]
    others: tuple[Tokens, ...]


def longest_run(evidence: Evidence, candidates: Sequence[Problem]) -> list[float]:
    """Return the longest run of tokens shared with one text, as a share of the candidate's tokens.

    It is the mean of the solution's and the prompt's shares.
    """
    grams: dict[int, set[Tokens]] = {}
    return [
        (
            _run_share(tokens(problem.canonical_solution), evidence.own, grams)
            + _run_share(tokens(problem.prompt), evidence.own, grams)
        )
        / 2
        for problem in candidates
    ]


def _run_share(of: Tokens, texts: Sequence[Tokens], grams: dict[int, set[Tokens]]) -> float:
    """Return the longest shared run, found by bisection: a run of n contains one of n - 1."""
    low, high = 0, len(of)
    while low < high:
        middle = (low + high + 1) // 2
        if middle not in grams:
            grams[middle] = {gram for text in texts for gram in ngrams(text, middle)}
        if any(gram in grams[middle] for gram in ngrams(of, middle)):
            low = middle
        else:
            high = middle - 1
    return low / max(len(of), 1)


def ngrams(text: Tokens, size: int) -> list[Tokens]:
    """Return all runs of ``size`` tokens, in order."""
    return [text[begin : begin + size] for begin in range(len(text) - size + 1)]


def ngram_overlap(evidence: Evidence, candidates: Sequence[Problem]) -> list[float]:
    """Return the share of the solution's 4-grams that the client has sent."""
    sent = {gram for text in evidence.own for gram in ngrams(text, _OVERLAP)}
    scores = []
    for problem in candidates:
        own = set(ngrams(tokens(problem.canonical_solution), _OVERLAP))
        scores.append(len(own & sent) / max(len(own), 1))
    return scores


def shadow_ratio(evidence: Evidence, candidates: Sequence[Problem]) -> list[float]:
    """Return the solution's mean log-likelihood ratio per token, client's model to the others'.

    The others' model tells how likely the text is without this client (Carlini et al. 2021, "zlib
    and reference models").
    """
    own, others = NgramModel(evidence.own), NgramModel(evidence.others)
    return [
        own.mean_log_prob(solution) - others.mean_log_prob(solution)
        for solution in (tokens(problem.canonical_solution) for problem in candidates)
    ]


Attack = Callable[[Evidence, Sequence[Problem]], list[float]]

ATTACKS: dict[str, Attack] = {
    "longest_run": longest_run,
    "ngram_overlap": ngram_overlap,
    "shadow_ratio": shadow_ratio,
}


class NgramModel:
    """An interpolated 4-gram model with Witten-Bell smoothing, over any token.

    p(w | h) = (c(h w) + T(h) p(w | h')) / (c(h) + T(h)), where T(h) counts the distinct tokens seen
    after h and h' is h without its first token; the base case is the uniform 1 / (V + 1).
    """

    def __init__(self, texts: Sequence[Tokens]) -> None:
        self._after: dict[Tokens, Counter[str]] = defaultdict(Counter)
        for text in texts:
            padded = (_START,) * (_ORDER - 1) + text
            for end in range(_ORDER - 1, len(padded)):
                for length in range(_ORDER):
                    self._after[padded[end - length : end]][padded[end]] += 1
        self._totals = {history: seen.total() for history, seen in self._after.items()}
        self._floor = 1.0 / (len(self._after.get((), ())) + 1)

    def mean_log_prob(self, text: Tokens) -> float:
        """Return the mean log-probability of the text's tokens, in nats; 0 for none."""
        padded = (_START,) * (_ORDER - 1) + text
        logs = [
            math.log(self._probability(padded[end], padded[end - _ORDER + 1 : end]))
            for end in range(_ORDER - 1, len(padded))
        ]
        return sum(logs) / max(len(logs), 1)

    def _probability(self, token: str, history: Tokens) -> float:
        probability = self._floor
        for length in range(len(history) + 1):
            suffix = history[len(history) - length :]
            seen = self._after.get(suffix)
            if seen:
                weight = len(seen)
                probability = (seen[token] + weight * probability) / (self._totals[suffix] + weight)
        return probability
