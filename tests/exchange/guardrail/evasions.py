"""How a corpus of evasions is written down: templates, filled by seeded generators.

``[[s]]`` in a template stands for the secret, ``[[a]]`` and ``[[b]]`` for its halves, and
``[[s:form]]`` for another spelling of one of them (``FORMS``). So no credential is ever written
down, and a case knows every piece of its secret that stands in its text.
"""

import random
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from knexa.exchange.guardrail.filter import Guardrail
from knexa.exchange.package import TextItem

Generator = Callable[[random.Random], str]
# Group of cases -> (kind of secret, template) pairs.
Corpus = Mapping[str, tuple[tuple[str, str], ...]]

_MARK = re.compile(r"\[\[([sab])(?::(\w+))?\]\]")


def _interleaved(text: str, mark: str, every: int) -> str:
    return mark.join(text[i : i + every] for i in range(0, len(text), every))


def _shifted(text: str, lower: int, upper: int, digit: int) -> str:
    """Return letters and digits in another block of Unicode that NFKC folds back."""
    return "".join(
        chr(lower + ord(c) - ord("a"))
        if c in "abcdefghijklmnopqrstuvwxyz"
        else chr(upper + ord(c) - ord("A"))
        if c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
        else chr(digit + ord(c) - ord("0"))
        if c in "0123456789"
        else c
        for c in text
    )


FORMS: dict[str, Callable[[str], str]] = {
    "zero_width": lambda s: _interleaved(s, "\u200b", 3),
    "joiner": lambda s: _interleaved(s, "\u2060", 4),
    "soft_hyphen": lambda s: _interleaved(s, "\u00ad", 5),
    "variation": lambda s: _interleaved(s, "\ufe0f", 6),
    "wide": lambda s: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in s),
    "monospace": lambda s: _shifted(s, 0x1D68A, 0x1D670, 0x1D7F6),
    "bold": lambda s: _shifted(s, 0x1D41A, 0x1D400, 0x1D7CE),
    "no_break": lambda s: s.replace(" ", "\u00a0"),
    "narrow": lambda s: s.replace(" ", "\u202f"),
    "en_dash": lambda s: s.replace(" ", "\u2013"),
    "dashes": lambda s: s.replace(" ", "-"),
    "dots": lambda s: s.replace(" ", "."),
    "slashes": lambda s: s.replace(" ", "/"),
    "underscores": lambda s: s.replace(" ", "_"),
    "plain": lambda s: s.replace(" ", ""),
    "pairs": lambda s: _interleaved(s.replace(" ", ""), " ", 2),
    "threes": lambda s: _interleaved(s.replace(" ", ""), " ", 3),
    "fives": lambda s: _interleaved(s.replace(" ", ""), "-", 5),
    "eights": lambda s: _interleaved(s.replace(" ", ""), " ", 8),
    "single": lambda s: _interleaved(s.replace(" ", ""), " ", 1),
    "double_space": lambda s: s.replace(" ", "  "),
    "lower": str.lower,
    "lower_dashes": lambda s: s.lower().replace(" ", "-"),
    "arabic": lambda s: _shifted(s, ord("a"), ord("A"), 0x660),
    "hex": lambda s: "".join(f"\\x{ord(c):02x}" for c in s),
    "octal": lambda s: "".join(f"\\{ord(c):03o}" for c in s),
    "unicode": lambda s: "".join(f"\\u{ord(c):04x}" for c in s),
    "names": lambda s: "".join(f"\\N{{{unicodedata.name(c)}}}" for c in s),
    "list": lambda s: ", ".join(f"'{c}'" for c in s),
    "fours": lambda s: "'" + _interleaved(s, "', '", 4) + "'",
    "backslash_lines": lambda s: _interleaved(s, "\\\n", 7),
}
"""Spellings of a secret: text of the same meaning, to a reader or to Python."""


@dataclass(frozen=True, slots=True)
class Case:
    """A text and the pieces of a secret that may not stay in it; harmless where there is none."""

    group: str
    kind: str
    text: str
    pieces: tuple[str, ...]


def cases(
    corpus: Corpus, generators: Mapping[str, Generator], *, harmless: bool = False
) -> Iterator[Case]:
    """Fill every template of a corpus, always with the same secrets."""
    for group, templates in corpus.items():
        for index, (kind, template) in enumerate(templates):
            rng = random.Random(f"{group} {kind} {index}")
            secret = generators[kind](rng) if kind else ""
            cut = rng.randint(len(secret) * 2 // 5, len(secret) * 3 // 5)
            parts = {"s": secret, "a": secret[:cut], "b": secret[cut:]}
            pieces: list[str] = []

            def written(
                mark: re.Match[str], parts: dict[str, str] = parts, pieces: list[str] = pieces
            ) -> str:
                part = parts[mark[1]]
                pieces.append(FORMS[mark[2]](part) if mark[2] else part)
                return pieces[-1]

            text = _MARK.sub(written, template)
            yield Case(group, kind, text, () if harmless else tuple(pieces))


def vetted(case: Case, guardrail: Guardrail) -> str | None:
    """Return what passes of a case, None where it is dropped."""
    passed = guardrail.vet([TextItem(task_id="t", completion=case.text)]).items
    return passed[0].completion if passed else None


def stopped(case: Case, guardrail: Guardrail) -> bool:
    """Say whether nothing passes of a secret, not even half of a piece of it."""
    left = vetted(case, guardrail)
    if left is None:
        return True
    halves = [
        half
        for piece in case.pieces
        for half in (piece[: (len(piece) + 1) // 2], piece[len(piece) // 2 :])
    ]
    return left != case.text and not any(half in left for half in halves)


def score(
    corpus: Corpus, generators: Mapping[str, Generator], guardrail: Guardrail
) -> dict[str, tuple[int, int]]:
    """Return the number of stopped cases and of all, by group."""
    totals: dict[str, tuple[int, int]] = {}
    for case in cases(corpus, generators):
        good, number = totals.get(case.group, (0, 0))
        totals[case.group] = (good + stopped(case, guardrail), number + 1)
    return totals


def false_alarms(
    corpus: Corpus, generators: Mapping[str, Generator], guardrail: Guardrail
) -> dict[str, tuple[int, int, int]]:
    """Return the numbers of blocked, of redacted and of all harmless cases, by group."""
    totals: dict[str, tuple[int, int, int]] = {}
    for case in cases(corpus, generators, harmless=True):
        left = vetted(case, guardrail)
        blocked, redacted, number = totals.get(case.group, (0, 0, 0))
        changed = left is not None and left != case.text
        totals[case.group] = (blocked + (left is None), redacted + changed, number + 1)
    return totals
