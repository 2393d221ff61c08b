"""Parsing Python for CodeBLEU: one tree per text, its subtrees and its tokens.

Trees come from tree-sitter, which parses any text. A text that is too long is cut and one nested
too deeply gets a tree of its root alone, so that no input is an error.
"""

import functools
import io
import re
import tokenize
from dataclasses import dataclass, field

import tree_sitter
import tree_sitter_python

MAX_CHARACTERS = 20_000
"""Texts are cut to this length before they are parsed."""
MAX_DEPTH = 800
"""Trees deeper than this count as having their root alone and no data flow."""

Point = tuple[int, int]


@dataclass(slots=True, eq=False)
class Node:
    """A syntax node: its type, place (row, column in bytes), children, and children by field."""

    type: str
    place: tuple[Point, Point]
    children: list["Node"] = field(default_factory=list)
    fields: dict[str, "Node"] = field(default_factory=dict)

    @property
    def is_token(self) -> bool:
        """Whether the node is a leaf of the token sequence; strings are, comments are not."""
        return (not self.children or self.type == "string") and self.type != "comment"


@dataclass(frozen=True, slots=True)
class Tree:
    """A parsed text: the root, the source lines, and each inner node's S-expression."""

    root: Node
    lines: list[str]
    subtrees: list[str]


@functools.cache
def _parser() -> tree_sitter.Parser:
    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_python.language()))


def parse(text: str) -> Tree:
    """Return the tree of a text; never raises.

    ``subtrees`` lists the S-expression of the root and of every node that has children.
    """
    text = text[:MAX_CHARACTERS]
    tree = _parser().parse(text.encode("utf-8", "replace"))
    lines = text.split("\n")
    copied = _copy(tree)
    if copied is None:
        return Tree(Node("module", ((0, 0), (0, 0))), lines, ["(too deep)"])
    return Tree(copied[0], lines, copied[1])


def _copy(tree: tree_sitter.Tree) -> tuple[Node, list[str]] | None:
    """Copy the tree into plain nodes, which are several times faster to walk.

    Returns None if it is deeper than ``MAX_DEPTH``, as the parser writes S-expressions recursively.
    """
    cursor = tree.walk()
    source = cursor.node
    assert source is not None
    root = _plain(source)
    inner = [(source, root)]
    # The prefix of each named node's S-expression within its parent's.
    shown: dict[int, str] = {}
    path = [root]
    if not cursor.goto_first_child():
        return root, [str(source)]
    while True:
        source = cursor.node
        assert source is not None
        node, name = _plain(source), cursor.field_name
        parent = path[-1]
        parent.children.append(node)
        if name is not None:
            parent.fields.setdefault(name, node)
        if source.is_named:
            shown[id(node)] = f" {name}: " if name is not None else " "
        if cursor.goto_first_child():
            inner.append((source, node))
            path.append(node)
            if len(path) > MAX_DEPTH:
                return None
            continue
        while not cursor.goto_next_sibling():
            cursor.goto_parent()
            path.pop()
            if not path:
                return root, _expressions(inner, shown)


def _expressions(inner: list[tuple[tree_sitter.Node, Node]], shown: dict[int, str]) -> list[str]:
    """Return the S-expressions of nodes with children, which are given in pre-order."""
    if inner[0][0].has_error:  # errors and missing tokens have a notation of their own
        return [str(source) for source, _ in inner]
    made: dict[int, str] = {}
    for source, node in reversed(inner):
        parts = [
            shown[id(child)] + made.get(id(child), f"({child.type})")
            for child in node.children
            if id(child) in shown
        ]
        named = source is inner[0][0] or id(node) in shown
        made[id(node)] = f"({node.type}{''.join(parts)})" if named else str(source)
    return [made[id(node)] for _, node in inner]


def _plain(node: tree_sitter.Node) -> Node:
    start, end = node.start_point, node.end_point
    return Node(node.type, ((start[0], start[1]), (end[0], end[1])))


_LAYOUT = frozenset(
    {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    | {tokenize.ENDMARKER, tokenize.ENCODING}
)


def tokens_and_code(source: str) -> tuple[list[str], str]:
    """Return the tokens of Python's own tokenizer, and the source as CodeBLEU parses it.

    The tokens exclude comments and layout; after a point where tokenizing fails, they are words and
    punctuation marks. The code excludes comments, docstrings and blank lines; it is the source
    itself if that cannot be tokenized. As in CodeBLEU's pre-processing, a string that opens a line
    or a block is a docstring.
    """
    source = source[:MAX_CHARACTERS]
    tokens: list[str] = []
    parts: list[str] = []
    previous, end = tokenize.INDENT, (1, 0)
    last_row = -1
    try:
        for kind, text, start, stop, _ in tokenize.generate_tokens(io.StringIO(source).readline):
            row, column = start
            parts.append(" " * (column if row > last_row else column - end[1]))
            docstring = kind == tokenize.STRING and (
                previous in (tokenize.INDENT, tokenize.NEWLINE) or column == 0
            )
            if kind != tokenize.COMMENT and not docstring:
                parts.append(text)
            if kind not in _LAYOUT and text.strip():
                tokens.append(text)
            previous, end, last_row = kind, stop, stop[0]
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError):
        lines = source.split("\n")[end[0] - 1 :]
        rest = "\n".join([line[end[1] :] if i == 0 else line for i, line in enumerate(lines)])
        return tokens + re.findall(r"\w+|[^\w\s]", rest), source
    return tokens, "\n".join(line for line in "".join(parts).split("\n") if line.strip())


def token_text(place: tuple[Point, Point], lines: list[str]) -> str:
    """Return the text between two points; columns index characters, line ends are left out."""
    (row, column), (end_row, end_column) = place
    if row == end_row:
        return lines[row][column:end_column]
    inner = lines[row + 1 : end_row]
    return "".join([lines[row][column:], *inner, lines[end_row][:end_column]])
