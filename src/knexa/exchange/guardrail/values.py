"""Values of a program that is read, not run, and the strings that literals are put together to.

Each operation takes its cost from a budget, so that a program cannot ask for more than is in
proportion to its length.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

LONGEST_STRING = 32 * 1024
"""Characters of a string that is put together; a package may carry no longer text."""

_MAX_OPTIONS = 64  # of one value
_PERCENT = re.compile(r"%(?:\((\w*)\))?([sdrc%])")
_BRACES = re.compile(r"\{(\w*)(?:![sra])?\}|\{\{|\}\}")


class Unreadable(Exception):  # noqa: N818  (no error of ours: a property of the text)
    """A program is too intricate to be read at a cost in proportion to its length."""


@dataclass(frozen=True, slots=True)
class Either:
    """One of several values."""

    options: tuple["Value", ...]


Value = str | tuple["Value", ...] | dict[str, "Value"] | Either | None
"""A string, a container by position or by key, one of several, or unknown (None)."""


@dataclass
class Budget:
    """What is left to spend: 1 for a character that will be read, an 8th for one that is copied."""

    left: int

    def spend(self, work: int) -> None:
        """Take from the budget.

        Raises:
            Unreadable: It is spent.
        """
        self.left -= work
        if self.left < 0:
            raise Unreadable


def text_of(value: Value) -> str | None:
    """Return the string that a value is, or the first that it may be."""
    if isinstance(value, Either):
        return next((text for text in map(text_of, value.options) if text), None)
    return value if isinstance(value, str) else None


def either(values: Iterable[Value]) -> Either:
    """Return one of several values, options of options among them."""
    flat = (
        option
        for value in values
        for option in (value.options if isinstance(value, Either) else (value,))
    )
    return Either(tuple(islice(flat, _MAX_OPTIONS)))


def held(value: Value, budget: Budget) -> Iterator[str]:
    """Yield the strings in a value, keys excepted."""
    waiting = [value]
    while waiting:
        budget.spend(16)
        match waiting.pop():
            case str(string):
                yield string
            case tuple(parts) | Either(options=parts):
                waiting += parts
            case dict(entries):
                waiting += entries.values()


def together(budget: Budget, parts: Sequence[str]) -> str:
    """Return strings put together."""
    length = sum(map(len, parts))
    if length > LONGEST_STRING:
        raise Unreadable
    budget.spend(length // 8)
    return "".join(parts)


def joined(budget: Budget, separator: str, value: Value) -> str | None:
    """Return ``separator.join(value)``, None where a part is unknown."""
    if not isinstance(value, tuple):
        return None
    budget.spend(len(value))
    texts = [text for text in map(text_of, value) if text is not None]
    if len(texts) < len(value):
        return None
    return together(budget, [part for text in texts for part in (separator, text)][1:])


def formatted(
    budget: Budget, template: str, arguments: Sequence[Value], keywords: Mapping[str, Value]
) -> str | None:
    """Return ``template.format(*arguments, **keywords)``, None where a part is unknown."""

    def part(name: str, place: int) -> str | None:
        if name and not name.isdecimal():
            return text_of(keywords.get(name))
        index = int(name[:6]) if name else place
        return text_of(arguments[index]) if index < len(arguments) else None

    budget.spend(len(template) // 8)
    parts: list[str] = []
    end = place = 0
    for match in _BRACES.finditer(template):
        is_brace = match[0] in ("{{", "}}")
        text = match[0][0] if is_brace else part(match[1], place)
        if text is None:
            return None
        place += not is_brace
        parts += (template[end : match.start()], text)
        end = match.end()
    return together(budget, [*parts, template[end:]])


def percent(budget: Budget, template: str, value: Value) -> str | None:
    """Return ``template % value``, None where a part is unknown."""
    values = iter(value if isinstance(value, tuple) else (value,))
    named = value if isinstance(value, dict) else {}
    budget.spend(len(template) // 8)
    parts: list[str] = []
    end = 0
    for match in _PERCENT.finditer(template):
        if match[2] == "%":
            text: str | None = "%"
        else:
            text = text_of(named.get(match[1]) if match[1] is not None else next(values, None))
        if text is None:
            return None
        parts += (template[end : match.start()], text)
        end = match.end()
    return together(budget, [*parts, template[end:]])
