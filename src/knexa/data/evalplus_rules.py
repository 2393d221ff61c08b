"""How EvalPlus (Liu et al. 2023) judges answers: the trusted half of its problems' tests.

The text of this module heads their ``test_code``, so it uses the standard library alone. A case is
the arguments of one call and the value that the canonical solution returns. As in EvalPlus 0.3.1, a
value is right that equals this one; where a tolerance holds, one of the same type that is near it;
and a few problems have rules of their own, by ``RULES``.
"""

import copy
import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

RULES: dict[str, str] = {
    # "Not None" is all that the original tests ask of a match.
    **dict.fromkeys(("check_str", "text_match_three", "text_starta_endb"), "not_none"),
    # In any order, and however often.
    **dict.fromkeys(("similar_elements", "find_char_long", "common_in_nested_lists"), "set"),
    **dict.fromkeys(("extract_singly", "larg_nnum", "find_dissimilar", "Diff"), "set"),
    "surface_Area": "or_surface",
    "digit_distance_nums": "or_digit_distance",
    "find_zero": "root",
}
"""By entry point: the rule of a problem that has one of its own."""

FLOAT_TOLERANCE = 1e-6
RELATIVE_TOLERANCE = 1e-7
_SMALL = 1 << 62
AGAIN = object()
"""Stands for an expected value that is too large to be kept: the reference computes it again."""


def encode(value: Any) -> Any:
    """Return a value as plain JSON: an object with one key, its kind, for all that JSON lacks.

    Raises:
        ValueError: Nothing of its type is expected.
    """
    kind = type(value)
    if kind is str or kind is float or kind is bool or value is None:
        return value
    if kind is int:  # long ones in hexadecimal, which is read in linear time
        return value if -_SMALL < value < _SMALL else {"int": hex(value)}
    if kind is list:
        return [encode(item) for item in value]
    if value is AGAIN:
        return {"again": 0}
    if isinstance(value, tuple | set):
        return {"tuple" if kind is tuple else "set": [encode(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    raise ValueError(f"a {type(value).__name__} is not expected here")


_READERS: dict[str, Callable[[Any], Any]] = {
    "again": lambda _: AGAIN,
    "int": lambda text: int(text, 16),
    "tuple": tuple,
    "set": set,
    "dict": dict,
    "complex": lambda parts: complex(*parts),
}


def decode(text: str) -> Any:
    """Return the value that ``json.dumps(encode(value))`` was made from."""

    def read(found: dict[str, Any]) -> Any:
        ((kind, content),) = found.items()
        return _READERS[kind](content)

    return json.loads(text, object_hook=read)


def compiled(program: str, entry_point: str) -> Callable[..., Any]:
    """Return the trusted function of a program."""
    namespace: dict[str, Any] = {}
    exec(program, namespace)
    function: Callable[..., Any] = namespace[entry_point]
    return function


def judge(
    candidate: Callable[..., Any], cases: str, *, rule: str, atol: float, reference: tuple[str, str]
) -> None:
    """Raise AssertionError where the candidate answers a case wrongly.

    Args:
        candidate: The program's function.
        cases: (arguments, expected value) of every call, as ``encode`` writes them.
        rule: A value of ``RULES``; empty compares values.
        atol: The problem's tolerance; 0 asks for equal values, but for floats.
        reference: The canonical solution's program and entry point.
    """
    compute = None
    for number, (arguments, expected) in enumerate(decode(cases)):
        if expected is AGAIN:
            compute = compute or compiled(*reference)
            expected = compute(*copy.deepcopy(arguments))
        given = copy.deepcopy(arguments) if rule == "root" else arguments
        found = candidate(*arguments)
        if rule == "root":  # of the polynomial as it was given, whatever the program made of it
            is_right = abs(_polynomial(given[0], found)) <= atol
        else:
            is_right = _agrees(rule, found, expected, arguments, atol)
            if atol == 0 and _are_floats(expected):
                atol = FLOAT_TOLERANCE  # from here on, whatever the next cases expect
            if not is_right and atol != 0:
                is_right = is_near(found, expected, atol)
        if not is_right:
            raise AssertionError(f"the answer to input {number} is wrong")


def _agrees(rule: str, found: Any, expected: Any, arguments: Sequence[Any], atol: float) -> bool:
    """Return whether a value is right, tolerance for numbers aside."""
    match rule:
        case "set":
            return set(found) == set(expected)
        case "not_none":
            given = found if isinstance(found, bool) else found is not None
            return bool(given == expected)
    if bool(found == expected):
        return True
    match rule:
        case "or_surface":
            return bool(abs(found - _surface(*arguments)) <= atol)
        case "or_digit_distance":
            return bool(found == _digit_distance(*arguments))
    return False


def is_near(found: Any, expected: Any, atol: float) -> bool:
    """Return whether a value has the expected one's type, and numbers near its numbers.

    Lists and tuples in them are compared item by item. Raises TypeError for what holds no numbers.
    """
    return type(found) is type(expected) and _are_near(found, expected, atol)


def _are_near(found: Any, expected: Any, atol: float) -> bool:
    if isinstance(expected, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(expected):
            return False
        return all(_are_near(*pair, atol) for pair in zip(found, expected, strict=True))
    for value in (found, expected):
        if not isinstance(value, int | float | complex):
            raise TypeError(f"a {type(value).__name__} is no number")
    if found == expected:
        return True
    distance, size = abs(found - expected), abs(expected)
    return math.isfinite(size) and bool(distance <= atol + RELATIVE_TOLERANCE * size)


def _are_floats(value: Any) -> bool:
    if isinstance(value, list | tuple) and value:
        return all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def _polynomial(coefficients: Iterable[float], x: float) -> float:
    """Return the value at ``x`` of the polynomial with these coefficients, the lowest first."""
    return sum(each * math.pow(x, power) for power, each in enumerate(coefficients))


def _surface(edge: float, height: float) -> int:
    """Return the surface of a square pyramid whose ``height`` is that of its apex."""
    slant = math.sqrt((edge / 2) ** 2 + height**2)
    return round(edge**2 + 4 * (edge * slant) / 2)


def _digit_distance(first: int, second: int) -> int:
    """Return the sum of the differences of two numbers' digits, the shorter filled with zeros."""
    texts = str(first), str(second)
    width = max(map(len, texts))
    digits = (map(int, text.zfill(width)) for text in texts)
    return sum(abs(a - b) for a, b in zip(*digits, strict=True))
