"""Random-looking constants that a text names as what they are: digests, UUIDs, test vectors.

They are no secrets, and a program that checks against one teaches nothing without it. A constant
must have the form of what its name says, and the name may not be a secret's, as password_hash is.
"""

import re

from knexa.exchange.guardrail.names import strength

_REACH = 100  # characters before a constant, in its line and the one before, that may name it
_NAMES = re.compile(
    r"(?P<digest>md5|sha_?\d{0,3}|blake\w{0,3}|crc_?\d{0,2}|ripemd_?\d{0,3}|hash(?:es|lib)?"
    r"|(?:hex)?digests?|(?:check|md5|sha)_?sums?|fingerprints?|e_?tag|commit|revision|integrity)"
    r"|(?P<uuid>[ug]uids?|ids?)"
    r"|(?P<vector>(?:test_?|known_?|kat_?)?vectors?)"
)
_DIGEST = re.compile(
    r"[0-9a-f]{16,128}|[0-9A-F]{16,128}|(?:sha\d{1,3}-)?(?:[\w+/-]{22}==|[\w+/-]{27}=|[\w+/-]{43}=?"
    r"|[\w+/-]{44}|[\w+/-]{64}|[\w+/-]{86}==)"
)
_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
_FORMS = {"digest": _DIGEST, "uuid": _UUID, "vector": re.compile(r".+")}
_WORD_EDGE = re.compile(r"[^\W_]")
_CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def named_constants(text: str, runs: re.Pattern[str]) -> frozenset[str]:
    """Return those ``runs`` of a text that stand behind the name of a constant of their form."""
    named: set[str] = set()
    previous_end, previous_kinds = -_REACH, frozenset[str]()
    for match in runs.finditer(text):
        begin = match.start()
        before = text[max(0, begin - _REACH, previous_end) : begin]
        before = "\n".join(before.split("\n")[-2:])
        after = text[match.end() : match.end() + _REACH].split("\n")[0]
        kinds = _kinds_named(f"{before} {after}" if "==" in after else before)
        if not kinds and begin - previous_end < _REACH and "=" not in before:
            kinds = previous_kinds  # the next of a list of constants
        previous_end, previous_kinds = match.end(), kinds
        if any(_FORMS[kind].fullmatch(match[0]) for kind in kinds):
            named.add(match[0])
    return frozenset(named)


def _kinds_named(before: str) -> frozenset[str]:
    kinds: set[str] = set()
    for identifier in re.findall(r"[^\W\d]\w*", before):
        if strength(identifier) is not None:
            return frozenset()
        plain = _CAMEL_CASE.sub("_", identifier).lower()
        for match in _NAMES.finditer(plain):
            begin, end = match.span()
            at_edges = not _WORD_EDGE.match(plain, end) and not (
                begin and _WORD_EDGE.match(plain, begin - 1)
            )
            if at_edges and match.lastgroup:
                kinds.add(match.lastgroup)
    return frozenset(kinds)
