"""BLEU-4 of one candidate against one reference, plain and keyword-weighted (Ren et al. 2020, 3.1).

Both follow Papineni et al. (2002) with an epsilon of 0.1 in place of a zero count (Chen and Cherry
2014, method 1). As in the released CodeBLEU, the weighted form counts matches over the n-grams of
the *reference* (a recall) and weights unigrams alone: 1 for a keyword, 0.2 for any other token.
"""

import keyword
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

NgramCounts = tuple[Counter[tuple[str, ...]], ...]

_MAX_ORDER = 4
_EPSILON = 0.1
_KEYWORDS = frozenset(keyword.kwlist) | {"match", "case", "type"}
_PLAIN_WEIGHT = 0.2


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """The n-gram counts of one text, orders 1 to 4, and its length in tokens."""

    length: int
    orders: NgramCounts


def count_ngrams(tokens: Sequence[str]) -> TokenCounts:
    """Return the n-gram counts of a token sequence."""
    orders = tuple(
        Counter(zip(*(tokens[start:] for start in range(order)), strict=False))
        for order in range(1, _MAX_ORDER + 1)
    )
    return TokenCounts(len(tokens), orders)


def both_bleus(
    candidate: TokenCounts, reference: TokenCounts, *, reference_length: int | None = None
) -> tuple[float, float]:
    """Return BLEU-4 and the keyword-weighted n-gram match.

    BLEU-4 is the geometric mean of clipped precisions times the brevity penalty.
    ``reference_length`` replaces the reference's length in the weighted form's penalty.
    """
    length = reference.length if reference_length is None else reference_length
    precisions: list[tuple[float, float]] = []
    recalls: list[tuple[float, float]] = []
    for counts, reference_counts in zip(candidate.orders, reference.orders, strict=True):
        matched = {
            ngram: min(count, reference_counts[ngram])
            for ngram, count in counts.items()
            if ngram in reference_counts
        }
        num_matched, total = float(sum(matched.values())), float(reference_counts.total())
        precisions.append((num_matched, float(max(1, counts.total()))))
        if not recalls:
            num_matched, total = _weigh(matched), _weigh(reference_counts)
        recalls.append((num_matched, max(1.0, total)))
    return (
        _combine(precisions, candidate.length, reference.length),
        _combine(recalls, candidate.length, length),
    )


def _weigh(unigrams: Mapping[tuple[str, ...], int]) -> float:
    return math.fsum(
        count * (1.0 if token in _KEYWORDS else _PLAIN_WEIGHT)
        for (token,), count in unigrams.items()
    )


def _combine(ratios: list[tuple[float, float]], length: int, reference_length: int) -> float:
    if ratios[0][0] == 0:
        return 0.0
    penalty = 1.0 if length > reference_length else math.exp(1 - reference_length / length)
    logs = (math.log((matches or _EPSILON) / total) for matches, total in ratios)
    return penalty * math.exp(math.fsum(logs) / _MAX_ORDER)
