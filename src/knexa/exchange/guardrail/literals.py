"""What a text says: a program's strings and names, or whatever patterns tell of any other text.

A text that is no program, such as prose, Markdown, a configuration file or code that is cut, is
read whole, with its quoted strings joined where nothing but signs stands between them.
"""

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator

from knexa.exchange.guardrail.names import strength
from knexa.exchange.guardrail.program import read
from knexa.exchange.guardrail.scope import Reading

# The parser takes 28 MB for the worst text of this length, the longest that a package may carry.
_MAX_PARSED = 32 * 1024  # characters

# The closing quote is optional, so that the pass is linear where there is none.
_QUOTED = re.compile(r"""(["'])((?:(?!\1)[^\\\n]|\\.)*+)\1?|#([^\n]*)""")
_GAP = r"\s{0,99}\\?\s{0,99}[bfruBFRU]{0,2}"
# One literal ends and another begins, with nothing but + between; or literals are put together.
_JOINED = re.compile(
    rf"""["'](?:(?<=[\w+/=.@-]["']){_GAP}["'](?=[\w+/=@-])|\s{{0,99}}\+{_GAP}["'(]"""
    r"""|\s{0,99}\+\s?str|\s{0,9}%\s{0,9}\(?\s{0,9}["'])"""
)
_ASSEMBLED = re.compile(r"""\.(?:join|format)\(\s{0,9}[\[(]?\s{0,9}[bfru]?["']""")
# The same in a text that is no program. By pattern the prefix of a literal cannot be told from a
# literal that reads like one, as in "ru" + "by", so both readings are tried.
_SEAMS = (
    re.compile(rf"""["']\s{{0,99}}\+?{_GAP}["']"""),
    re.compile(r"""["']\s{0,99}\+?\s{0,99}\\?\s{0,99}["']"""),
)
# As in a list, a call or a format; too much reads like a secret when words are joined over commas,
# so only formats of providers are looked for.
_LISTED = re.compile(r"""["']\s{0,99}[,+%)(\[]{1,3}\s{0,99}[bfruBFRU]{0,2}["']""")
_ESCAPE = re.compile(r"\\(?:x[0-9A-Fa-f]|u[0-9A-Fa-f]|U0|N\{|[0-7])")
_UNESCAPED = re.compile(r"\\x([0-9A-Fa-f]{2})|\\u([0-9A-Fa-f]{4})|\\([0-7]{3})")
_CONTINUED = re.compile(r"\\\r?\n")

# Possessive or bounded, so that no text makes a pass more than linear.
_LONGEST_NAME = 128
_NAME = re.compile(r"[\w.-]{2,}+")
_QUOTED_VALUE = re.compile(  # = "value", ": "value", : str = "value", , "value"
    r"""["']?\]?\s{0,4}(?::\s{0,4}\w{1,16}\s{0,4})?(?:=>|[:=+]{1,2}|,|\bis\b)\s{0,4}"""
    r"""[bfruBFRU]{0,2}(["'])(?P<value>[^"'\n]{8,256})\1"""
)
_BARE_VALUE = re.compile(  # =value, : value, >value, value after a space, "of x is value"
    r"""["']?(?:\s{0,4}+(?:=>|->|:=|[:=>])\s{0,4}|[ \t]{1,4}+"""
    r"""(?:(?:\w{1,20}+[ \t]){0,4}(?:is|are|was|ist|lautet|est|es|is:|ist:)[ \t]{1,4}:?[ \t]?)?)"""
    r"""["'`]?(?P<value>[^\s"'`,;<>&]{8,256}+)"""
)
_CURL_USER = re.compile(
    r"""\s(?:-u|--user|--proxy-user)[ =]{0,2}["']?[^\s:"']{1,64}:([^\s"']{8,256})"""
)
_TOKEN_OF_LINE = re.compile(r"[\w+/=.~-]{4,256}")


def hides_text(text: str) -> bool:
    """Return whether the program's strings may differ from its text (joined, escaped)."""
    return (
        _JOINED.search(text) is not None
        or ("\\" in text and bool(_ESCAPE.search(text) or _CONTINUED.search(text)))
        or ((".join(" in text or ".format(" in text) and _ASSEMBLED.search(text) is not None)
    )


def parse(text: str) -> ast.Module | None:
    """Return the syntax tree of a program or of a function's body, None where it is neither."""
    if len(text) > _MAX_PARSED:
        return None
    indented = text.lstrip("\n")[:1] in (" ", "\t")
    for source in ("if 1:\n" + text, textwrap.dedent(text)) if indented else (text,):
        try:
            with warnings.catch_warnings():
                # Warnings about a peer's text are of no use here.
                warnings.simplefilter("ignore", SyntaxWarning)
                warnings.simplefilter("ignore", DeprecationWarning)
                return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return None


def said(text: str) -> Reading:
    """Return what a text says: its strings and comments, and the strings that have a name.

    Raises:
        Unreadable: It is a program that is too intricate to be read in linear time.
    """
    tree = parse(text)
    if tree is None:
        return _said_without_syntax(text)
    reading = read(tree, len(text))
    if "#" in text:
        comments = [match[3] for match in _QUOTED.finditer(text) if match[3]]
        reading.strings += comments
        if len(comments) > 1:
            reading.strings.append("\n".join(comments))
    return reading


def _said_without_syntax(text: str) -> Reading:
    reading = Reading(strings=[text])
    if hides_text(text) or _SEAMS[0].search(text):
        for seam in _SEAMS:
            joined = _UNESCAPED.sub(_character, seam.sub("", _CONTINUED.sub("", text)))
            reading.strings.append(joined)
    if _LISTED.search(text):
        reading.spelled.append(_LISTED.sub("", text))
    return reading


def _character(escape: re.Match[str]) -> str:
    return chr(int(escape[3], 8) if escape[3] else int(escape[1] or escape[2], 16))


def named_values(text: str) -> Iterator[tuple[str, str, bool]]:
    """Yield (name, value, whether it is quoted) of what stands behind a secret's name.

    So do configuration files, commands and prose name what they hold.
    """
    end = 0
    for match in _NAME.finditer(text):
        if match.start() < end:  # inside the value before
            continue
        end, name = match.end(), match[0][-_LONGEST_NAME:]
        if strength(name) is None:
            continue
        quoted = _QUOTED_VALUE.match(text, end)
        bare = None if quoted else _BARE_VALUE.match(text, end)
        if quoted:
            end = quoted.end()
            yield name, quoted["value"], True
        elif bare:
            end = bare.end()
            yield name, bare["value"].rstrip(".)]}:"), False
    if any(option in text for option in ("-u", "--user", "--proxy-user")):
        yield from (("password", match[1], False) for match in _CURL_USER.finditer(text))


def across_lines(text: str) -> Iterator[str]:
    """Yield tokens that seem to go on in the next line, joined.

    A token is no plain word: words are divided at the end of every line.
    """
    run, parts = "", 0
    for line in text.split("\n"):
        words = line.strip(" \t\r#>\\").split()
        first = words[0] if words else ""
        if run and _may_be_cut(first):
            run, parts = run + first, parts + 1
            if len(words) == 1:
                continue
        if parts > 1:
            yield run
        run, parts = (words[-1], 1) if words and _may_be_cut(words[-1]) else ("", 0)
    if parts > 1:
        yield run


def _may_be_cut(word: str) -> bool:
    is_word = word.isalpha() and (word.islower() or word.isupper() or word.istitle())
    return not is_word and _TOKEN_OF_LINE.fullmatch(word) is not None
