"""Parsing Python for CodeBLEU: one tree per text, its subtrees and its tokens.

Trees come from tree-sitter, which parses anything; what is too large or nested too deeply to be
worth a score is cut or reported by size, so that no input is an error.
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
    if _depth_exceeds(tree, MAX_DEPTH):
        return Tree(Node("module", ((0, 0), (0, 0))), lines, ["(too deep)"])
    root, subtrees = _copy(tree.root_node)
    return Tree(root, lines, subtrees)


def _depth_exceeds(tree: tree_sitter.Tree, limit: int) -> bool:
    cursor = tree.walk()
    depth = 0
    while True:
        if cursor.goto_first_child():
            depth += 1
            if depth > limit:
                return True
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return False
            depth -= 1


def _copy(top: tree_sitter.Node) -> tuple[Node, list[str]]:
    """Copy the tree into plain nodes, which are several times faster to walk again and again."""
    subtrees = [str(top)]
    root = _plain(top)
    stack: list[tuple[tree_sitter.Node, Node]] = [(top, root)]
    while stack:
        source, target = stack.pop()
        for index, child in enumerate(source.children):
            copied = _plain(child)
            target.children.append(copied)
            name = source.field_name_for_child(index)
            if name is not None:
                target.fields.setdefault(name, copied)
            if child.child_count:
                subtrees.append(str(child))
                stack.append((child, copied))
    return root, subtrees


def _plain(node: tree_sitter.Node) -> Node:
    start, end = node.start_point, node.end_point
    return Node(node.type, ((start[0], start[1]), (end[0], end[1])))


def strip_comments(source: str) -> str:
    """Return the source without comments, docstrings and blank lines; as it is if it has no tokens.

    As in CodeBLEU's pre-processing, a string that opens a line or a block is a docstring.
    """
    try:
        return _strip(source)
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError):
        return source


def _strip(source: str) -> str:
    parts: list[str] = []
    previous = tokenize.INDENT
    last_row, last_column = -1, 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        row, column = token.start
        if row > last_row:
            last_column = 0
        parts.append(" " * (column - last_column))
        docstring = token.type == tokenize.STRING and (
            previous in (tokenize.INDENT, tokenize.NEWLINE) or column == 0
        )
        if token.type != tokenize.COMMENT and not docstring:
            parts.append(token.string)
        previous = token.type
        last_row, last_column = token.end
    return "\n".join(line for line in "".join(parts).split("\n") if line.strip())


_LAYOUT = frozenset(
    {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    | {tokenize.ENDMARKER, tokenize.ENCODING}
)


def python_tokens(source: str) -> list[str]:
    """Return the tokens of Python's own tokenizer without comments and layout.

    From where a text stops being tokenizable on, words and punctuation marks stand in.
    """
    source = source[:MAX_CHARACTERS]
    tokens: list[str] = []
    row, column = 1, 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type not in _LAYOUT and token.string.strip():
                tokens.append(token.string)
            row, column = token.end
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError):
        lines = source.split("\n")[row - 1 :]
        rest = "\n".join([line[column:] if i == 0 else line for i, line in enumerate(lines)])
        tokens += re.findall(r"\w+|[^\w\s]", rest)
    return tokens


def token_text(place: tuple[Point, Point], lines: list[str]) -> str:
    """Return the text between two points; columns index characters, line ends are left out."""
    (row, column), (end_row, end_column) = place
    if row == end_row:
        return lines[row][column:end_column]
    inner = lines[row + 1 : end_row]
    return "".join([lines[row][column:], *inner, lines[end_row][:end_column]])
