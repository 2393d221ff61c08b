"""Findings of the guardrail in program text: credentials, personal data, planted canaries.

A cheap test, which nearly all text fails, precedes each rule, so that vetting a package takes
milliseconds. Rules that must tell strings from arithmetic read the literals of the syntax tree; a
text that is no program is searched as a whole.

Not covered: names, street addresses and anything else that takes a language model to recognise;
secrets that are computed, encoded or split over variables.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from knexa.exchange.guardrail.literals import (
    assigned,
    assigned_unquoted,
    hides_text,
    parse,
    said,
)
from knexa.exchange.guardrail.personal import ANYWHERE, EMAIL, IN_PROSE
from knexa.exchange.guardrail.providers import checksummed, private_keys, provider_keys

Severity = Literal["high", "medium", "low"]
Rule = Literal[
    "provider_key",
    "private_key",
    "secret_assignment",
    "high_entropy",
    "email",
    "phone",
    "card",
    "iban",
    "ipv4",
    "ipv6",
    "national_id",
    "canary",
]

SEVERITY: dict[str, Severity] = {
    "provider_key": "high",
    "private_key": "high",
    "secret_assignment": "high",
    "card": "high",
    "iban": "high",
    "canary": "high",
    "high_entropy": "medium",
    "email": "medium",
    "phone": "medium",
    "national_id": "medium",
    "ipv4": "low",
    "ipv6": "low",
}
"""High: can be misused directly. Medium: personal or random-looking. Low: often harmless."""

PLACEHOLDER = "<redacted:"
"""Start of every redaction; never a finding itself, so that vetting twice changes nothing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule (or a site rule's name), the kind of what it found, and the text to remove."""

    rule: str
    kind: str
    text: str


_LONG_RUN = re.compile(r"[A-Za-z0-9+/=_-]{20,}")
# Six digits near each other, or what may be an IPv6 address.
_NUMBERS = re.compile(r"(?:\d[^\d\n]{0,2}){6}|[0-9A-Fa-f]:[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]")
_NUMBER_RULES = frozenset(shape.rule for shape in IN_PROSE)
_SECRET_NAME = re.compile(
    r"(?:^|_|\b)(?:pass(?:word|wd|phrase|code)?|pwd|secret|(?:auth|access|bearer|api|refresh)_?token"
    r"|token|api_?key|(?:access|private|secret|encryption|signing|auth)_?key|credentials?)s?"
    r"(?:$|_|\b)"
)
_SECRET_WORDS = ("pass", "pwd", "secret", "token", "key", "credential")
_CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|-")
_DUMMY = re.compile(r"(?i)x{4,}|\*{3,}|your[_ -]|example|placeholder|changeme|dummy|<[^>]+>|\.\.\.")


def find(text: str, rules: frozenset[str], canaries: tuple[str, ...]) -> Iterator[Finding]:
    """Yield the rules' findings in a program text, some perhaps more than once."""
    yield from _find_anywhere(text, rules, canaries)
    names = "secret_assignment" in rules and _may_assign_a_secret(text)
    runs = bool(rules & {"high_entropy", "provider_key"}) and _LONG_RUN.search(text) is not None
    numbers = bool(rules & _NUMBER_RULES) and _NUMBERS.search(text) is not None
    hidden = hides_text(text)
    if not (names or runs or numbers or hidden):
        return
    tree = parse(text)
    for string in said(tree, text):
        if runs or hidden:
            yield from _find_random(string, rules)
        if numbers or hidden:
            for shape in IN_PROSE:
                if shape.rule in rules:
                    yield from (Finding(shape.rule, shape.kind, m) for m in shape.find(string))
        if hidden:
            yield from _find_anywhere(string, rules, canaries)
    if names:
        yield from _find_assigned_secrets(assigned(tree, text))
        unquoted = ((n, v) for n, v in assigned_unquoted(text) if _is_random(v))
        yield from _find_assigned_secrets(unquoted)


def entropy(text: str) -> float:
    """Return the Shannon entropy of the characters, in bits a character."""
    counts = Counter(text).values()
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts)


def _find_anywhere(
    text: str, rules: frozenset[str], canaries: tuple[str, ...]
) -> Iterator[Finding]:
    """Apply the rules that mean the same in a literal, a comment or plain text."""
    if "canary" in rules:
        yield from (Finding("canary", "canary", word) for word in canaries if word in text)
    if "provider_key" in rules:
        for kind, key in provider_keys(text):
            if PLACEHOLDER not in key:
                yield Finding("provider_key", kind, key)
    if "private_key" in rules:
        yield from (Finding("private_key", "private_key", block) for block in private_keys(text))
    if "email" in rules and "@" in text:
        yield from (Finding("email", "email", address) for address in EMAIL.find(text))
    for shape in ANYWHERE:
        if shape.rule in rules:
            yield from (Finding(shape.rule, shape.kind, match) for match in shape.find(text))


def _find_random(string: str, rules: frozenset[str]) -> Iterator[Finding]:
    if "provider_key" in rules:
        yield from (Finding("provider_key", "checksummed", t) for t in checksummed(string))
    if "high_entropy" in rules:
        for match in _LONG_RUN.finditer(string):
            if _is_random(match[0]):
                yield Finding("high_entropy", "high_entropy", match[0])


def _find_assigned_secrets(pairs: Iterator[tuple[str, str]]) -> Iterator[Finding]:
    for name, value in pairs:
        if _is_secret_name(name) and _looks_secret(value):
            yield Finding("secret_assignment", "secret_assignment", value)


def _is_random(run: str) -> bool:
    """Return whether a long run of characters looks random, not written.

    Alphabets and digit tables have the highest entropy of all, so runs of characters in
    alphabetical order do not count as random.
    """
    steps = sum(abs(ord(a) - ord(b)) <= 1 for a, b in pairwise(run))
    digits = sum(character.isdigit() for character in run)
    if re.fullmatch(r"[0-9a-fA-F-]{32,}", run):
        return steps <= len(run) / 2 and 0 < digits < len(run) and entropy(run) >= 3.0
    if steps > len(run) / 4:
        return False
    mixed = run.lower() != run and run.upper() != run
    if digits >= 2 and mixed and entropy(run) >= 3.5:
        return True
    if len(run) < 32 or entropy(run) < 3.7:
        return False
    # Few digits, or no capitals: in words the kind of character changes more rarely.
    changes = _changes(run) / len(run)
    return changes >= 0.45 if mixed else run.isalnum() and digits >= 2 and changes >= 1 / 8


def _changes(run: str) -> int:
    """Return how often lower case, upper case and digits alternate."""
    sorts = [(c.islower(), c.isupper(), c.isdigit()) for c in run if c.isalnum()]
    return sum(a != b for a, b in pairwise(sorts))


def _is_secret_name(name: str) -> bool:
    return bool(_SECRET_NAME.search(_CAMEL_CASE.sub("_", name).lower()))


def _looks_secret(value: str) -> bool:
    """Return whether a value assigned to a secret's name is no mere word or placeholder."""
    if len(value) < 8 or any(c.isspace() for c in value) or _DUMMY.search(value):
        return False
    kinds = sum(
        any(test(character) for character in value)
        for test in (str.islower, str.isupper, str.isdigit, lambda c: not c.isalnum())
    )
    return (
        kinds >= 2
        and any(c.isalpha() for c in value)
        and entropy(value) >= 2.5
        and (any(c.isdigit() for c in value) or kinds >= 3)
    )


def _may_assign_a_secret(text: str) -> bool:
    if not any(mark in text for mark in ('"', "'", "=", ":", " is ")):
        return False
    lowered = text.lower()
    return any(word in lowered for word in _SECRET_WORDS)
