"""Clusters of public prompts: topics for problems that nobody has sorted.

A prompt is embedded by TF-IDF of the character n-grams of its words, which needs no tokenizer, so
agents of any backbone find the same clusters. They are found by spherical k-means (Dhillon and
Modha 2001) that moves one prompt at a time (Dhillon, Guan and Kogan 2002), seeded by k-means++
(Arthur and Vassilvitskii 2007), the best of several starts. Any other prompt, public or private,
belongs to the cluster of the nearest centroid.

Embeddings and centroids are unit vectors times 2**16, rounded to whole numbers: sums of their
products are exact in any order, so that all organisations find the same clusters on whatever
machine. Axes: P prompts, V n-grams, K clusters, W words.
"""

import keyword
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knexa.errors import UserError
from knexa.seeding import derive_rng

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
SparseArray = Any
"""A scipy.sparse.csr_array of float64; scipy has no types."""

LABEL_LENGTH = 15
"""The most characters of a label: tables have room for the longest category's name."""

_NGRAM_LENGTHS = range(2, 5)
_MIN_PROMPTS = 2  # an n-gram of one prompt alone tells nothing of another
_SCALE = 2.0**16
_NUM_STARTS = 20
_STEM_LENGTH = 3
_LEAST_GAIN = 1.0  # of a prompt's move, in units of 2**-16: more than rounding


@dataclass(frozen=True, eq=False, kw_only=True)
class PromptClusters:
    """Clusters of some prompts, the largest first.

    Attributes:
        labels: The most characteristic words of each cluster, joined by ``_``; all differ.
        columns: The n-grams that count, and the place of each in an embedding.
        idf_V: Inverse document frequency of each.
        centroids_KV: Unit vectors times 2**16, rounded.
    """

    labels: tuple[str, ...]
    columns: Mapping[str, int]
    idf_V: Array
    centroids_KV: Array

    def nearest(self, prompts: Sequence[str]) -> list[int]:
        """Return the cluster of each prompt, by cosine; one without a known n-gram is of the first.

        The prompts that the clusters were found among keep theirs.
        """
        cosines_PK = _embed(prompts, self.columns, self.idf_V) @ self.centroids_KV.T
        nearest: list[int] = np.argmax(cosines_PK, axis=1).tolist()
        return nearest


@lru_cache(maxsize=4)
def find_clusters(prompts: frozenset[str], num_clusters: int) -> PromptClusters:
    """Return that many clusters of the prompts, none of them empty.

    Draws are seeded by a constant: equal prompts have equal clusters, whatever the run's seed.

    Raises:
        UserError: Fewer prompts than clusters differ in n-grams that others have too.
    """
    ordered = sorted(prompts)
    columns, idf_V = _vocabulary(ordered)
    embedded_PV = _embed(ordered, columns, idf_V)
    rows = pairwise(embedded_PV.indptr.tolist())
    num_distinct = len(
        {
            (tuple(embedded_PV.indices[start:end]), tuple(embedded_PV.data[start:end]))
            for start, end in rows
            if end > start
        }
    )
    if num_distinct < num_clusters:
        fewer = f"set at most {num_distinct}, or " if num_distinct > 1 else "set "
        raise UserError(
            f"topics.num_clusters={num_clusters}, and only {num_distinct} transfer problems have "
            f"prompts whose words tell them apart: {fewer}topics=categories"
        )
    cosines_PP = (embedded_PV @ embedded_PV.T).toarray()
    rng = derive_rng(0, "prompt clusters")
    starts = [_k_means(cosines_PP, num_clusters, rng) for _ in range(_NUM_STARTS)]
    found_P, _ = max(starts, key=lambda start: start[1])
    members = sorted((np.flatnonzero(found_P == k) for k in range(num_clusters)), key=_by_size)
    centroids_KV = np.stack([_rounded(embedded_PV[rows].sum(axis=0)) for rows in members])
    return PromptClusters(
        labels=_labels(ordered, members), columns=columns, idf_V=idf_V, centroids_KV=centroids_KV
    )


def _by_size(members: Indices) -> tuple[int, int]:
    """Sort the largest cluster first, and of equal ones that of the first prompt."""
    return -len(members), int(members[0])


def _ngrams(prompt: str) -> Counter[str]:
    """Count the n-grams of a prompt's words, which a blank begins and ends; case is ignored."""
    words = [f" {word} " for word in prompt.lower().split()]
    return Counter(
        word[start : start + length]
        for word in words
        for length in _NGRAM_LENGTHS
        for start in range(len(word) - length + 1)
    )


def _vocabulary(prompts: Sequence[str]) -> tuple[dict[str, int], Array]:
    """Return the n-grams that tell prompts apart, by place, and log(P / prompts that hold them)."""
    counts = Counter(ngram for prompt in prompts for ngram in _ngrams(prompt))
    kept = sorted(n for n, count in counts.items() if _MIN_PROMPTS <= count < len(prompts))
    idf_V = np.log(len(prompts) / np.array([counts[ngram] for ngram in kept], dtype=np.float64))
    return {ngram: place for place, ngram in enumerate(kept)}, idf_V


def _embed(prompts: Sequence[str], columns: Mapping[str, int], idf_V: Array) -> SparseArray:
    """Return embedded_PV; a prompt without any of the n-grams is all zeros."""
    from scipy.sparse import csr_array

    values, places, ends = [], [], [0]
    for prompt in prompts:
        counts = sorted((columns[n], count) for n, count in _ngrams(prompt).items() if n in columns)
        places_n = np.array([place for place, _ in counts], dtype=np.int64)
        numbers_n = np.array([count for _, count in counts], dtype=np.float64)
        values.append(_rounded((1.0 + np.log(numbers_n)) * idf_V[places_n]))
        places.append(places_n)
        ends.append(ends[-1] + len(places_n))
    shape = len(prompts), len(columns)
    return csr_array((np.concatenate(values), np.concatenate(places), ends), shape=shape)


def _rounded(vector: Array) -> Array:
    """Return a vector at length 2**16, in whole numbers; zeros stay."""
    length = np.sqrt((vector * vector).sum())
    return np.asarray(np.rint(vector * (_SCALE / length)) if length else vector, dtype=np.float64)


def _k_means(
    cosines_PP: Array, num_clusters: int, rng: np.random.Generator
) -> tuple[Indices, float]:
    """Return clusters_P and the total length of the clusters' sums, from one start.

    Prompts move one at a time, each to where the total grows most; it is the sum of all prompts'
    cosines to their centroids. A prompt alone never moves: no cluster becomes empty.
    """
    squares_P = np.diagonal(cosines_PP)
    clusters_P = _first_clusters(cosines_PP, num_clusters, rng)
    to_sums_PK = cosines_PP @ np.eye(num_clusters)[clusters_P]
    squares_K = np.array([to_sums_PK[clusters_P == k, k].sum() for k in range(num_clusters)])
    moved = True
    while moved:
        moved = False
        for prompt, square in enumerate(squares_P):
            old = clusters_P[prompt]
            gains_K = np.sqrt(squares_K + 2.0 * to_sums_PK[prompt] + square) - np.sqrt(squares_K)
            less = max(0.0, squares_K[old] - 2.0 * to_sums_PK[prompt, old] + square)
            gains_K[old] = np.sqrt(squares_K[old]) - np.sqrt(less)
            new = int(np.argmax(gains_K))
            if gains_K[new] > gains_K[old] + _LEAST_GAIN:
                squares_K[new] += 2.0 * to_sums_PK[prompt, new] + square
                squares_K[old] = less
                to_sums_PK[:, new] += cosines_PP[:, prompt]
                to_sums_PK[:, old] -= cosines_PP[:, prompt]
                clusters_P[prompt] = new
                moved = True
    return clusters_P, float(np.sqrt(squares_K).sum())


def _first_clusters(cosines_PP: Array, num_clusters: int, rng: np.random.Generator) -> Indices:
    """Return clusters_P around prompts that are drawn by their squared distance to earlier ones."""
    squares_P = np.diagonal(cosines_PP)
    weights_P, chosen = squares_P, list[int]()
    for _ in range(num_clusters):
        drawn = int(rng.choice(len(weights_P), p=weights_P / weights_P.sum()))
        distances_P = squares_P + squares_P[drawn] - 2.0 * cosines_PP[:, drawn]
        distances_P = np.where(squares_P > 0.0, distances_P, 0.0)  # no known n-gram: never drawn
        weights_P = np.minimum(weights_P, distances_P) if chosen else distances_P
        chosen.append(drawn)
    nearest_P: Indices = np.argmax(cosines_PP[:, chosen], axis=1)
    return nearest_P


def _labels(prompts: Sequence[str], clusters: Sequence[Indices]) -> tuple[str, ...]:
    """Return each cluster's most characteristic words, ``topic_N`` where it has none.

    A word stands for the cluster of whose prompts it is in the largest share beyond its share of
    the others. A cluster is called by the one of its words with the most of that, the less the more
    prompts hold it (times its inverse document frequency), and the next of another stem.
    """
    held = [_words(prompt) for prompt in prompts]
    found: list[list[tuple[float, str]]] = [[] for _ in clusters]
    for word in sorted(frozenset[str]().union(*held)):
        holds_P = np.array([word in words for words in held], dtype=np.float64)
        excesses = [
            holds_P[members].mean() - np.delete(holds_P, members).mean() for members in clusters
        ]
        best = int(np.argmax(excesses))
        found[best].append((excesses[best] * np.log(holds_P.mean()), word))
    return tuple(
        _label([word for _, word in sorted(words)]) or f"topic_{number}"
        for number, words in enumerate(found, start=1)
    )


def _label(words: Sequence[str]) -> str:
    """Return the first word, and the next of another stem that fits beside it."""
    if not words:
        return ""
    first, *rest = words
    other = (word for word in rest if word[:_STEM_LENGTH] != first[:_STEM_LENGTH])
    fitting = (word for word in other if len(first) + len(word) < LABEL_LENGTH)
    return "_".join([first, *islice(fitting, 1)])


def _words(prompt: str) -> frozenset[str]:
    """Return the words of three letters to a label's length that are no keywords of Python."""
    words = re.findall(rf"(?<![a-z])[a-z]{{3,{LABEL_LENGTH}}}(?![a-z])", prompt.lower())
    return frozenset(word for word in words if not keyword.iskeyword(word))
