"""The pre-training corpus of the tiny backbones: Python functions with artificial descriptions.

The functions use the constructs of codelets (comprehensions, reductions, sorting, slices, string
methods, dictionaries, loops that carry state), but are described in other words, in another order,
as a docstring, a comment or not at all. A model learns from it to write Python and to copy names
and constants from prompt to body, without seeing the benchmark's wording.
"""

import random
from collections.abc import Iterator
from typing import NamedTuple

from knexa.backbones.pretraining.constructs import CONSTRUCTS, WEIGHTS
from knexa.backbones.pretraining.dialect import NOUNS
from knexa.backbones.pretraining.sketches import draw_sketch
from knexa.seeding import derive_seed


class Sample(NamedTuple):
    """One function: ``prompt`` without its last newline, ``body`` with its own."""

    prompt: str
    body: str


_VERBS = ("do", "make", "get", "run", "calc", "to", "my", "fn", "is", "has", "num", "by", "in")
# Words that mean nothing for the body, so that a model must learn to ignore them.
FILLER = """
    here now please quickly the a of for each with to by and or when then from that is are it also
    their them as in on at simply just this these some kind every
""".split()  # noqa: SIM905


def samples(seed: int) -> Iterator[Sample]:
    """Yield an endless stream of samples, the same for the same seed."""
    rng = random.Random(derive_seed(seed, "corpus"))
    while True:
        draw = draw_sketch if rng.random() < 0.5 else rng.choices(CONSTRUCTS, WEIGHTS)[0]
        yield _present(*draw(rng), rng)


def _present(arguments: tuple[str, ...], says: str, body: str, rng: random.Random) -> Sample:
    """Join signature, description and body in one of the corpus' styles."""
    name = rng.choice(NOUNS)
    if rng.random() < 0.7:
        name = rng.choice((rng.choice(_VERBS), rng.choice(NOUNS))) + "_" + name
    signature = f"def {name}({', '.join(arguments)}):"
    body = "".join(f"    {line}\n" for line in body.replace("THIS", name).splitlines())
    if rng.random() < 0.25:
        filler = " ".join(rng.choices(FILLER, k=rng.randint(1, 4)))
        says = rng.choice((f"{filler} {says}", f"{says} {filler}", f"{filler}; {says}"))
    if says.split()[0].strip(":,") not in arguments:
        says = says[0].upper() + says[1:]
    style = rng.random()
    if style < 0.9:
        return Sample(f'{signature}\n    """{says}."""', body)
    if style < 0.96:
        return Sample(f"{signature}\n    # {says}", body)
    return Sample(signature, body)
