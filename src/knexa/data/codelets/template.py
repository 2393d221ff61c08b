"""Templates of codelets, and how a choice of slot values becomes a problem.

A template is text with ``$`` placeholders (``string.Template``): the names of the arguments, which
each instance chooses, and slots (constants, operators, letters), whose values define the instance.
The tests of an instance are computed by running its canonical body.
"""

import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product, zip_longest
from typing import NamedTuple

from knexa.data.problem import CATEGORIES, Problem

Value = object
"""A Python literal: what arguments and results of codelets are made of."""

NUM_ASSERTS = 10
_NUM_CANDIDATE_INPUTS = 60
_VERBS = ("Return", "Compute", "Find", "Give")
_PREFIXES = ("", "", "get_", "calc_", "my_")
_WORDS = """
    apple bread cloud delta eagle flame grape house igloo jelly kite lemon mango night ocean
    paper queen river stone table under violet water yacht zebra an to tree sun moon cat
    umbrella notebook elephant garden winter
""".split()  # noqa: SIM905  (a list of words is easier to read as text)

_ARGUMENT_NAMES: dict[str, tuple[str, ...]] = {
    "int": ("n", "x", "a", "b", "num", "value", "size"),
    "positive": ("n", "x", "num", "number", "value", "limit"),
    "count": ("n", "size", "steps", "num", "limit"),
    "ints": ("nums", "values", "data", "items", "xs", "numbers", "scores"),
    "text": ("text", "s", "line", "word", "phrase", "label"),
    "words": ("words", "names", "parts", "tags", "labels"),
    "table": ("d", "table", "prices", "counts", "stock"),
    "key": ("key", "name", "entry"),
    "matrix": ("grid", "rows", "matrix", "m"),
}


class Word(NamedTuple):
    """A slot value that reads differently in code and in English, e.g. ``>`` and "greater than"."""

    code: str
    english: str


@dataclass(frozen=True, kw_only=True)
class Template:
    """One kind of problem.

    Attributes:
        name: Unique within its category.
        names: Function names to choose from.
        args: (placeholder, kind of argument) in the signature's order.
        slots: Slot name to its values; a name "k m" fills both from pairs.
        phrases: What follows the verb in the docstring; every one mentions every slot.
        body: The canonical body, unindented, without the final newline.
    """

    name: str
    names: tuple[str, ...]
    args: tuple[tuple[str, str], ...]
    slots: dict[str, tuple[object, ...]]
    phrases: tuple[str, ...]
    body: str

    def choices(self, num_variants: int) -> list[dict[str, object]]:
        """Return every assignment of the slots, in a fixed order.

        Of a slot whose values are words (operators, say), the first ``num_variants`` are used.
        """
        chosen = []
        usable = [
            values[:num_variants] if isinstance(values[0], Word) else values
            for values in self.slots.values()
        ]
        for values in product(*usable):
            slots: dict[str, object] = {}
            for key, value in zip(self.slots, values, strict=True):
                parts = key.split()
                if len(parts) > 1:
                    assert isinstance(value, tuple)
                    slots.update(zip(parts, value, strict=True))
                else:
                    slots[key] = value
            chosen.append(slots)
        return chosen

    def write_body(self, code: dict[str, object], names: dict[str, str], this: str) -> str:
        """Fill in the body: slot values as code, argument names, and the function's own name."""
        return string.Template(self.body).substitute(code, this=this, **names)


def template(
    signature: str, names: str, slots: dict[str, tuple[object, ...]], body: str, *phrases: str
) -> Template:
    """Build a ``Template`` from compact text, e.g. "combine(x:ints k:int)" and "merge add"."""
    name, _, arguments = signature.rstrip(")").partition("(")
    args = tuple((a, k) for a, k in (part.split(":") for part in arguments.split()))
    return Template(
        name=name, names=tuple(names.split()), args=args, slots=slots, phrases=phrases, body=body
    )


def instantiate(
    kind: Template, category: int, slots: dict[str, object], index: int, rng: random.Random
) -> Problem:
    """Write one problem: choose names and wording, run the body, select discriminating inputs.

    Args:
        kind: The template.
        category: Index into ``CATEGORIES``.
        slots: One of ``kind.choices``.
        index: Number of the instance within its template.
        rng: Source of all choices.

    Raises:
        ValueError: When the canonical body cannot be told from a constant, which is a mistake in
            the template.
    """
    code = {k: v.code if isinstance(v, Word) else v for k, v in slots.items()}
    english = {k: v.english if isinstance(v, Word) else v for k, v in slots.items()}
    entry_point = rng.choice(_PREFIXES) + rng.choice(kind.names)
    names = _argument_names(kind, rng)
    phrase = string.Template(rng.choice(kind.phrases)).substitute(english, **names)
    signature = f"def {entry_point}({', '.join(names.values())}):"
    prompt = f'{signature}\n    """{rng.choice(_VERBS)} {phrase}."""\n'
    body = kind.write_body(code, names, entry_point)
    solution = "".join(f"    {line}\n" for line in body.splitlines())

    namespace: dict[str, Callable[..., Value]] = {}
    exec(prompt + solution, namespace)  # trusted text, run to compute the expected answers
    cases = _discriminating_cases(kind, namespace[entry_point], list(code.values()), rng)
    task_id = f"codelets/{CATEGORIES[category]}/{kind.name}/{index}"
    if len({literal(answer) for _, answer in cases}) < 2 or len(cases) < 4:
        raise ValueError(
            f"{task_id}: inputs do not tell the body from a constant: {solution}{cases}"
        )
    return Problem(
        task_id=task_id,
        prompt=prompt,
        entry_point=entry_point,
        canonical_solution=solution,
        test_code="".join(
            f"assert candidate({', '.join(map(literal, inputs))}) == {literal(answer)}\n"
            for inputs, answer in cases
        ),
        category=category,
        source="codelets",
    )


def literal(value: Value) -> str:
    """Return ``repr(value)`` with the elements of sets in sorted order."""
    if isinstance(value, set):
        return "{" + ", ".join(sorted(map(repr, value))) + "}" if value else "set()"
    return repr(value)


def _argument_names(kind: Template, rng: random.Random) -> dict[str, str]:
    names: dict[str, str] = {}
    for placeholder, argument in kind.args:
        free = [n for n in _ARGUMENT_NAMES[argument] if n not in names.values()]
        names[placeholder] = rng.choice(free)
    return names


def _discriminating_cases(
    kind: Template, reference: Callable[..., Value], constants: list[object], rng: random.Random
) -> list[tuple[list[Value], Value]]:
    """Return ``NUM_ASSERTS`` cases (inputs, answer) whose answers differ as much as they can."""
    cases: dict[str, list[tuple[list[Value], Value]]] = {}
    for _ in range(_NUM_CANDIDATE_INPUTS):
        inputs: list[Value] = []
        for _, argument in kind.args:
            inputs.append(_draw(argument, constants, inputs, rng))
        try:
            answer = reference(*inputs)
        except IndexError:  # a text too short for this instance: outside its domain
            continue
        cases.setdefault(literal(answer), []).append((inputs, answer))
        if len(cases) == NUM_ASSERTS:
            break
    turns = zip_longest(*cases.values())  # one case of each answer, then the next of each
    return [case for turn in turns for case in turn if case is not None][:NUM_ASSERTS]


def _draw(
    argument: str, constants: list[object], earlier: list[Value], rng: random.Random
) -> Value:
    """Draw one input; the instance's own constants and their neighbours come up often."""
    numbers = [c for c in constants if isinstance(c, int)]
    letters = [c for c in constants if isinstance(c, str) and len(c) == 1 and c not in "+-*<>"]

    def number(low: int = -9, high: int = 25) -> int:
        if numbers and rng.random() < 0.5:
            return min(high, max(low, rng.choice(numbers) + rng.choice((-1, 0, 0, 1))))
        return rng.randint(low, high)

    def text(num_words: int) -> str:
        out = " ".join(rng.choice(_WORDS) for _ in range(num_words))
        for letter in letters:
            if rng.random() < 0.5:
                at = rng.choice((0, len(out), rng.randrange(len(out))))
                out = out[:at] + letter + out[at:]
        return out

    match argument:
        case "int":
            return number(-9, 99)
        case "positive":
            return number(1, 400) if rng.random() < 0.5 else rng.randint(1, 40)
        case "count":
            return rng.randint(1, 7)
        case "ints":
            middle = rng.choice(numbers) if numbers else 0
            low, high = rng.choice(((-9, 25), (-9, 25), (middle + 1, middle + 12), (-9, middle)))
            return [number(low, max(low, high)) for _ in range(rng.randint(6, 9))]
        case "text":
            return text(rng.choice((1, 1, 2, 3, 4)))
        case "words":
            return [text(1) for _ in range(rng.randint(3, 6))]
        case "table":
            return {text(1): number() for _ in range(rng.randint(3, 5))}
        case "key":
            table = next(v for v in earlier if isinstance(v, dict))
            return rng.choice(list(table) if rng.random() < 0.4 else _WORDS)
        case "matrix":
            width = rng.randint(5, 6)
            return [[rng.randint(-9, 9) for _ in range(width)] for _ in range(rng.randint(2, 3))]
        case _:
            raise ValueError(f"no such kind of argument: {argument}")
