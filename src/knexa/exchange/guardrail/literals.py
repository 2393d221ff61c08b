"""The literals of a program text: its strings and comments, and the names that strings get.

A text that is no program is read by patterns for quotes and ``#``.
"""

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator

# The parser takes 28 MB for the worst text of this length, the longest that a package may carry.
_MAX_PARSED = 32 * 1024  # characters

_ASSIGNMENT = re.compile(
    r"""([A-Za-z_][\w-]{1,63})["']?\]?\s{0,4}(?::\s{0,4}\w{1,16}\s{0,4})?(?:[:=]{1,2}|,)\s{0,4}"""
    r"""[bfruBFRU]{0,2}(["'])([^"'\n]{8,256})\2"""
)
# ``NAME=value`` and ``name: value`` without quotes, as in .env files, YAML, comments and prose.
_UNQUOTED = re.compile(
    r"""([A-Za-z_][\w-]{1,63})["']?\s{0,4}(?:[:=]|\bis\b)\s{0,4}([\w+/=~.!@$%^&*-]{16,256})(?=["',;)\]}]|\s|$)"""
)
# The closing quote is optional, so that the pass is linear where there is none.
_QUOTED = re.compile(r"""(["'])((?:(?!\1)[^\\\n]|\\.)*+)\1?|#([^\n]*)""")
# The end of one literal and the start of another, with nothing but + between. By pattern the
# prefix of a literal cannot be told from a literal that reads like one, as in "ru" + "by".
_SEAM = re.compile(r"""["']\s{0,99}\+?\s{0,99}\\?\s{0,99}[bfruBFRU]{0,2}["']""")
_PLAIN_SEAM = re.compile(r"""["']\s{0,99}\+?\s{0,99}\\?\s{0,99}["']""")
_ESCAPE = re.compile(r"\\(?:x[0-9A-Fa-f]|u[0-9A-Fa-f]|U0|N\{|[0-7])")
_UNESCAPED = re.compile(r"\\x([0-9A-Fa-f]{2})|\\u([0-9A-Fa-f]{4})")

Assigned = Iterator[tuple[str, str]]


def hides_text(text: str) -> bool:
    """Return whether the program's strings may differ from its text (joined, escaped)."""
    return bool(_SEAM.search(text)) or ("\\" in text and bool(_ESCAPE.search(text)))


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


def said(tree: ast.Module | None, text: str) -> Iterator[str]:
    """Yield every string, joined where the program joins it, and every comment.

    A text that is no program is yielded whole, also with its strings joined.
    """
    if tree is None:
        yield text
        if hides_text(text):
            for seam in (_SEAM, _PLAIN_SEAM):
                joined = seam.sub("", text)
                yield _UNESCAPED.sub(lambda match: chr(int(match[1] or match[2], 16)), joined)
        return
    for node in ast.walk(tree):
        value = _string(node)
        if value is not None:
            yield value
    if "#" in text:
        yield from (match[3] for match in _QUOTED.finditer(text) if match[3])


def assigned(tree: ast.Module | None, text: str) -> Assigned:
    """Yield (name, string) of all that names a string or compares it with a name."""
    if tree is None:
        yield from ((match[1], match[3]) for match in _ASSIGNMENT.finditer(text))
        return
    for node in ast.walk(tree):
        for target, value in _pairs(node):
            name = _name(target)
            if name:
                yield from ((name, string) for string in _strings(value))


def assigned_unquoted(text: str) -> Assigned:
    """Yield (name, word) of ``NAME=word``, ``name: word`` and ``name is word``."""
    return ((match[1], match[2]) for match in _UNQUOTED.finditer(text))


_Pairs = list[tuple[ast.AST | str | None, ast.AST | None]]


def _pairs(node: ast.AST) -> _Pairs:
    """Return (target, value) of assignments, arguments, defaults, dict entries, comparisons."""
    match node:
        case ast.Assign():
            pairs: _Pairs = []
            for target in node.targets:
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs += zip(target.elts, node.value.elts, strict=False)
                pairs.append((target, node.value))
            return pairs
        case ast.AnnAssign() | ast.NamedExpr():
            return [(node.target, node.value)]
        case ast.keyword():
            return [(node.arg, node.value)]
        case ast.Call():  # os.environ.get("API_KEY", "..."), setattr(x, "password", "...")
            return [(a, b) for a, b in zip(node.args, node.args[1:], strict=False) if _string(a)]
        case ast.Dict():
            return list(zip(node.keys, node.values, strict=True))
        case ast.Compare():
            return [(node.left, other) for other in node.comparators]
        case ast.arguments():
            named = [*node.posonlyargs, *node.args]
            defaults = zip(reversed(named), reversed(node.defaults), strict=False)
            keyword_only = zip(node.kwonlyargs, node.kw_defaults, strict=True)
            return [(a.arg, d) for a, d in (*defaults, *keyword_only)]
    return []


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


def _strings(value: ast.AST | None) -> Iterator[str]:
    """Yield the strings that a value may be: itself, its alternatives, those before .encode()."""
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        string = _string(node)
        if string is not None:
            yield string
        elif isinstance(node, ast.BoolOp):
            waiting += node.values
        elif isinstance(node, ast.IfExp):
            waiting += [node.body, node.orelse]
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("encode", "strip")
        ):
            waiting.append(node.func.value)


def _string(node: ast.AST) -> str | None:
    """Return the value of a string expression: a literal, or literals added together."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            return node.value
        return node.value.decode("latin-1") if isinstance(node.value, bytes) else None
    if isinstance(node, ast.JoinedStr):
        constants = [part.value for part in node.values if isinstance(part, ast.Constant)]
        return "".join(map(str, constants)) if len(constants) == len(node.values) else None
    parts: list[str] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        right = _string(node.right) if not isinstance(node.right, ast.BinOp) else None
        if right is None:
            return None
        parts.append(right)
        node = node.left
    left = _string(node) if parts else None
    return None if left is None else left + "".join(reversed(parts))
