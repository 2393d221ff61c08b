"""Shared by the protocols of many teachers, whose packages a server combines.

Axes: K teachers, C candidate answers.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import NDArray

from knexa.agents.exchange_protocol import (
    NOTHING_FOUND,
    ReceivedKnowledge,
    RoundContext,
    Taught,
    summed,
)
from knexa.agents.state import KeptText
from knexa.engine.object_refs import fetched
from knexa.exchange.ensemble import mean_one
from knexa.exchange.package import KnowledgePackage, PackageLimits, TextItem, encode

if TYPE_CHECKING:
    from knexa.agents.runtime import Runtime

SERVER = "server"
"""The sender's name in a server's packages."""

_NEGLIGIBLE = 0.01
"""Answers with a smaller share of their problem's ensemble are left out of training."""


class CommonFields(TypedDict):
    """The fields of a ``GroupTransfer`` that follow from the packages alone."""

    items_sent: int
    guardrail: dict[str, int]


def fetched_packages(context: RoundContext, teachers: Sequence[int]) -> list[Taught]:
    """Return the teachers' packages, with what is kept of them fetched to this process."""
    return [(package, fetched(received)) for package, received in context.taught(teachers)]


def training_sizes(context: RoundContext, teachers: Sequence[int]) -> NDArray[np.float64]:
    """Return sizes_K, the sizes of the teachers' private training sets."""
    return np.array([len(context.runtime.private(j)) for j in teachers], dtype=np.float64)


def common_fields(taught: Sequence[Taught]) -> CommonFields:
    """Return the number of answers sent, and the counts of all guardrails."""
    reports = [report for package, r in taught for report in (package.guardrail, r.guardrail)]
    return {
        "items_sent": sum(package.items_sent for package, _ in taught),
        "guardrail": summed(reports),
    }


def upload_kilobytes(taught: Sequence[Taught]) -> float:
    """Return the kilobytes that the teachers sent to the server."""
    return sum(package.kilobytes for package, _ in taught)


def pool_limits(num_teachers: int) -> PackageLimits:
    """Return the limits of a pool: those of ``num_teachers`` packages together."""
    one = PackageLimits()
    return PackageLimits(
        max_bytes=one.max_bytes * num_teachers, max_items=one.max_items * num_teachers
    )


def pool_package(context: RoundContext, texts: Sequence[KeptText], num_teachers: int) -> bytes:
    """Return the package in which a server sends the texts of many teachers."""
    package = KnowledgePackage(
        sender=SERVER, round=context.round_number, items=tuple(map(_item, texts)), kind="pool"
    )
    return encode(package, limits=pool_limits(num_teachers))


def weighed(texts: Sequence[KeptText], weights_C: NDArray[np.float64]) -> list[KeptText]:
    """Return the texts worth learning, their weights scaled to a mean of 1."""
    kept = [index for index in range(len(texts)) if weights_C[index] >= _NEGLIGIBLE]
    scaled = mean_one(weights_C[kept])
    return [
        replace(texts[index], weight=float(weight))
        for index, weight in zip(kept, scaled, strict=True)
    ]


def vetted(runtime: "Runtime", texts: Sequence[KeptText]) -> ReceivedKnowledge:
    """Return what the students' guardrail passes of a server's texts."""
    vetted_C = [runtime.guardrail.vet([_item(text)]) for text in texts]
    passed = [
        replace(text, completion=vetted.items[0].completion)
        for text, vetted in zip(texts, vetted_C, strict=True)
        if vetted.items
    ]
    guardrail = summed([NOTHING_FOUND, *(vetted.report.counts for vetted in vetted_C)])
    return ReceivedKnowledge(texts=tuple(passed), guardrail=guardrail)


def _item(text: KeptText) -> TextItem:
    return TextItem(task_id=text.task_id, completion=text.completion)
