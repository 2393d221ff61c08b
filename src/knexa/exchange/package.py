"""Knowledge packages: a teacher's text as canonical JSON, read as hostile input.

A package is UTF-8 JSON with sorted keys and no white space, so equal packages are equal bytes, and
the kilobytes that a reward pays for (Eq. 3) are ``len(bytes) / 1024``. ``decode`` bounds size and
structure before anything is parsed, checks every field, and raises ``PackageError``.

Not covered: authenticity (see the channel) and content (see the guardrail).
"""

import json
import math
import re
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, NoReturn

PACKAGE_VERSION: Final = 1
"""Version of the format; raised when a field changes its meaning."""

# C0 and C1 controls but tab, line feed and carriage return; lone surrogates; and the bidirectional
# controls, which make code read differently from how it runs.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
# Possessive, with an optional closing quote: one linear pass, whatever the input.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[{\[,]', re.DOTALL)
_PACKAGE_KEYS = frozenset({"version", "kind", "sender", "round", "items"})
_ITEM_KEYS = frozenset({"task_id", "completion", "confidence"})


class PackageError(ValueError):
    """A package must not be used; the message is one line that says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageLimits:
    """The largest package that a receiver accepts; sizes of text in characters.

    The defaults are ten times what 128 answers of 256 tokens take.
    """

    max_bytes: int = 4 * 1024 * 1024
    max_items: int = 4096
    max_completion: int = 32 * 1024
    max_name: int = 256


DEFAULT_LIMITS = PackageLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class TextItem:
    """A teacher's answer to one transfer problem.

    Attributes:
        task_id: The problem's id.
        completion: What the teacher decoded.
        confidence: Mean log-probability of its tokens, in nats; None where the teacher has none.
    """

    task_id: str
    completion: str
    confidence: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgePackage:
    """Answers to transfer problems: a teacher's, at most one a problem, or a pool of many's."""

    sender: str
    round: int
    items: tuple[TextItem, ...]
    kind: Literal["text", "pool"] = "text"
    version: int = PACKAGE_VERSION


def encode(package: KnowledgePackage, *, limits: PackageLimits = DEFAULT_LIMITS) -> bytes:
    """Return the package as sent.

    Raises:
        PackageError: A receiver with these limits would refuse it.
    """
    fields = asdict(package)
    fields["items"] = list(fields["items"])
    _check(fields, limits)
    text = json.dumps(
        fields, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
    )
    data = text.encode()
    if len(data) > limits.max_bytes:
        raise PackageError(f"the package has {len(data)} bytes, allowed are {limits.max_bytes}")
    return data


def decode(data: bytes, *, limits: PackageLimits = DEFAULT_LIMITS) -> KnowledgePackage:
    """Read a package from bytes that anybody may have written.

    Raises:
        PackageError: Too large, not UTF-8, not JSON, another version, unknown, missing or repeated
            fields, wrong types, control characters, numbers that are not finite, a problem answered
            twice, or too many items.
    """
    if len(data) > limits.max_bytes:
        raise PackageError(f"the package has {len(data)} bytes, allowed are {limits.max_bytes}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PackageError(f"the package is not UTF-8 at byte {error.start}") from None
    _check_structure(text, limits)
    try:
        fields = json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_int=_short_int,
        )
    except PackageError:
        raise
    except (ValueError, RecursionError) as error:
        raise PackageError(f"the package is not JSON: {str(error)[:80]}") from None
    _check(fields, limits)
    items = tuple(TextItem(**item) for item in fields["items"])
    return KnowledgePackage(**fields | {"items": items})


def unsendable(item: TextItem, *, limits: PackageLimits = DEFAULT_LIMITS) -> str | None:
    """Return why no package may carry this item, or None where one may."""
    fields = {
        "task_id": item.task_id,
        "completion": item.completion,
        "confidence": item.confidence,
    }
    try:
        _check_item(fields, limits)
    except PackageError as error:
        return str(error)
    return None


def _check_structure(text: str, limits: PackageLimits) -> None:
    """Bound the structure before parsing, so that memory stays near the size of the input."""
    item_strings, package_strings = len(_ITEM_KEYS) + 2, len(_PACKAGE_KEYS) + 2
    left = {
        "{": limits.max_items + 1,
        "[": 1,
        ",": len(_ITEM_KEYS) * limits.max_items + len(_PACKAGE_KEYS),
        '"': item_strings * limits.max_items + package_strings,
    }
    for token in _TOKEN.finditer(text):
        first = text[token.start()]
        left[first] -= 1
        if left[first] < 0:
            raise PackageError(
                f"the package has too many items or is nested too deeply; allowed are "
                f"{limits.max_items} items"
            )


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise PackageError("the package repeats a field")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise PackageError(f"the package holds {name}, which is not a number")


def _short_int(digits: str) -> int:
    if len(digits) > 18:
        raise PackageError("the package holds an integer of more than 18 digits")
    return int(digits)


def _check(fields: Any, limits: PackageLimits) -> None:
    _check_keys(fields, _PACKAGE_KEYS, "the package")
    if type(fields["version"]) is not int or fields["version"] != PACKAGE_VERSION:
        raise PackageError(
            f"the package has version {_show(fields['version'])}, this program reads "
            f"{PACKAGE_VERSION}"
        )
    if fields["kind"] not in ("text", "pool"):
        raise PackageError(
            f"the package is of kind {_show(fields['kind'])}, known are 'text' and 'pool'"
        )
    _check_text(fields["sender"], "sender", 1, limits.max_name)
    if type(fields["round"]) is not int or fields["round"] < 0:
        raise PackageError(f"round is {_show(fields['round'])}, must be an integer >= 0")
    items = fields["items"]
    if type(items) is not list:
        raise PackageError("items is not a list")
    if len(items) > limits.max_items:
        raise PackageError(f"the package has {len(items)} items, allowed are {limits.max_items}")
    for item in items:
        _check_item(item, limits)
    if fields["kind"] == "text" and len({item["task_id"] for item in items}) != len(items):
        raise PackageError("the package answers a problem twice")
    if len({(item["task_id"], item["completion"]) for item in items}) != len(items):
        raise PackageError("the package gives an answer twice")


def _check_item(item: Any, limits: PackageLimits) -> None:
    _check_keys(item, _ITEM_KEYS, "an item")
    _check_text(item["task_id"], "task_id", 1, limits.max_name)
    _check_text(item["completion"], "completion", 0, limits.max_completion)
    confidence = item["confidence"]
    if confidence is not None and (
        type(confidence) not in (float, int) or not math.isfinite(confidence)
    ):
        raise PackageError(f"confidence is {_show(confidence)}, must be a finite number or null")


def _check_keys(fields: Any, wanted: frozenset[str], what: str) -> None:
    if type(fields) is not dict:
        raise PackageError(f"{what} is not an object")
    if fields.keys() != wanted:
        unknown = sorted(fields.keys() - wanted)
        missing = sorted(wanted - fields.keys())
        detail = f"unknown field {_show(unknown[0])}" if unknown else f"no field {missing[0]!r}"
        raise PackageError(f"{what} has {detail}")


def _check_text(value: Any, field: str, shortest: int, longest: int) -> None:
    if type(value) is not str:
        raise PackageError(f"{field} is not text")
    if not shortest <= len(value) <= longest:
        raise PackageError(
            f"{field} has {len(value)} characters, allowed are {shortest} to {longest}"
        )
    if _UNPRINTABLE.search(value):
        raise PackageError(f"{field} holds a control character")


def _show(value: Any) -> str:
    """Return a hostile value short and on one line."""
    if isinstance(value, str):
        value = value[:40]
    return ascii(value)[:60] if not isinstance(value, dict | list) else type(value).__name__
