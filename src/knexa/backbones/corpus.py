"""What the tiny backbones read before any agent is tuned: Python in another dialect.

Functions of the constructs that codelets are made of (comprehensions, reductions, sorting, slices,
string methods, dictionaries, loops that carry state), described in other words, in another order,
as a docstring, as a comment or not at all. Whoever reads it learns to write Python and to carry
names and constants from prompt to body; the benchmark's wording it does not meet, and a function
that a benchmark template could have written is left out (``skeleton``).
"""

import random
import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from knexa.backbones.constructs import CONSTRUCTS, WEIGHTS
from knexa.backbones.dialect import NOUNS
from knexa.data.codelets import TEMPLATES
from knexa.data.codelets.template import Word
from knexa.seeding import derive_seed


class Sample(NamedTuple):
    """One function: ``prompt`` without its last newline, ``body`` with its own."""

    prompt: str
    body: str


_VERBS = ("do", "make", "get", "run", "calc", "to", "my", "fn", "is", "has", "num", "by", "in")
# Everyday words without a meaning for the body: a model that copies must look past them.
_FILLER = """
    here now please quickly the a of for each with to by and or when then from that is are it
    first last left right start end after before above below over under between both either
    number entry letter times sum count index key text list pair side more less than least most
    large small times plus minus divided whether True if where which whose what how many all any
    every without only also their them as in on at up down out back place sorted order found
""".split()  # noqa: SIM905


def samples(seed: int) -> Iterator[Sample]:
    """Yield an endless stream of samples, the same for the same seed."""
    rng = random.Random(derive_seed(seed, "corpus"))
    known = _benchmark_skeletons()
    while True:
        arguments, says, body = rng.choices(CONSTRUCTS, WEIGHTS)[0](rng)
        if skeleton(body, arguments) not in known:
            yield _present(arguments, says, body, rng)


def skeleton(body: str, arguments: tuple[str, ...]) -> str:
    """Return a body without its choices: arguments by position, numbers and texts as one mark."""
    for i, name in enumerate(arguments):
        body = re.sub(rf"\b{name}\b", f"A{i}", body)
    body = re.sub(r'"[^"]*"', "T", body)
    return re.sub(r"-?\b\d+\b", "N", body)


@cache
def _benchmark_skeletons() -> frozenset[str]:
    known = set()
    for kinds in TEMPLATES.values():
        for kind in kinds:
            arguments = tuple(f"arg{i}" for i in range(len(kind.args)))
            names = {a: arguments[i] for i, (a, _) in enumerate(kind.args)}
            for choice in kind.choices():
                values = {k: v.code if isinstance(v, Word) else v for k, v in choice.items()}
                known.add(skeleton(kind.write_body(values, names, "this"), arguments))
    return frozenset(known)


def _present(arguments: tuple[str, ...], says: str, body: str, rng: random.Random) -> Sample:
    """Put signature, description and body together in one of the corpus' styles."""
    name = rng.choice(NOUNS)
    if rng.random() < 0.7:
        name = rng.choice((rng.choice(_VERBS), rng.choice(NOUNS))) + "_" + name
    signature = f"def {name}({', '.join(arguments)}):"
    body = "".join(f"    {line}\n" for line in body.replace("THIS", name).splitlines())
    if rng.random() < 0.35:
        filler = " ".join(rng.choices(_FILLER, k=rng.randint(1, 5)))
        says = rng.choice((f"{filler} {says}", f"{says} {filler}", f"{filler}; {says}"))
    if says.split()[0].strip(":,") not in arguments:
        says = says[0].upper() + says[1:]
    style = rng.random()
    if style < 0.85:
        return Sample(f'{signature}\n    """{says}."""', body)
    if style < 0.95:
        return Sample(f"{signature}\n    # {says}", body)
    return Sample(signature, body)
