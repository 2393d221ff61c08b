"""Findings of the guardrail in program text: credentials, personal data, planted canaries.

A cheap test, which nearly all text fails, precedes each rule, so that vetting a package takes
milliseconds. Rules that must tell strings from arithmetic read the literals of the syntax tree; a
text that is no program is searched as a whole.

The cost is linear in the length of the text: every rule passes over it a bounded number of times.

Not covered: names, street addresses and anything else that takes a language model to recognise;
secrets that are computed or encoded.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from knexa.exchange.guardrail.constants import named_constants
from knexa.exchange.guardrail.folding import folded
from knexa.exchange.guardrail.literals import (
    across_lines,
    hides_text,
    named_values,
    said,
)
from knexa.exchange.guardrail.names import (
    changes,
    is_random,
    looks_random_without_quotes,
    looks_secret,
    looks_secret_without_quotes,
    may_name_a_secret,
)
from knexa.exchange.guardrail.personal import ANYWHERE, EMAIL, IN_PROSE
from knexa.exchange.guardrail.providers import (
    checksummed,
    has_marker,
    private_keys,
    provider_keys,
)
from knexa.exchange.guardrail.scope import Reading

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
# Six digits near each other; what may be an IPv6 address.
_DIGITS = re.compile(r"\d[^\d\n]{0,2}(?:\d[^\d\n]{0,2}){5}")
_COLONS = re.compile(r":(?<=[0-9A-Fa-f]:)[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]")
_NUMBER_RULES = frozenset(shape.rule for shape in (*ANYWHERE, *IN_PROSE))
# What a piece of a key has and a word has not.
_PIECE = re.compile(r"\d(?<=[A-Za-z]\d)\d{0,2}[A-Za-z]")
# Between characters that are listed one by one.
_LISTED = ("', '", "','", '", "', '","')
# Between the strings of a text when they are searched together: nothing matches across it.
_BETWEEN = "\n\0\n"


def find(text: str, rules: frozenset[str], canaries: tuple[str, ...]) -> Iterator[Finding]:
    """Yield the rules' findings in a program text, some perhaps more than once.

    Raises:
        Unreadable: The text cannot be read at a cost in proportion to its length.
    """
    numbers = bool(rules & _NUMBER_RULES) and _may_hold_numbers(text)
    yield from _find_anywhere(text, rules, canaries, numbers)
    names = "secret_assignment" in rules and may_name_a_secret(text)
    runs = bool(rules & {"high_entropy", "provider_key"}) and _LONG_RUN.search(text) is not None
    # Strings may have to be put together before anything is found in them.
    pieces = hides_text(text) or (
        _PIECE.search(text) is not None
        or "@" in text
        or sum(map(text.count, _LISTED)) >= 8
        or has_marker(text)
        or bool(canaries)
    )
    if not (names or runs or numbers or pieces):
        return
    reading = said(text)
    strings = _BETWEEN.join(dict.fromkeys(reading.strings))
    # A text that is no program is one of its strings, and was searched already.
    others = _BETWEEN.join(s for s in reading.strings if s is not text)
    spelled = _BETWEEN.join(reading.spelled)
    if text == folded(text):  # else what is folded is found in the folded text
        strings, others, spelled = folded(strings), folded(others), folded(spelled)
    if runs or pieces:
        yield from _find_random(strings, text, rules)
    if numbers or pieces:
        numbers = numbers or _may_hold_numbers(strings)
        for shape in IN_PROSE if numbers else ():
            if shape.rule in rules:
                yield from (Finding(shape.rule, shape.kind, m) for m in set(shape.find(strings)))
    if numbers or pieces or runs:
        yield from _find_anywhere(others, rules, canaries, numbers)
        if "provider_key" in rules:
            yield from _keys(provider_keys(spelled))
    if names:
        yield from _find_assigned_secrets(text, strings, reading)


def _may_hold_numbers(text: str) -> bool:
    return _DIGITS.search(text) is not None or _COLONS.search(text) is not None


def _find_anywhere(
    text: str, rules: frozenset[str], canaries: tuple[str, ...], numbers: bool
) -> Iterator[Finding]:
    """Apply the rules that mean the same in a literal, a comment or plain text."""
    if "canary" in rules:
        yield from (Finding("canary", "canary", word) for word in canaries if word in text)
    if "provider_key" in rules:
        yield from _keys(provider_keys(text))
    if "private_key" in rules:
        yield from (Finding("private_key", "private_key", block) for block in private_keys(text))
    if "email" in rules and "@" in text:
        yield from (Finding("email", "email", address) for address in set(EMAIL.find(text)))
    for shape in ANYWHERE if numbers else ():
        if shape.rule in rules:
            yield from (Finding(shape.rule, shape.kind, match) for match in set(shape.find(text)))


def _keys(found: Iterable[tuple[str, str]]) -> Iterator[Finding]:
    return (Finding("provider_key", kind, key) for kind, key in found if PLACEHOLDER not in key)


def _find_random(strings: str, text: str, rules: frozenset[str]) -> Iterator[Finding]:
    """Find tokens by their checksum or by how they look, also where they go on in a next line."""
    over_lines = list(across_lines(strings))
    if "provider_key" in rules:
        yield from (Finding("provider_key", "checksummed", t) for t in checksummed(strings))
        yield from _keys(provider_keys(_BETWEEN.join(over_lines)))
    if "high_entropy" not in rules:
        return
    found = {match[0] for match in _LONG_RUN.finditer(strings) if is_random(match[0])}
    found |= {
        match[0]
        for run in over_lines
        for match in _LONG_RUN.finditer(run)
        if is_random(match[0]) and _is_no_name(match[0])
    }
    if found:
        found -= named_constants(text, _LONG_RUN)
    yield from (Finding("high_entropy", "high_entropy", run) for run in found)


def _is_no_name(run: str) -> bool:
    """Return whether a run that two lines make together is less regular than two names are."""
    is_mixed = run.lower() != run and run.upper() != run
    return not is_mixed or changes(run) > 0.42 * len(run)


def _find_assigned_secrets(text: str, strings: str, reading: Reading) -> Iterator[Finding]:
    """Find what is given to a secret's name by the program, in its strings and comments."""
    found = {value for name, value in reading.named if looks_secret(name, value)}
    for name, value, is_quoted in named_values(strings):
        if (looks_secret if is_quoted else looks_secret_without_quotes)(name, value):
            found.add(value)
    is_program = not any(string is text for string in reading.strings)
    for name, value, is_quoted in named_values(text) if is_program else ():  # or a .env file
        if not is_quoted and looks_random_without_quotes(value) and looks_secret(name, value):
            found.add(value)
    yield from (Finding("secret_assignment", "secret_assignment", value) for value in found)
