"""Names that secrets are given, in many languages, and values that look like one."""

import math
import re
from collections import Counter
from functools import lru_cache
from itertools import pairwise
from typing import Literal

Strength = Literal["strong", "weak"]

# What mostly names a password, and what may as well name a token of a parser or a riddle's answer.
_STRONG_WORDS = (
    r"pass(?:word|wd|phrase|code|wort)?s?|pwd?s?|kennwort|zugangs(?:daten|schl(?:ue|\u00fc)ssel)"
    r"|(?:auth|access|bearer|api|refresh|admin|bot|session|github|slack)_?tokens?|api_?keys?"
    r"|(?:access|private|secret|encryption|signing|auth|master|account)_?keys?|credentials?"
    r"|(?:client|session|shared|app)_?secrets?|requirepass"
    r"|contrase(?:\u00f1|n|ny)as?|clave_(?:secreta|privada|de_acceso)|mots?_?de_?passe|mdp|senhas?"
    r"|palavra_passe|chave_(?:secreta|privada)|parola_(?:chiave|d_ordine)|wachtwoord(?:en)?"
    r"|l(?:\u00f6|o|oe)senord|adgangskode|kodeord|passord|salasana|tunnussana|has(?:\u0142|l)o|heslo"
    r"|jelsz(?:\u00f3|o)|(?:\u015f|s)ifre|lozinka|zaporka|geslo|mat_?khau|kata_?sandi|pasvorto"
    "|\u043f\u0430\u0440\u043e\u043b[\u044c\u0438\u044f\u0430]|\u043b\u043e\u0437\u0438\u043d\u043a\u0430"
    "|\u03ba\u03c9\u03b4\u03b9\u03ba[\u03cc\u03bf]\u03c2(?:_\u03c0\u03c1\u03cc\u03c3\u03b2\u03b1\u03c3\u03b7\u03c2)?"
)
# Scripts that put no space or sign between words.
_UNDIVIDED_WORDS = (
    "\u30d1\u30b9\u30ef\u30fc\u30c9|\u6697\u8a3c\u756a\u53f7|\u79d8\u5bc6\u9375"
    "|\u5bc6\u7801|\u5bc6\u78bc|\u53e3\u4ee4|\u5bc6\u94a5|\u91d1\u9470"
    "|\ube44\ubc00\ubc88\ud638|\uc554\ud638|\u0643\u0644\u0645\u0629_(?:\u0627\u0644\u0633\u0631|\u0627\u0644\u0645\u0631\u0648\u0631)"
    "|\u05e1\u05d9\u05e1\u05de\u05d4|\u092a\u093e\u0938\u0935\u0930\u094d\u0921"
)
_WEAK_WORDS = (
    r"secrets?|tokens?|geheimnis|geheim|secretos?|segredos?|segreto|clave|chave|parola|sandi|jeton"
    "|\u0441\u0435\u043a\u0440\u0435\u0442|\u043f\u0430\u0440\u043e\u043b\u0430"
)
_STRONG_NAME = re.compile(rf"(?:^|_)(?:{_STRONG_WORDS})(?:$|_)|{_UNDIVIDED_WORDS}")
_WEAK_NAME = re.compile(rf"(?:^|_)(?:{_WEAK_WORDS})(?:$|_)")
_ASCII_STEMS = (
    *("pass", "pw", "secret", "token", "key", "credential", "kennwort", "zugangs", "geheim"),
    *("contrase", "clave", "mdp", "senha", "palavra", "chave", "segre", "parola", "wachtwoord"),
    *("senord", "adgangskode", "kodeord", "salasana", "tunnussana", "haslo", "heslo", "jelszo"),
    *("sifre", "lozinka", "zaporka", "geslo", "khau", "sandi", "pasvorto", "jeton"),
)
# Also curl -u user:password and HTTPBasicAuth("user", "password").
_STEMS_TO_SEEK = (*_ASCII_STEMS, "curl", "auth")
_OTHER_STEMS = (
    *("has\u0142o", "jelsz\u00f3", "\u015fifre", "\u043f\u0430\u0440\u043e\u043b"),
    *("\u043b\u043e\u0437\u0438\u043d\u043a\u0430", "\u0441\u0435\u043a\u0440\u0435\u0442"),
    *("\u03ba\u03c9\u03b4\u03b9\u03ba", "\u30d1\u30b9\u30ef\u30fc\u30c9"),
    *("\u6697\u8a3c\u756a\u53f7", "\u79d8\u5bc6\u9375", "\u5bc6\u7801", "\u5bc6\u78bc"),
    *("\u53e3\u4ee4", "\u5bc6\u94a5", "\u91d1\u9470", "\ube44\ubc00\ubc88\ud638"),
    *("\uc554\ud638", "\u0643\u0644\u0645\u0629", "\u05e1\u05d9\u05e1\u05de\u05d4"),
    *("\u092a\u093e\u0938\u0935\u0930\u094d\u0921",),
)

# What a name that ends so holds is about a secret, not one: password_length, token_pattern.
_DESCRIBES = re.compile(
    r"_(?:len|length|size|min|max|count|num|number|index|pos|position|type|kind|field|label|column"
    r"|pattern|re|regex|rule|policy|strength|hint|prompt|error|msg|message|char|charset|alphabet"
    r"|format|prefix|suffix|file|path|dir|url|uri|endpoint|name)s?$"
)
_JUDGES = re.compile(
    r"^(?:is|has|can|check|valid|validate|verify|test|hash|count|strip|mask|hide)_"
)
_CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[-. ]")
_DUMMY = re.compile(
    r"(?i)x{4,}|\*{3,}|your[_ -]|example|placeholder|changeme|dummy|<[^>]+>|\.\.\.|\$\{|\{\{"
    r"|%\(|^(?-i:\$[A-Z][A-Z0-9_]*$)"
)
# Words joined by signs, perhaps numbered, as identifiers and file names are.
_IDENTIFIER = re.compile(r"\W?[A-Za-z]+(?:[_.:/ -][A-Za-z]+)*(?:[_-]?\d{1,2}[a-z]?)?\W?")
_BRACKETS = re.compile(r"[()\[\]{}\\]")
# What only code has: calls, indices, dotted names.
_CODE = re.compile(r"[()\[\]{}\\]|[A-Za-z_]\w*\.[A-Za-z_]|^[\w.]+[-+*/%][\w.]+(?:[-+*/%][\w.]+)*$")


@lru_cache(maxsize=4096)
def strength(name: str) -> Strength | None:
    """Return how surely a name is a secret's; None where it is none."""
    plain = _CAMEL_CASE.sub("_", name).lower()
    if _DESCRIBES.search(plain):
        return None
    if _STRONG_NAME.search(plain):
        return "strong"
    return "weak" if _WEAK_NAME.search(plain) else None


def gives_a_secret(function: str) -> bool:
    """Return whether a function of that name returns a secret, e.g. ``get_password``."""
    plain = _CAMEL_CASE.sub("_", function).lower()
    return strength(function) is not None and not _JUDGES.match(plain)


def may_name_a_secret(text: str) -> bool:
    """Return whether a stem of a secret's name occurs anywhere."""
    lowered = text.lower()
    for stem in _STEMS_TO_SEEK if text.isascii() else (*_STEMS_TO_SEEK, *_OTHER_STEMS):
        if stem in lowered:
            return True
    return False


def looks_secret(name: str, value: str) -> bool:
    """Return whether a string given to a name is a secret, no mere word or placeholder."""
    kind = strength(name)
    if kind is None or len(value) < 8 or any(map(str.isspace, value)) or _DUMMY.search(value):
        return False
    if kind == "weak" and _IDENTIFIER.fullmatch(value):
        return False
    kinds = _kinds(value)
    return (
        kinds >= 2
        and any(map(str.isalpha, value))
        and entropy(value) >= 2.5
        and (any(map(str.isdigit, value)) or kinds >= 3)
        and not (value[0] in "/~" and "/" in value[1:])  # a path: pwd = '/home/x1'
    )


def looks_secret_without_quotes(name: str, value: str) -> bool:
    """Return whether a word after a name is a secret, not a part of a sentence or of code."""
    if not looks_secret(name, value):
        return False
    kinds = 3 if strength(name) == "strong" else 4
    return looks_random_without_quotes(value) or (
        _kinds(value) >= kinds
        and any(map(str.isdigit, value))
        and not _CODE.search(value)
        and not _IDENTIFIER.fullmatch(value)
    )


def looks_random_without_quotes(value: str) -> bool:
    """Return whether a word is random and no call."""
    return len(value) >= 16 and not _BRACKETS.search(value) and is_random(value)


def _kinds(value: str) -> int:
    """Return how many kinds of characters there are: lower, upper, digits, signs."""
    return (
        any(map(str.islower, value))
        + any(map(str.isupper, value))
        + any(map(str.isdigit, value))
        + (not all(map(str.isalnum, value)))
    )


def entropy(text: str) -> float:
    """Return the Shannon entropy of the characters, in bits a character."""
    counts = Counter(text).values()
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts)


def is_random(run: str) -> bool:
    """Return whether a long run of characters looks random, not written.

    Alphabets and digit tables have the highest entropy of all, so runs of characters in
    alphabetical order do not count as random.
    """
    steps = sum(abs(a - b) <= 1 for a, b in pairwise(map(ord, run)))
    digits = sum(map(str.isdigit, run))
    if re.fullmatch(r"[0-9a-fA-F-]{32,}", run):
        return steps <= len(run) / 2 and 0 < digits < len(run) and entropy(run) >= 3.0
    if steps > len(run) / 4:
        return False
    mixed = run.lower() != run and run.upper() != run
    if digits >= 2 and mixed and entropy(run) >= 3.5:
        return True
    if len(run) < 32 or entropy(run) < 3.7:
        return False
    # Few digits, or no capitals: in words the kind of character changes more rarely.
    changing = changes(run) / len(run)
    return changing >= 0.45 if mixed else run.isalnum() and digits >= 2 and changing >= 1 / 8


def changes(run: str) -> int:
    """Return how often lower case, upper case and digits alternate."""
    sorts = [(c.islower(), c.isupper(), c.isdigit()) for c in run if c.isalnum()]
    return sum(a != b for a, b in pairwise(sorts))
