"""What a guardrail looks for in program text: credentials, personal data, planted canaries.

Each rule is a compiled pattern behind a few substrings that any match must contain: text without
them (nearly all of it) costs some substring searches, which is what makes vetting a package take
milliseconds. Rules that need to know what is a string and what is arithmetic read the literals of
the syntax tree, or, where the text is no program, what stands between quotes and behind ``#``.

Not covered: names, addresses and anything else that takes a language model to recognise; secrets
that are computed, encoded or split over variables.
"""

import ast
import math
import re
import textwrap
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Severity = Literal["high", "medium", "low"]
Rule = Literal[
    "provider_key",
    "private_key",
    "secret_assignment",
    "high_entropy",
    "email",
    "phone",
    "card",
    "iban",
    "ipv4",
    "canary",
]

SEVERITY: dict[Rule, Severity] = {
    "provider_key": "high",
    "private_key": "high",
    "secret_assignment": "high",
    "card": "high",
    "iban": "high",
    "canary": "high",
    "high_entropy": "medium",
    "email": "medium",
    "phone": "medium",
    "ipv4": "low",
}
"""High: of use to a thief as it stands. Medium: personal or random-looking. Low: often harmless."""

PLACEHOLDER = "<redacted:"
"""How every redaction starts; never a finding itself, so that vetting twice changes nothing."""

_MAX_PARSED = 20_000  # characters; longer text is read by pattern, the parser's memory being ours


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule, the more precise kind of what it found, and the text to remove."""

    rule: Rule
    kind: str
    text: str


# (kind, substrings of which one must occur, pattern). From the providers' published formats.
_PROVIDERS: tuple[tuple[str, tuple[str, ...], re.Pattern[str]], ...] = tuple(
    (kind, markers, re.compile(pattern))
    for kind, markers, pattern in (
        ("aws", ("AKIA", "ASIA", "ABIA", "ACCA"), r"\b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b"),
        ("github", ("gh",), r"\bgh[pousr]_[A-Za-z0-9]{36,255}\b"),
        ("github_fine_grained", ("github_pat_",), r"\bgithub_pat_[A-Za-z0-9_]{22,255}\b"),
        ("gitlab", ("glpat-",), r"\bglpat-[\w-]{20,64}"),
        ("slack", ("xox",), r"\bxox[abeoprs]-[A-Za-z0-9-]{10,255}"),
        (
            "slack_webhook",
            ("hooks.slack.com",),
            r"hooks\.slack\.com/services/T\w{1,20}/B\w{1,20}/\w{20,64}",
        ),
        ("stripe", ("k_live_", "k_test_"), r"\b[srp]k_(?:live|test)_[A-Za-z0-9]{16,255}\b"),
        ("anthropic", ("sk-ant-",), r"\bsk-ant-[\w-]{20,255}"),
        ("openai", ("sk-",), r"\bsk-(?:proj-|svcacct-|admin-)?(?=[\w-]*\d)[\w-]{20,255}"),
        ("google_api", ("AIza",), r"\bAIza[\w-]{35}"),
        ("google_oauth", ("ya29.",), r"\bya29\.[\w-]{20,255}"),
        ("hugging_face", ("hf_",), r"\bhf_[A-Za-z0-9]{30,64}\b"),
        ("npm", ("npm_",), r"\bnpm_[A-Za-z0-9]{36}\b"),
        ("pypi", ("pypi-",), r"\bpypi-[\w-]{50,255}"),
        ("sendgrid", ("SG.",), r"\bSG\.[\w-]{22}\.[\w-]{43}"),
        ("twilio", ("SK", "AC"), r"\b(?:SK|AC)[0-9a-f]{32}\b"),
        ("mailgun", ("key-",), r"\bkey-[0-9a-f]{32}\b"),
        ("mailchimp", ("-us",), r"\b[0-9a-f]{32}-us\d{1,2}\b"),
        ("telegram", (":AA",), r"\b\d{8,10}:AA[\w-]{33}"),
        ("discord", (".",), r"\b[MNO][\w-]{23,25}\.[\w-]{6}\.[\w-]{27,40}"),
        ("digitalocean", ("_v1_",), r"\bdo[opr]_v1_[0-9a-f]{64}\b"),
        ("azure_storage", ("AccountKey=",), r"AccountKey=[A-Za-z0-9+/]{86}=="),
        ("databricks", ("dapi",), r"\bdapi[0-9a-f]{32}\b"),
        ("shopify", ("shp",), r"\bshp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}\b"),
        ("docker", ("dckr_pat_",), r"\bdckr_pat_[\w-]{20,64}"),
        ("vault", ("hvs.",), r"\bhvs\.[\w-]{20,255}"),
        ("age", ("AGE-SECRET-KEY-",), r"\bAGE-SECRET-KEY-1[0-9A-Z]{58}\b"),
        ("json_web_token", ("eyJ",), r"\beyJ[\w-]{10,2000}\.eyJ[\w-]{10,4000}\.[\w-]{10,2000}"),
        ("url_password", ("://",), r"\b\w{2,16}://[^\s:@/'\"]{1,64}:[^\s:@/'\"{}]{3,64}@[\w.-]+"),
    )
)
_MARKED = tuple((marker, kind, pattern) for kind, marks, pattern in _PROVIDERS for marker in marks)
PROVIDER_KINDS: tuple[str, ...] = tuple(kind for kind, _, _ in _PROVIDERS)
"""The kinds of ``provider_key``."""

_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?s:.*?)"
    r"(?:-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)"
)
_EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w(])"
)
# RFC 2606 and 6761: names that belong to nobody.
_RESERVED_HOST = re.compile(r"(?i)[@.](?:example(?:\.\w+)?|[\w.-]+\.(?:test|invalid|localhost))$")
_PHONE = re.compile(
    r"(?<![\w.+)-])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){2,4}"
    r"|\(\d{3}\) ?\d{3}[-. ]\d{4}|\d{3}([-. ])\d{3}\1\d{4})(?![\w-])"
)
_CARD = re.compile(r"(?<![\w.-])(?:[3-6]\d{3}[ -]?\d{4}[ -]?\d{4}[ -]?\d{3,4}|3\d{14})(?![\w.-])")
_CARD_ISSUER = re.compile(r"4|5[1-5]|2[2-7]|3[47]|6011|65")
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
_IPV4 = re.compile(
    r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w.])"
)
_LOCAL_IPV4 = re.compile(r"0\.|10\.|127\.|169\.254\.|172\.(?:1[6-9]|2\d|3[01])\.|192\.168\.|255\.")
_LONG_RUN = re.compile(r"[A-Za-z0-9+/=_-]{20,}")
_DIGITS = re.compile(r"\d[\d ().-]{6,}\d")
_SECRET_NAME = re.compile(
    r"(?i)(?:^|_|\b)(?:pass(?:word|wd|phrase)?|pwd|secret|(?:auth|access|bearer|api|refresh)_?token"
    r"|token|api_?key|(?:access|private|secret|encryption|signing)_?key|credentials?)s?(?:$|_|\b)"
)
_SECRET_WORDS = ("pass", "pwd", "secret", "token", "key", "credential")
_ASSIGNMENT = re.compile(
    r"""([A-Za-z_]\w{1,63})["']?\s{0,4}(?::\s{0,4}\w{1,16}\s{0,4})?[:=]{1,2}\s{0,4}[bruBRU]{0,2}(["'])([^"'\n]{8,256})\2"""
)
# The closing quote is optional, which keeps the pass linear where there is none.
_QUOTED = re.compile(r"""(["'])((?:(?!\1)[^\\\n]|\\.)*+)\1?|#([^\n]*)""")
# The end of one literal that is not empty and the start of another, with nothing but + between.
_JOINED = re.compile(r"""[^\s"'(\[{,=:+]["']\s*\+?\s*\\?\s*[bruBRU]{0,2}["'][^\s"')\]},]""")
_DUMMY = re.compile(r"(?i)x{4,}|\*{3,}|your[_ -]|example|placeholder|changeme|dummy|<[^>]+>|\.\.\.")


def find(text: str, rules: frozenset[Rule], canaries: tuple[str, ...]) -> Iterator[Finding]:
    """Yield what the rules find in a program text; a finding may be yielded more than once."""
    if "canary" in rules:
        yield from (Finding("canary", "canary", word) for word in canaries if word in text)
    yield from _find_patterns(text, rules)
    names = _may_assign_a_secret(text) and "secret_assignment" in rules
    entropy = "high_entropy" in rules and _LONG_RUN.search(text) is not None
    joined = ("provider_key" in rules or bool(canaries)) and _JOINED.search(text) is not None
    digits = bool(rules & {"phone", "ipv4"}) and _DIGITS.search(text) is not None
    if not (names or entropy or joined or digits):
        return
    tree = _parse(text)
    literals = _literals_by_pattern(text) if tree is None else _literals(tree, text)
    for literal in literals:
        if entropy:
            yield from _find_entropy(literal)
        if digits:
            yield from _find_numbers(literal, rules)
        if joined:
            yield from _find_patterns(literal, rules)
            yield from (Finding("canary", "canary", w) for w in canaries if w in literal)
    if names:
        assigned = _assigned_by_pattern(text) if tree is None else _assigned(tree)
        for name, value in assigned:
            if _SECRET_NAME.search(name) and _looks_secret(value):
                yield Finding("secret_assignment", "secret_assignment", value)


def entropy(text: str) -> float:
    """Return the Shannon entropy of the characters, in bits a character."""
    counts = Counter(text).values()
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts)


def _find_patterns(text: str, rules: frozenset[Rule]) -> Iterator[Finding]:
    """Apply the rules that mean the same in a literal, a comment or plain text."""
    if "provider_key" in rules:
        for marker, kind, pattern in _MARKED:
            if marker in text:
                for match in pattern.finditer(text):
                    if PLACEHOLDER not in match[0]:
                        yield Finding("provider_key", kind, match[0])
    if "private_key" in rules and "PRIVATE KEY" in text:
        for match in _PRIVATE_KEY.finditer(text):
            yield Finding("private_key", "private_key", match[0])
    if "email" in rules and "@" in text:
        for match in _EMAIL.finditer(text):
            if not _RESERVED_HOST.search(match[0]):
                yield Finding("email", "email", match[0])
    for rule, pattern, valid in _CHECKSUMMED:
        if rule in rules:
            for match in pattern.finditer(text):
                if valid(match[0]):
                    yield Finding(rule, rule, match[0])


def _find_numbers(literal: str, rules: frozenset[Rule]) -> Iterator[Finding]:
    """Apply the rules whose matches would be arithmetic outside a string."""
    if "phone" in rules:
        for match in _PHONE.finditer(literal):
            yield Finding("phone", "phone", match[0])
    if "ipv4" in rules:
        for match in _IPV4.finditer(literal):
            if not _LOCAL_IPV4.match(match[0]):
                yield Finding("ipv4", "ipv4", match[0])


def _find_entropy(literal: str) -> Iterator[Finding]:
    for match in _LONG_RUN.finditer(literal):
        if _is_random(match[0]):
            yield Finding("high_entropy", "high_entropy", match[0])


def _is_random(run: str) -> bool:
    """Say whether a long run of characters looks drawn, not written.

    Alphabets and digit tables have the highest entropy of all, so runs whose neighbours are
    neighbours in the alphabet are not counted as random.
    """
    steps = sum(abs(ord(a) - ord(b)) <= 1 for a, b in pairwise(run))
    digits = sum(character.isdigit() for character in run)
    if re.fullmatch(r"[0-9a-fA-F-]{32,}", run):
        return steps <= len(run) / 2 and 0 < digits < len(run) and entropy(run) >= 3.0
    if steps > len(run) / 4:
        return False
    mixed = run.lower() != run and run.upper() != run
    return digits >= 2 and mixed and entropy(run) >= 3.5


def _looks_secret(value: str) -> bool:
    """Say whether a value assigned to a secret's name is one, not a word or a placeholder."""
    if len(value) < 8 or any(c.isspace() for c in value) or _DUMMY.search(value):
        return False
    kinds = sum(
        any(test(character) for character in value)
        for test in (str.islower, str.isupper, str.isdigit, lambda c: not c.isalnum())
    )
    return (
        kinds >= 2
        and any(c.isalpha() for c in value)
        and entropy(value) >= 2.5
        and (any(c.isdigit() for c in value) or kinds >= 3)
    )


def _luhn(number: str) -> bool:
    digits = [int(character) for character in number if character.isdigit()]
    if len(set(digits)) < 2 or not _CARD_ISSUER.match("".join(map(str, digits))):
        return False
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban(number: str) -> bool:
    """Check ISO 13616: 97 divides the rearranged number less one."""
    plain = number.replace(" ", "")
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


_CHECKSUMMED: tuple[tuple[Rule, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("card", _CARD, _luhn),
    ("iban", _IBAN, _iban),
)


def _may_assign_a_secret(text: str) -> bool:
    if '"' not in text and "'" not in text:
        return False
    lowered = text.lower()
    return any(word in lowered for word in _SECRET_WORDS) and bool(_SECRET_NAME.search(text))


def _parse(text: str) -> ast.Module | None:
    """Return the syntax tree of a program or of a function's body, None where it is neither."""
    if len(text) > _MAX_PARSED:
        return None
    indented = text.lstrip("\n")[:1] in (" ", "\t")
    for source in ("if 1:\n" + text, textwrap.dedent(text)) if indented else (text,):
        try:
            with warnings.catch_warnings():
                # The author of this text is not us: its odd escapes are no news.
                warnings.simplefilter("ignore", SyntaxWarning)
                warnings.simplefilter("ignore", DeprecationWarning)
                return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return None


def _string(node: ast.AST) -> str | None:
    """Return the value of a string expression: a literal, or literals added together."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            return node.value
        return node.value.decode("latin-1") if isinstance(node.value, bytes) else None
    parts: list[str] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        right = _string(node.right) if not isinstance(node.right, ast.BinOp) else None
        if right is None:
            return None
        parts.append(right)
        node = node.left
    left = _string(node) if parts else None
    return None if left is None else left + "".join(reversed(parts))


def _literals(tree: ast.Module, text: str) -> Iterator[str]:
    """Yield every string of a program, joined where the program joins it, and every comment."""
    for node in ast.walk(tree):
        value = _string(node)
        if value is not None:
            yield value
    if "#" in text:
        yield from (match[3] for match in _QUOTED.finditer(text) if match[3])


def _literals_by_pattern(text: str) -> Iterator[str]:
    for match in _QUOTED.finditer(text):
        yield match[2] or match[3] or ""


def _assigned(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield (name, string) of assignments, arguments, defaults, dict entries and comparisons."""
    for node in ast.walk(tree):
        pairs: list[tuple[ast.AST | str | None, ast.AST | None]] = []
        if isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
            pairs = [(node.target, node.value)]
        elif isinstance(node, ast.keyword):
            pairs = [(node.arg, node.value)]
        elif isinstance(node, ast.Dict):
            pairs = list(zip(node.keys, node.values, strict=True))
        elif isinstance(node, ast.Compare):
            pairs = [(node.left, other) for other in node.comparators]
        elif isinstance(node, ast.arguments):
            named = [*node.posonlyargs, *node.args]
            defaults = zip(reversed(named), reversed(node.defaults), strict=False)
            keyword_only = zip(node.kwonlyargs, node.kw_defaults, strict=True)
            pairs = [(a.arg, d) for a, d in (*defaults, *keyword_only)]
        for target, value in pairs:
            name, string = _name(target), None if value is None else _string(value)
            if name and string:
                yield name, string


def _name(target: ast.AST | str | None) -> str:
    if isinstance(target, str):
        return target
    if isinstance(target, ast.Name):
        return target.id
    if isinstance(target, ast.Attribute):
        return target.attr
    if isinstance(target, ast.Subscript):
        return _string(target.slice) or ""
    return (_string(target) or "") if target is not None else ""


def _assigned_by_pattern(text: str) -> Iterator[tuple[str, str]]:
    for match in _ASSIGNMENT.finditer(text):
        yield match[1], match[3]
