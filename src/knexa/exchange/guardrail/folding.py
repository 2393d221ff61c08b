"""Text as a reader sees it: invisible characters dropped, spellings of one character made one.

A credential whose characters are written wide, bold or apart by zero-width characters reads as it
did. Not covered: letters of other alphabets that merely look alike, such as Cyrillic and Latin a.
"""

import re
import unicodedata
from functools import lru_cache

_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
# Invisible, though Unicode calls them letters or marks: the grapheme joiner, fillers, selectors.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0]")
_QUOTES = dict.fromkeys("\u2018\u2019\u201a\u201b", "'") | dict.fromkeys(
    "\u201c\u201d\u201e\u201f\u00ab\u00bb", '"'
)
# Fractions and some signs fold to more; no credential is written with those.
_LONGEST = 2


def folded(text: str) -> str:
    """Return the text with each character folded on its own, so that the cost is linear.

    Format characters are dropped; spaces, dashes and quotes become those of ASCII, decimal digits
    of any script 0 to 9, and everything else its NFKC form. A text in ASCII is returned as it is.
    """
    return text if text.isascii() else _NOT_ASCII.sub(_folded_run, text)


def keeps_places(text: str) -> bool:
    """Return whether folding turns each character of the text into one character."""
    runs = _NOT_ASCII.finditer(text)
    return all(len(_folded_character(character)) == 1 for run in runs for character in run[0])


def _folded_run(run: re.Match[str]) -> str:
    return "".join(map(_folded_character, run[0]))


@lru_cache(maxsize=4096)
def _folded_character(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cf" or _INVISIBLE.match(character):
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category == "Zs":
        return " "
    if category == "Pd" or character == "\u2212":
        return "-"
    if character in _QUOTES:
        return _QUOTES[character]
    normal = unicodedata.normalize("NFKC", character)
    return normal if len(normal) <= _LONGEST else character
