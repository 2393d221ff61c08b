"""Combining many teachers: pooled answers, votes, averaged distributions and adapters.

Pure functions, without models. Axes: K clients, C candidates (distinct answers, sorted by problem).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knexa.exchange.package import TextItem

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One distinct answer to a problem and the clients that gave it.

    Attributes:
        task_id: The problem's id.
        completion: The text of its most confident author.
        voters: The clients with this normalised answer, by position among the K.
        confidences: The mean log-probability of each voter's own text, in nats.
    """

    task_id: str
    completion: str
    voters: tuple[int, ...]
    confidences: tuple[float, ...]


def normalise(code: str) -> str:
    """Return the normal form in which equal answers agree: no trailing space, no blank lines.

    Indentation is kept, with tabs up to the next multiple of 8 as in Python. Nothing is parsed, so
    broken code has a normal form as well.
    """
    lines = (line.rstrip() for line in code.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    kept = []
    for line in filter(None, lines):
        body = line.lstrip(" \t")
        kept.append(line[: len(line) - len(body)].expandtabs(8) + body)
    return "\n".join(kept)


def pool(answers: Sequence[Sequence[TextItem]]) -> list[Candidate]:
    """Return the distinct answers of K clients, sorted by problem and normalised text."""
    groups: dict[tuple[str, str], list[tuple[int, TextItem]]] = defaultdict(list)
    for client, items in enumerate(answers):
        for item in items:
            groups[item.task_id, normalise(item.completion)].append((client, item))
    return [
        Candidate(
            task_id=task_id,
            completion=min((-_confidence(item), item.completion) for _, item in group)[1],
            voters=tuple(client for client, _ in group),
            confidences=tuple(_confidence(item) for _, item in group),
        )
        for (task_id, _), group in sorted(groups.items())
    ]


def _confidence(item: TextItem) -> float:
    # A log-probability cannot be positive, whatever a peer claims; a missing one is -inf.
    return -np.inf if item.confidence is None else min(float(item.confidence), 0.0)


def average_distributions(
    scores_KC: Array, candidates: Sequence[Candidate], temperature: float
) -> Array:
    """Return probabilities_C: the mean of the clients' softmax over each problem's candidates.

    Args:
        scores_KC: Every client's mean log-probability of every candidate, in nats a token.
        candidates: The pool.
        temperature: Softens the scores.
    """
    average_C = np.empty(len(candidates))
    for columns in _by_problem(candidates):
        logits_Kc = scores_KC[:, columns] / temperature
        weights_Kc = np.exp(logits_Kc - logits_Kc.max(axis=1, keepdims=True))
        average_C[columns] = (weights_Kc / weights_Kc.sum(axis=1, keepdims=True)).mean(axis=0)
    return average_C


def confident_votes(candidates: Sequence[Candidate], weights_K: Array) -> Array:
    """Return votes_C: each candidate's sum of w_k exp(confidence) over its voters."""
    return np.array(
        [
            sum(
                weights_K[voter] * np.exp(confidence)
                for voter, confidence in zip(c.voters, c.confidences, strict=True)
            )
            for c in candidates
        ],
        dtype=np.float64,
    )


def winners(candidates: Sequence[Candidate], votes_C: Array) -> list[int]:
    """Return each problem's candidate with most votes; the highest confidence breaks ties."""
    chosen = []
    for columns in _by_problem(candidates):
        ranks = [(votes_C[c], max(candidates[c].confidences), -c) for c in columns]
        chosen.append(-max(ranks)[2])
    return chosen


def _by_problem(candidates: Sequence[Candidate]) -> list[list[int]]:
    columns: dict[str, list[int]] = defaultdict(list)
    for index, candidate in enumerate(candidates):
        columns[candidate.task_id].append(index)
    return list(columns.values())


def average_tensors(
    tensors_K: Sequence[Mapping[str, NDArray[Any]]], weights_K: Array
) -> dict[str, NDArray[np.float32]]:
    """Return sum_k w_k W_k of every tensor (FedAvg), weights scaled to sum to 1."""
    shares_K = weights_K / weights_K.sum()
    return {
        name: np.asarray(
            sum(
                share * tensors[name].astype(np.float64)
                for share, tensors in zip(shares_K, tensors_K, strict=True)
            ),
            dtype=np.float32,
        )
        for name in tensors_K[0]
    }


def mean_one(weights_C: Array) -> Array:
    """Return the weights scaled to a mean of 1; all 1 where their sum is 0."""
    total = weights_C.sum()
    return weights_C * (len(weights_C) / total) if total > 0 else np.ones_like(weights_C)
