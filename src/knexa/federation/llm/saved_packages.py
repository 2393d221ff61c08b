"""Packages of text in a checkpoint: plain values that ``tracking.tree_file`` stores."""

import dataclasses
from typing import Any

import numpy as np

from knexa.agents.exchange_protocol import OutgoingPackage, Question
from knexa.federation.llm.round_cache import Asked


def package_to_plain(question: Question, package: OutgoingPackage) -> dict[str, Any]:
    """Return a package of text, and the question that it answers, as plain values."""
    fields = {field.name: getattr(package, field.name) for field in dataclasses.fields(package)}
    fields |= {"text": package.text.decode(), "payload": np.frombuffer(package.payload, np.uint8)}
    missing = None if question.missing is None else sorted(question.missing)
    fields["guardrail"] = dict(package.guardrail)
    return {"topics": question.topics, "missing": missing, "fields": fields}


def package_from_plain(plain: dict[str, Any]) -> tuple[Asked, OutgoingPackage]:
    """Return what ``package_to_plain`` was given."""
    fields, topics, missing = plain["fields"], plain["topics"], plain["missing"]
    sent = {"text": fields["text"].encode(), "payload": fields["payload"].tobytes()}
    package = OutgoingPackage(**fields | sent)
    question = Question(
        None if topics is None else tuple(topics), None if missing is None else frozenset(missing)
    )
    return (package.teacher, question), package
