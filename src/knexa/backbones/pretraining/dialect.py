"""Fragments of Python with their descriptions in the dialect of the pre-training corpus.

The dialect's words for operations differ from all of the benchmark's.
"""

import random
from typing import NamedTuple

Draft = tuple[tuple[str, ...], str, str]
"""Argument names, what the description says, and the unindented body."""


class Piece(NamedTuple):
    """A fragment of code and its description."""

    code: str
    says: str


LISTS = ("nums", "values", "data", "items", "xs", "numbers", "scores", "seq", "ys", "arr", "vals")
WORD_LISTS = ("words", "names", "parts", "tags", "labels", "lines", "titles")
TEXTS = ("text", "s", "line", "word", "phrase", "label", "msg", "title")
NUMBERS = ("n", "x", "a", "b", "num", "value", "size", "number", "limit", "y", "q", "steps")
TABLES = ("d", "table", "prices", "counts", "stock", "book", "ages")
KEYS = ("key", "name", "entry", "who")
GRIDS = ("grid", "rows", "matrix", "m", "board")
LETTERS = "abcdefghilmnoprstuvw"
SIGNS = "-+*#_.@>!/|:"
NOUNS = """
    job task unit stage track plan walk thing tool move case form code block part lists maps pair
    item total value word text sums count sets row step index last edge low high
""".split()  # noqa: SIM905  (a list of words is easier to read as text)


def number(rng: random.Random) -> int:
    """Draw a constant, of one digit more often than of two."""
    return rng.randint(0, 9) if rng.random() < 0.6 else rng.randint(10, 99)


def test_of(v: str, rng: random.Random) -> Piece:
    """A condition on the number ``v``."""
    k, m = number(rng), number(rng)
    base, rest = rng.randint(2, 12), rng.randint(1, 6)
    options = (
        Piece(f"{v} > {k}", f"beyond {k}"),
        Piece(f"{v} < {k}", f"short of {k}"),
        Piece(f"{v} >= {k}", f"{k} or beyond"),
        Piece(f"{v} <= {k}", f"{k} or short of it"),
        Piece(f"{v} == {k}", f"same as {k}"),
        Piece(f"{v} != {k}", f"unlike {k}"),
        Piece(f"{v} % {base} == 0", f"fitting {base}"),
        Piece(f"{v} % {base} != 0", f"unfitting {base}"),
        Piece(f"{v} % {base} == {rest}", f"off {base} by {rest}"),
        Piece(f"{k} <= {v} <= {m}", f"inside {k} .. {m}"),
        Piece(f"{k} <= {v} < {m}", f"inside {k} .. {m} open"),
    )
    return rng.choice(options)


def change_of(v: str, rng: random.Random) -> Piece:
    """A new number made from ``v``."""
    k, m, base = number(rng), number(rng), rng.randint(2, 12)
    options = (
        Piece(f"{v} * {k}", f"stretch {k}"),
        Piece(f"{v} + {k}", f"lift {k}"),
        Piece(f"{v} - {k}", f"sink {k}"),
        Piece(f"{v} // {base}", f"shrink {base}"),
        Piece(f"{v} % {base}", f"residue {base}"),
        Piece(f"{v} ** {base}", f"exponent {base}"),
        Piece(f"min({v}, {k})", f"ceiling {k}"),
        Piece(f"max({v}, {k})", f"floor {k}"),
        Piece(f"abs({v} - {k})", f"away {k}"),
        Piece(f"({v} + {k}) * {m}", f"lift {k} stretch {m}"),
        Piece(f"({v} - {k}) // {base}", f"sink {k} shrink {base}"),
        Piece(f"{k} * {v} + {m}", f"stretch {k} lift {m}"),
        Piece(f"{k} if {v} == {m} else {v}", f"swap {m} => {k}"),
    )
    return rng.choice(options)


def text_change(w: str, rng: random.Random) -> Piece:
    """A new text made from ``w``."""
    c, d, s, k = rng.choice(LETTERS), rng.choice(LETTERS), rng.choice(SIGNS), rng.randint(1, 9)
    options = (
        Piece(f"{w}.upper()", "shout"),
        Piece(f"{w}.lower()", "whisper"),
        Piece(f"{w}.title()", "headline"),
        Piece(f"{w}[:{k}]", f"front {k}"),
        Piece(f"{w}[-{k}:]", f"rear {k}"),
        Piece(f"{w}[::-1]", "backwards"),
        Piece(f"{w} * {k}", f"stutter {k}"),
        Piece(f'{w} + "{s}"', f"tail '{s}'"),
        Piece(f'"{s}" + {w}', f"head '{s}'"),
        Piece(f'{w}.replace("{c}", "{d}")', f"swap '{c}' => '{d}'"),
        Piece(f'{w}.rjust({k}, "{s}")', f"pack '{s}' {k} west"),
        Piece(f'{w}.ljust({k}, "{s}")', f"pack '{s}' {k} east"),
        Piece(f'{w}.strip("{s}")', f"peel '{s}'"),
    )
    return rng.choice(options)


def text_test(w: str, rng: random.Random) -> Piece:
    """A condition on the text ``w``."""
    c, k = rng.choice(LETTERS), number(rng)
    options = (
        Piece(f'{w}.startswith("{c}")', f"opening '{c}'"),
        Piece(f'{w}.endswith("{c}")', f"closing '{c}'"),
        Piece(f'"{c}" in {w}', f"holding '{c}'"),
        Piece(f'"{c}" not in {w}', f"lacking '{c}'"),
        Piece(f"len({w}) > {k}", f"size beyond {k}"),
        Piece(f"len({w}) < {k}", f"size short of {k}"),
        Piece(f"len({w}) == {k}", f"size same as {k}"),
    )
    return rng.choice(options)


def text_measure(w: str, rng: random.Random) -> Piece:
    """A number that the text ``w`` has."""
    c, d, k = rng.choice(LETTERS), rng.choice(LETTERS), rng.randint(0, 9)
    options = (
        Piece(f'{w}.count("{c}")', f"hits '{c}'"),
        Piece(f'{w}.find("{c}")', f"spot '{c}'"),
        Piece(f'{w}.rfind("{c}")', f"rear spot '{c}'"),
        Piece(f"len({w}) + {k}", f"size lift {k}"),
        Piece(f"len({w}) * {k}", f"size stretch {k}"),
        Piece(f'{w}.count("{c}") - {w}.count("{d}")', f"hits '{c}' against '{d}'"),
    )
    return rng.choice(options)


def list_change(x: str, rng: random.Random) -> Piece:
    """A new list made from ``x``."""
    k, m = rng.randint(0, 9), rng.randint(1, 9)
    options = (
        Piece(f"sorted({x})", "arranged"),
        Piece(f"sorted({x}, reverse=True)", "arranged down"),
        Piece(f"{x}[::-1]", "backwards"),
        Piece(f"{x}[:{k}]", f"front {k}"),
        Piece(f"{x}[-{m}:]", f"rear {m}"),
        Piece(f"{x}[{k}:]", f"skipping {k}"),
        Piece(f"{x}[{k}::{m}]", f"skipping {k} stride {m}"),
        Piece(f"{x}[{m}:] + {x}[:{m}]", f"revolved {m}"),
        Piece(f"{x}[-{m}:] + {x}[:-{m}]", f"revolved back {m}"),
        Piece(f"sorted({x}, key=lambda v: v % {m})", f"arranged via residue {m}"),
        Piece(f"sorted({x}, key=lambda v: abs(v - {k}))", f"arranged via away {k}"),
        Piece(f"sorted(set({x}))", "arranged uniquely"),
    )
    return rng.choice(options)


FOLDS = (
    ("sum", "added up"),
    ("max", "peak"),
    ("min", "trough"),
    ("sorted", "arranged"),
    ("list", "listing"),
    ("set", "uniques"),
    ("len", "tally"),
)


def said(head: str, parts: list[str], rng: random.Random) -> str:
    """Join a subject and the descriptions of operations on it, in one of several orders."""
    if rng.random() < 0.5:
        return rng.choice((f"{head}: ", f"takes {head}, ", f"{head} -> ")) + ", ".join(parts)
    return ", ".join(parts) + rng.choice((f" ({head})", f" <- {head}", f", using {head}"))
