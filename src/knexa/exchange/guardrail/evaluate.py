"""What a program says: its strings as it would put them together, and the names it gives them.

Programs are read, never run. Every node is visited once, in the order of the text; literals are
followed through variables, ``+``, ``%``, ``format``, ``join`` and their like. What that takes is
bounded by the length of the text: a program that asks for more is ``Unreadable``.

Not covered: strings that are computed from anything but literals, by loops, or by decoding.
"""

import ast
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import cast

from knexa.exchange.guardrail.names import gives_a_secret, strength
from knexa.exchange.guardrail.values import (
    LONGEST_STRING,
    Budget,
    Unreadable,
    Value,
    either,
    formatted,
    held,
    joined,
    percent,
    text_of,
    together,
)

_MAX_DEPTH = 150  # of the tree; the indentation of a program cannot exceed 100


@dataclass
class Reading:
    """What a text says.

    Attributes:
        strings: Every literal, and every string that literals are put together to.
        spelled: Literals that stand in one list, one after the other.
        named: (name, string) of every string that is given to a name or compared with one.
    """

    strings: list[str] = field(default_factory=list)
    spelled: list[str] = field(default_factory=list)
    named: list[tuple[str, str]] = field(default_factory=list)


_CONTAINERS = frozenset({"dict", "list", "tuple", "set", "frozenset", "iter", "next", "reversed"})
_STRINGS = frozenset({"str", "bytes", "bytearray"})
_KEEPS = frozenset({"strip", "lstrip", "rstrip", "encode", "decode", "lower", "upper", "title"})
_GIVES = re.compile(r"(?i)^(?:set|update|change|reset|use|with|add)_|(?-i:^[A-Z])")
_COMPARES = re.compile(r"(?i)compare|digest|equal|verify|check|log_?in|auth|connect")
_BASIC_AUTH = re.compile(r"(?i)basic_?auth|^auth$|http_?auth")


def read(tree: ast.Module, length: int) -> Reading:
    """Return what a program of ``length`` characters says.

    Raises:
        Unreadable: It is nested too deeply, or puts together far more than it holds.
    """
    reader = _Reader(length)
    reader.body(tree.body, 0)
    reader.finish()
    return reader.reading


class _Reader:
    """Reads a program from top to bottom; names hold what was last assigned to them."""

    def __init__(self, length: int) -> None:
        self.reading = Reading()
        self.values: dict[str, Value] = {}
        self.grown: set[str] = set()  # names whose strings grew piece by piece
        self.functions: list[str] = []
        self.budget = Budget(8 * length + 16_384)

    def body(self, nodes: Iterable[ast.AST], depth: int) -> None:
        for node in nodes:
            self.visit(node, depth)

    def visit(self, node: ast.AST | None, depth: int) -> Value:
        """Read a node and return its value, None where that is unknown."""
        if node is None:
            return None
        if depth > _MAX_DEPTH:
            raise Unreadable
        method = _METHODS.get(type(node))
        if method is not None:
            return method(self, node, depth + 1)
        self.body(ast.iter_child_nodes(node), depth + 1)
        return None

    def finish(self) -> None:
        for name in self.grown:
            self.made(self.values.get(name))

    # Records

    def made(self, value: Value) -> Value:
        """Record a string that was put together, and return it."""
        if isinstance(value, str) and value:
            self.budget.spend(len(value))
            self.reading.strings.append(value)
        return value

    def join(self, separator: str, value: Value) -> Value:
        return self.made(joined(self.budget, separator, value))

    def name(self, name: str | None, value: Value) -> None:
        """Record the strings in a value under a name, where it is a secret's."""
        if name and value is not None and strength(name) is not None:
            for string in held(value, self.budget):
                self.budget.spend(len(string) // 8)
                self.reading.named.append((name, string))

    # Assignments

    def assign(self, target: ast.AST, value: Value) -> None:
        if isinstance(target, ast.Tuple | ast.List):
            self.unpack(target.elts, value)
            return
        name = _written_name(target)
        self.name(_last_name(target), value)
        if _BASIC_AUTH.search(_last_name(target) or ""):
            self.basic_auth(value)
        if name is not None:
            if name in self.grown:
                self.grown.discard(name)
                self.made(self.values.get(name))
            self.values[name] = value

    def unpack(self, targets: Sequence[ast.expr], value: Value) -> None:
        parts = value if isinstance(value, tuple) else ()
        starred = next((i for i, t in enumerate(targets) if isinstance(t, ast.Starred)), None)
        if starred is not None:
            after = len(targets) - starred - 1
            end = max(len(parts) - after, starred)
            parts = (*parts[:starred], parts[starred:end], *parts[end:])
        self.budget.spend(len(targets) + len(parts))
        for index, target in enumerate(targets):
            inner = target.value if isinstance(target, ast.Starred) else target
            self.assign(inner, parts[index] if index < len(parts) else None)

    def basic_auth(self, value: Value) -> None:
        """Record the second of (user, password)."""
        if isinstance(value, tuple) and len(value) == 2:
            self.name("password", value[1])

    def assign_statement(self, node: ast.Assign, depth: int) -> Value:
        target = node.targets[0]
        if (  # k = k + 'b' says what k += 'b' says
            len(node.targets) == 1
            and isinstance(node.value, ast.BinOp)
            and isinstance(node.value.op, ast.Add)
            and _written_name(target) is not None
            and _written_name(node.value.left) == _written_name(target)
        ):
            self.grow(target, self.visit(node.value.right, depth))
            return None
        value = self.visit(node.value, depth)
        for target in node.targets:
            self.visit_target(target, depth)
            self.assign(target, value)
        return None

    def visit_target(self, target: ast.AST, depth: int) -> None:
        """Read what stands inside a target, such as an index."""
        if not isinstance(target, ast.Name):
            self.body(ast.iter_child_nodes(target), depth)

    def ann_assign(self, node: ast.AnnAssign | ast.NamedExpr, depth: int) -> Value:
        value = self.visit(node.value, depth)
        self.assign(node.target, value)
        return value

    def aug_assign(self, node: ast.AugAssign, depth: int) -> Value:
        value = self.visit(node.value, depth)
        self.visit_target(node.target, depth)
        if isinstance(node.op, ast.Add):
            self.grow(node.target, value)
        return None

    def grow(self, target: ast.AST, value: Value) -> None:
        """Add to what a name holds; the result is recorded once it grows no more."""
        self.name(_last_name(target), value)
        name = _written_name(target)
        if name is None:
            return
        before, piece = text_of(self.values.get(name)), text_of(value)
        if before is None or piece is None:
            self.assign(target, None)
            return
        self.values[name] = together(self.budget, [before, piece])
        self.name(_last_name(target), self.values[name])
        self.grown.add(name)

    # Functions

    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, depth: int) -> Value:
        self.body(node.decorator_list, depth)
        self.visit(node.args, depth)
        self.functions.append(node.name)
        self.body(node.body, depth)
        self.functions.pop()
        return None

    def lambda_(self, node: ast.Lambda, depth: int) -> Value:
        self.visit(node.args, depth)
        return self.visit(node.body, depth)

    def arguments(self, node: ast.arguments, depth: int) -> Value:
        named = [*node.posonlyargs, *node.args]
        values: dict[str, Value] = dict.fromkeys(a.arg for a in (*named, *node.kwonlyargs))
        for argument, default in zip(reversed(named), reversed(node.defaults), strict=False):
            values[argument.arg] = self.visit(default, depth)
        for argument, keyword in zip(node.kwonlyargs, node.kw_defaults, strict=True):
            values[argument.arg] = self.visit(keyword, depth)
        for name, value in values.items():
            self.name(name, value)
        self.values |= values
        return None

    def return_(self, node: ast.Return | ast.Yield, depth: int) -> Value:
        value = self.visit(node.value, depth)
        if self.functions and value is not None and gives_a_secret(self.functions[-1]):
            self.name(self.functions[-1], value)
        return value

    # Calls

    def call(self, node: ast.Call, depth: int) -> Value:
        arguments = [self.visit(argument, depth) for argument in node.args]
        keywords: dict[str, Value] = {}
        for keyword in node.keywords:
            value = self.visit(keyword.value, depth)
            if keyword.arg:
                keywords[keyword.arg] = value
                self.name(keyword.arg, value)
                if _BASIC_AUTH.search(keyword.arg):
                    self.basic_auth(value)
        receiver: Value = None
        if isinstance(node.func, ast.Attribute):
            receiver = self.visit(node.func.value, depth)
        elif not isinstance(node.func, ast.Name):
            return self.visit(node.func, depth)  # (lambda: 'a')()
        callee = _last_name(node.func) or ""
        self.name_arguments(callee, node.args, arguments)
        return self.called(callee, receiver, arguments, keywords)

    def name_arguments(
        self, callee: str, nodes: Sequence[ast.expr], values: Sequence[Value]
    ) -> None:
        """Record what a call's arguments name: get("API_KEY", "..."), set_password("...")."""
        self.name_next(values)
        if _GIVES.search(callee):
            for value in values:
                self.name(callee, value)
            if _BASIC_AUTH.search(callee):
                self.basic_auth(tuple(values[:2]))
        if _COMPARES.search(callee):
            for node in nodes[:4]:
                for value in values[:4]:
                    self.name(_last_name(node), value)

    def name_next(self, values: Sequence[Value]) -> None:
        """Record strings that follow a name or an option: ("password", "..."), ["-u", "a:b"]."""
        for first, second in pairwise(values):
            if isinstance(first, str) and isinstance(second, str) and len(first) <= 64:
                if first == "-u":
                    self.name("password", second.partition(":")[2])
                else:
                    self.name(first.lstrip("-"), second)

    def called(
        self,
        callee: str,
        receiver: Value,
        arguments: list[Value],
        keywords: dict[str, Value],
    ) -> Value:
        """Return the value of a call whose strings are known, None where it is not."""
        text = text_of(receiver)
        if text is not None:
            return self.method(callee, text, arguments, keywords)
        if callee == "join" and len(arguments) == 2:  # str.join('', ['a', 'b'])
            separator = text_of(arguments[0])
            return None if separator is None else self.join(separator, arguments[1])
        if callee in ("add", "concat") and len(arguments) == 2:
            return self.join("", tuple(arguments))
        if callee == "print" and keywords.get("sep") == "":
            return self.join("", tuple(arguments))
        if callee in _STRINGS and arguments:
            return text_of(arguments[0])
        if callee in _CONTAINERS or strength(callee) is not None:
            return (*arguments, *keywords.values()) if not _is_lookup(callee) else None
        return None

    def method(
        self, callee: str, text: str, arguments: list[Value], keywords: dict[str, Value]
    ) -> Value:
        self.budget.spend(len(text) // 8)
        if callee in _KEEPS:
            return text.strip() if "strip" in callee and not arguments else text
        if callee == "join" and len(arguments) == 1:
            return self.join(text, arguments[0])
        if callee == "format":
            return self.made(formatted(self.budget, text, arguments, keywords))
        if callee == "__add__" and len(arguments) == 1:
            return self.join("", (text, arguments[0]))
        if callee == "replace" and len(arguments) == 2:
            old, new = map(text_of, arguments)
            if old and new is not None and text.count(old) * len(new) <= LONGEST_STRING:
                return self.made(text.replace(old, new))
        return None

    # Strings put together

    def constant(self, node: ast.Constant, depth: int) -> Value:
        value = node.value
        if isinstance(value, bytes):
            value = value.decode("latin-1")
        if not isinstance(value, str):
            return None
        self.reading.strings.append(value)
        return value

    def f_string(self, node: ast.JoinedStr, depth: int) -> Value:
        parts: list[Value] = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                value = self.visit(part.value, depth)
                self.visit(part.format_spec, depth)
                parts.append(None if part.format_spec else value)
            else:
                parts.append(self.visit(part, depth))
        return self.concatenated(parts)

    def binary(self, node: ast.BinOp, depth: int) -> Value:
        if isinstance(node.op, ast.Add):
            operands: list[ast.expr] = []
            left: ast.expr = node
            while isinstance(left, ast.BinOp) and isinstance(left.op, ast.Add):
                operands.append(left.right)
                left = left.left
            values = [self.visit(operand, depth) for operand in (left, *reversed(operands))]
            if all(isinstance(value, tuple) for value in values):
                self.budget.spend(sum(len(cast(tuple[Value, ...], value)) for value in values))
                return tuple(v for value in values for v in cast(tuple[Value, ...], value))
            return self.concatenated(values)
        first, second = self.visit(node.left, depth), self.visit(node.right, depth)
        text = text_of(first)
        if isinstance(node.op, ast.Mod) and text is not None:
            return self.made(percent(self.budget, text, second))
        if isinstance(node.op, ast.Mult) and text is not None:
            times = node.right.value if isinstance(node.right, ast.Constant) else None
            if isinstance(times, int) and times * len(text) <= LONGEST_STRING:
                self.budget.spend(max(times, 0) * len(text) // 8)
                return text * times
        return None

    def concatenated(self, values: list[Value]) -> Value:
        """Return the whole where all parts are known; record every run of known ones."""
        texts = [text_of(value) for value in values]
        run: list[str] = []
        for text in (*texts, None):
            if text is not None:
                run.append(text)
                continue
            if len(run) > 1:
                self.made(together(self.budget, run))
            run = [] if len(run) < len(texts) else run
        return together(self.budget, run) if run else None

    # Containers

    def sequence(self, node: ast.Tuple | ast.List | ast.Set, depth: int) -> Value:
        values = tuple(self.visit(element, depth) for element in node.elts)
        if len(values) > 1 and all(isinstance(value, str) for value in values):
            texts = cast(tuple[str, ...], values)
            self.name_next(texts)
            if len(texts) >= 8 or any(len(text) >= 8 for text in texts):
                whole = together(self.budget, list(texts))
                self.budget.spend(len(whole or ""))
                self.reading.spelled.append(whole or "")
        return values

    def dictionary(self, node: ast.Dict, depth: int) -> Value:
        entries: dict[str, Value] = {}
        for key, item in zip(node.keys, node.values, strict=True):
            name, value = self.visit(key, depth), self.visit(item, depth)
            if isinstance(name, str):
                self.name(name, value)
                entries[name] = value
            else:
                self.name(_last_name(key), value)
        return entries

    def subscript(self, node: ast.Subscript, depth: int) -> Value:
        value, index = self.visit(node.value, depth), self.visit(node.slice, depth)
        if isinstance(value, dict) and isinstance(index, str):
            return value.get(index)
        if not isinstance(value, tuple | str):
            return None
        if isinstance(node.slice, ast.Slice):
            bounds = [_integer(b) for b in (node.slice.lower, node.slice.upper, node.slice.step)]
            if any(bound is False for bound in bounds) or bounds[2] == 0:
                return None
            part = value[slice(*bounds)]
            self.budget.spend(len(part) // 8 + 1)
            return part
        place = _integer(node.slice)
        if isinstance(place, int) and place is not False and -len(value) <= place < len(value):
            return value[place]
        return None

    def either(self, node: ast.IfExp | ast.BoolOp, depth: int) -> Value:
        if isinstance(node, ast.IfExp):
            self.visit(node.test, depth)
        options = node.values if isinstance(node, ast.BoolOp) else [node.body, node.orelse]
        values = [self.visit(option, depth) for option in options]
        return either(values)

    def for_(self, node: ast.For | ast.AsyncFor | ast.comprehension, depth: int) -> Value:
        values = self.visit(node.iter, depth)
        for value in values if isinstance(values, tuple) else (None,):
            self.budget.spend(1)
            self.assign(node.target, value)
        if isinstance(node, ast.comprehension):
            self.body(node.ifs, depth)
            return values
        self.body((*node.body, *node.orelse), depth)
        return None

    def comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp, depth: int
    ) -> Value:
        values = [self.visit(generator, depth) for generator in node.generators]
        element = self.visit(node.elt, depth)
        is_plain = isinstance(node.elt, ast.Name) and len(values) == 1
        return values[0] if is_plain else (element,) if element is not None else None

    # Comparisons

    def compare(self, node: ast.Compare, depth: int) -> Value:
        nodes = [node.left, *node.comparators]
        values = [self.visit(side, depth) for side in nodes]
        for (left, first), (right, second) in pairwise(zip(nodes, values, strict=True)):
            self.name(_last_name(left), second)
            self.name(_last_name(right), first)
        return None

    def match_(self, node: ast.Match, depth: int) -> Value:
        self.visit(node.subject, depth)
        for case in node.cases:
            self.pattern(case.pattern, node.subject, depth)
            self.visit(case.guard, depth)
            self.body(case.body, depth)
        return None

    def pattern(self, pattern: ast.pattern, subject: ast.expr | str | None, depth: int) -> None:
        """Record the strings that a subject is matched with."""
        if depth > _MAX_DEPTH:
            raise Unreadable
        name = subject if isinstance(subject, str) else _last_name(subject)
        match pattern:
            case ast.MatchValue():
                self.name(name, self.visit(pattern.value, depth + 1))
            case ast.MatchOr() | ast.MatchSequence():
                parts = subject.elts if isinstance(subject, ast.Tuple | ast.List) else []
                for index, inner in enumerate(pattern.patterns):
                    is_part = isinstance(pattern, ast.MatchSequence) and index < len(parts)
                    self.pattern(inner, parts[index] if is_part else subject, depth + 1)
            case ast.MatchMapping():
                for key, inner in zip(pattern.keys, pattern.patterns, strict=True):
                    value = self.visit(key, depth + 1)
                    self.pattern(inner, value if isinstance(value, str) else name, depth + 1)
            case ast.MatchClass():
                for inner in pattern.patterns:
                    self.pattern(inner, name, depth + 1)
                for attribute, inner in zip(pattern.kwd_attrs, pattern.kwd_patterns, strict=True):
                    self.pattern(inner, attribute, depth + 1)
            case ast.MatchAs(pattern=ast.pattern() as inner):
                self.pattern(inner, pattern.name or name, depth + 1)

    def known(self, node: ast.Name | ast.Attribute, depth: int) -> Value:
        if isinstance(node, ast.Attribute):
            self.visit(node.value, depth)
        name = _written_name(node)
        return None if name is None else self.values.get(name)

    def inner(self, node: ast.Starred | ast.Await, depth: int) -> Value:
        return self.visit(node.value, depth)


_METHODS = cast(
    dict[type[ast.AST], Callable[[_Reader, ast.AST, int], Value]],
    {
        ast.Constant: _Reader.constant,
        ast.JoinedStr: _Reader.f_string,
        ast.BinOp: _Reader.binary,
        ast.Tuple: _Reader.sequence,
        ast.List: _Reader.sequence,
        ast.Set: _Reader.sequence,
        ast.Dict: _Reader.dictionary,
        ast.Subscript: _Reader.subscript,
        ast.IfExp: _Reader.either,
        ast.BoolOp: _Reader.either,
        ast.Name: _Reader.known,
        ast.Attribute: _Reader.known,
        ast.Starred: _Reader.inner,
        ast.Await: _Reader.inner,
        ast.Call: _Reader.call,
        ast.Lambda: _Reader.lambda_,
        ast.Compare: _Reader.compare,
        ast.ListComp: _Reader.comprehension,
        ast.SetComp: _Reader.comprehension,
        ast.GeneratorExp: _Reader.comprehension,
        ast.comprehension: _Reader.for_,
        ast.NamedExpr: _Reader.ann_assign,
        ast.Assign: _Reader.assign_statement,
        ast.AnnAssign: _Reader.ann_assign,
        ast.AugAssign: _Reader.aug_assign,
        ast.FunctionDef: _Reader.function,
        ast.AsyncFunctionDef: _Reader.function,
        ast.arguments: _Reader.arguments,
        ast.Return: _Reader.return_,
        ast.Yield: _Reader.return_,
        ast.For: _Reader.for_,
        ast.AsyncFor: _Reader.for_,
        ast.Match: _Reader.match_,
    },
)


def _is_lookup(callee: str) -> bool:
    return re.match(r"(?i)get|read|input|ask|prompt|is_|has_|check|valid", callee) is not None


def _last_name(node: ast.AST | None) -> str | None:
    """Return the last name of x, a.x, a["x"] or x(), or None."""
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            return node.attr
        case ast.Subscript(slice=ast.Constant(value=str(key))):
            return key
        case ast.Call():
            return _last_name(node.func)
        case ast.Starred():
            return _last_name(node.value)
    return None


def _written_name(node: ast.AST) -> str | None:
    """Return x or a.x as written, None for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return None


def _integer(node: ast.AST | None) -> int | None:
    """Return a whole number, None where there is none, False where it is no literal."""
    if node is None:
        return None
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _integer(node.operand)
        return -value if isinstance(value, int) and value is not False else False
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    return False
