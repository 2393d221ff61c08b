"""Parses and normalises Python source of benchmarks, without running it."""

import ast
import builtins
import io
import tokenize
import warnings
from collections.abc import Iterable

_INDENT = "    "
_BINDING = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
_NOT_CODE = {
    tokenize.NL,
    tokenize.COMMENT,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.NEWLINE,
    tokenize.ENDMARKER,
}


def parse(code: str) -> ast.Module:
    """Return the syntax tree of benchmark or generated source.

    Python's warnings about it (such as invalid escape sequences) are suppressed.

    Raises:
        SyntaxError: If ``code`` is not a Python program (ValueError for a null byte, by version).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(code)


def tidy(code: str) -> str:
    """Return the same program with LF line ends, four-space indents and no trailing blanks.

    The syntax tree is unchanged; where tidying would change it (a string over several lines), only
    the line ends are normalised.

    Raises:
        SyntaxError: If ``code`` is not a Python program.
    """
    plain = code.replace("\r\n", "\n").replace("\r", "\n").strip("\n") + "\n"
    tree = ast.dump(parse(plain))
    neat = "\n".join(line.rstrip() for line in _reindent(plain).split("\n"))
    try:
        return neat if ast.dump(parse(neat)) == tree else plain
    except SyntaxError:
        return plain


def _reindent(code: str) -> str:
    """Indent every logical line by four spaces a level; leave continuation lines alone."""
    lines = code.split("\n")
    depth = 0
    at_start = True
    comments: list[int] = []
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        row = token.start[0] - 1
        if token.type == tokenize.INDENT:
            depth += 1
        elif token.type == tokenize.DEDENT:
            depth -= 1
        elif token.type == tokenize.NEWLINE:
            at_start = True
        elif token.type == tokenize.COMMENT and at_start:
            comments.append(row)
        elif token.type not in _NOT_CODE and at_start:
            for index in (*comments, row):
                lines[index] = _INDENT * depth + lines[index].lstrip()
            comments.clear()
            at_start = False
    return "\n".join(lines)


def split_signature(function_source: str) -> tuple[str, str]:
    """Split a function's source after the colon that ends its signature.

    Returns:
        The signature, colon included, and its body, indented by four spaces if it stood on the
        signature's own line; a comment behind the colon is dropped.
    """
    depth = 0
    for token in tokenize.generate_tokens(io.StringIO(function_source).readline):
        if token.type != tokenize.OP:
            continue
        depth += (token.string in "([{") - (token.string in ")]}")
        if token.string == ":" and depth == 0:
            row, column = token.end
            break
    else:
        raise ValueError("not a function")
    lines = function_source.split("\n")
    signature = "\n".join([*lines[: row - 1], lines[row - 1][:column]])
    first, rest = lines[row - 1][column:].strip(), lines[row:]
    if first and not first.startswith("#"):
        rest = [_INDENT + first, *rest]
    return signature, "\n".join(rest).strip("\n") + "\n"


def bound_names(node: ast.stmt) -> set[str]:
    """Return the names that a top-level statement defines or imports."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    return {
        name.id
        for name in ast.walk(node)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    }


def loaded_names(nodes: Iterable[ast.AST]) -> set[str]:
    """Return every name that is read anywhere in ``nodes``."""
    return {
        name.id
        for node in nodes
        for name in ast.walk(node)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Load)
    }


def unbound_names(code: str) -> set[str]:
    """Return the names that a program reads but neither binds anywhere nor finds in builtins."""
    bound: set[str] = set(dir(builtins))
    read: set[str] = set()
    for node in ast.walk(parse(code)):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, _BINDING):
            bound |= bound_names(node)
    return read - bound


def top_level_functions(code: str) -> list[str]:
    """Return the names of a program's top-level functions; none where it does not parse."""
    try:
        body = parse(code).body
    except (SyntaxError, ValueError):
        return []
    return [node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def whole_program(prompt: str, completion: str, entry_point: str) -> str:
    """Return the program of a completion: itself where it defines ``entry_point``, else continued.

    See ``knexa.data.problem.Problem``.
    """
    return completion if entry_point in top_level_functions(completion) else prompt + completion


def shape(code: str) -> str:
    """Return a program's syntax tree with its own names numbered in order of appearance.

    Equal for programs that differ in the names of functions, arguments and variables only.
    """
    tree = parse(code)
    own: dict[str, str] = {}

    def rename(name: str) -> str:
        return own.setdefault(name, f"v{len(own)}")

    bound: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.FunctionDef):
            bound.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.arg = rename(node.arg)
        elif isinstance(node, ast.FunctionDef):
            node.name = rename(node.name)
        elif isinstance(node, ast.Name) and node.id in bound:
            node.id = rename(node.id)
    return ast.dump(tree)
