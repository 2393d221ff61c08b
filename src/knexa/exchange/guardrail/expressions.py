"""Expressions of a program that is read, not run: their values, and the names they give strings.

Literals are followed through variables, containers, ``+``, ``%``, ``format``, ``join`` and their
like. Not covered: strings that are computed from anything but literals, or by decoding.
"""

import ast
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, cast

from knexa.exchange.guardrail.names import gives_a_secret, strength
from knexa.exchange.guardrail.scope import Scope, last_name, written_name
from knexa.exchange.guardrail.values import (
    LONGEST_STRING,
    Budget,
    Unreadable,
    Value,
    either,
    formatted,
    joined,
    percent,
    text_of,
    together,
)

MAX_DEPTH = 150
"""Levels of a syntax tree that are read; the indentation of a program cannot exceed 100."""

_CONTAINERS = frozenset({"dict", "list", "tuple", "set", "frozenset", "iter", "next", "reversed"})
_STRINGS = frozenset({"str", "bytes", "bytearray"})
_KEEPS = frozenset({"strip", "lstrip", "rstrip", "encode", "decode", "lower", "upper", "title"})
_GIVES = re.compile(r"(?i)^(?:set|update|change|reset|use|with|add)_|(?-i:^[A-Z])")
_COMPARES = re.compile(r"(?i)compare|digest|equal|verify|check|log_?in|auth|connect")
_LOOKS_UP = re.compile(r"(?i)get|read|input|ask|prompt|is_|has_|check|valid")


class Expressions(Scope):
    """Reads expressions, each once."""

    methods: ClassVar[Mapping[type[ast.AST], Callable[..., Value]]] = {}

    def __init__(self, budget: Budget) -> None:
        super().__init__(budget)
        self.functions: list[str] = []  # those that are being read

    def body(self, nodes: Iterable[ast.AST], depth: int) -> None:
        """Read nodes, one after the other."""
        for node in nodes:
            self.visit(node, depth)

    def visit(self, node: ast.AST | None, depth: int) -> Value:
        """Read a node and return its value, None where that is unknown."""
        if node is None:
            return None
        if depth > MAX_DEPTH:
            raise Unreadable
        method = self.methods.get(type(node))
        if method is not None:
            return method(self, node, depth + 1)
        self.body(ast.iter_child_nodes(node), depth + 1)
        return None

    def join(self, separator: str, value: Value) -> Value:
        """Return and record ``separator.join(value)``."""
        return self.made(joined(self.budget, separator, value))

    def _lambda(self, node: ast.Lambda, depth: int) -> Value:
        self.visit(node.args, depth)
        return self.visit(node.body, depth)

    def _arguments(self, node: ast.arguments, depth: int) -> Value:
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

    def _return(self, node: ast.Return | ast.Yield, depth: int) -> Value:
        value = self.visit(node.value, depth)
        if self.functions and value is not None and gives_a_secret(self.functions[-1]):
            self.name(self.functions[-1], value)
        return value

    # Calls

    def _call(self, node: ast.Call, depth: int) -> Value:
        arguments = [self.visit(argument, depth) for argument in node.args]
        keywords: dict[str, Value] = {}
        for keyword in node.keywords:
            value = self.visit(keyword.value, depth)
            if keyword.arg:
                keywords[keyword.arg] = value
                self.name(keyword.arg, value)
                self.name_login(keyword.arg, value)
        receiver: Value = None
        if isinstance(node.func, ast.Attribute):
            receiver = self.visit(node.func.value, depth)
        elif not isinstance(node.func, ast.Name):
            return self.visit(node.func, depth)  # (lambda: 'a')()
        callee = last_name(node.func) or ""
        self._name_arguments(callee, node.args, arguments)
        return self._called(callee, receiver, arguments, keywords)

    def _name_arguments(
        self, callee: str, nodes: Sequence[ast.expr], values: Sequence[Value]
    ) -> None:
        """Record what a call's arguments name: get("API_KEY", "..."), set_password("...")."""
        self._name_next(values)
        if _GIVES.search(callee):
            for value in values:
                self.name(callee, value)
            self.name_login(callee, tuple(values[:2]))
        if _COMPARES.search(callee):
            for node in nodes[:4]:
                for value in values[:4]:
                    self.name(last_name(node), value)

    def _name_next(self, values: Sequence[Value]) -> None:
        """Record strings that follow a name or an option: ("password", "..."), ["-u", "a:b"]."""
        for first, second in pairwise(values):
            if first == "-u" and isinstance(second, str):
                self.name("password", second.partition(":")[2])
            elif isinstance(first, str) and len(first) <= 64:
                self.name(first.lstrip("-"), second)

    def _called(
        self,
        callee: str,
        receiver: Value,
        arguments: list[Value],
        keywords: dict[str, Value],
    ) -> Value:
        """Return the value of a call whose strings are known, None where it is not."""
        text = text_of(receiver)
        if text is not None:
            return self._method(callee, text, arguments, keywords)
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
            return (*arguments, *keywords.values()) if not _LOOKS_UP.match(callee) else None
        return None

    def _method(
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

    # Strings

    def _constant(self, node: ast.Constant, depth: int) -> Value:
        value = node.value
        if isinstance(value, bytes):
            value = value.decode("latin-1")
        if not isinstance(value, str):
            return None
        self.reading.strings.append(value)
        return value

    def _f_string(self, node: ast.JoinedStr, depth: int) -> Value:
        parts: list[Value] = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                value = self.visit(part.value, depth)
                self.visit(part.format_spec, depth)
                parts.append(None if part.format_spec else value)
            else:
                parts.append(self.visit(part, depth))
        return self._concatenated(parts)

    def _binary(self, node: ast.BinOp, depth: int) -> Value:
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
            return self._concatenated(values)
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

    def _concatenated(self, values: list[Value]) -> Value:
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

    def _sequence(self, node: ast.Tuple | ast.List | ast.Set, depth: int) -> Value:
        values = tuple(self.visit(element, depth) for element in node.elts)
        if len(values) > 1 and all(isinstance(value, str) for value in values):
            texts = cast(tuple[str, ...], values)
            if len(texts) == 2 or any(text.startswith("-") for text in texts):
                self._name_next(texts)
            if len(texts) >= 8 and all(len(text) == 1 for text in texts):
                self.made(together(self.budget, texts))
            elif any(len(text) >= 8 for text in texts):
                self.budget.spend(sum(map(len, texts)))
                self.reading.spelled.append(together(self.budget, texts))
        return values

    def _dictionary(self, node: ast.Dict, depth: int) -> Value:
        entries: dict[str, Value] = {}
        for key, item in zip(node.keys, node.values, strict=True):
            name, value = self.visit(key, depth), self.visit(item, depth)
            if isinstance(name, str):
                self.name(name, value)
                entries[name] = value
            else:
                self.name(last_name(key), value)
        return entries

    def _subscript(self, node: ast.Subscript, depth: int) -> Value:
        value, index = self.visit(node.value, depth), self.visit(node.slice, depth)
        if isinstance(value, dict) and isinstance(index, str):
            return value.get(index)
        if not isinstance(value, tuple | str):
            return None
        if isinstance(node.slice, ast.Slice):
            ends = (node.slice.lower, node.slice.upper, node.slice.step)
            bounds = [_integer(end) for end in ends]
            if any(b is None and e is not None for b, e in zip(bounds, ends, strict=True)):
                return None
            part = value[slice(*bounds)] if bounds[2] != 0 else ()
            self.budget.spend(len(part) // 8 + 1)
            return part
        place = _integer(node.slice)
        inside = place is not None and -len(value) <= place < len(value)
        return value[place] if place is not None and inside else None

    def _either(self, node: ast.IfExp | ast.BoolOp, depth: int) -> Value:
        if isinstance(node, ast.IfExp):
            self.visit(node.test, depth)
        options = node.values if isinstance(node, ast.BoolOp) else [node.body, node.orelse]
        values = [self.visit(option, depth) for option in options]
        return either(values)

    def _loop(self, node: ast.For | ast.AsyncFor | ast.comprehension, depth: int) -> Value:
        """Assign every element in turn; the value is the iterable's."""
        values = self.visit(node.iter, depth)
        for value in values if isinstance(values, tuple) else (None,):
            self.budget.spend(1)
            self.assign(node.target, value)
        self.body(node.ifs if isinstance(node, ast.comprehension) else node.body, depth)
        self.body(() if isinstance(node, ast.comprehension) else node.orelse, depth)
        return values

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp, depth: int
    ) -> Value:
        values = [self.visit(generator, depth) for generator in node.generators]
        element = self.visit(node.elt, depth)
        is_plain = isinstance(node.elt, ast.Name) and len(values) == 1
        return values[0] if is_plain else (element,) if element is not None else None

    # Comparisons

    def _compare(self, node: ast.Compare, depth: int) -> Value:
        nodes = [node.left, *node.comparators]
        values = [self.visit(side, depth) for side in nodes]
        for (left, first), (right, second) in pairwise(zip(nodes, values, strict=True)):
            self.name(last_name(left), second)
            self.name(last_name(right), first)
        return None

    def _known(self, node: ast.Name | ast.Attribute, depth: int) -> Value:
        if isinstance(node, ast.Attribute):
            self.visit(node.value, depth)
        name = written_name(node)
        return None if name is None else self.values.get(name)

    def _inner(self, node: ast.Starred | ast.Await, depth: int) -> Value:
        return self.visit(node.value, depth)

    def _named(self, node: ast.NamedExpr | ast.AnnAssign, depth: int) -> Value:
        value = self.visit(node.value, depth)
        self.assign(node.target, value)
        return value


Expressions.methods = {
    ast.Constant: Expressions._constant,
    ast.JoinedStr: Expressions._f_string,
    ast.BinOp: Expressions._binary,
    ast.Tuple: Expressions._sequence,
    ast.List: Expressions._sequence,
    ast.Set: Expressions._sequence,
    ast.Dict: Expressions._dictionary,
    ast.Subscript: Expressions._subscript,
    ast.IfExp: Expressions._either,
    ast.BoolOp: Expressions._either,
    ast.Name: Expressions._known,
    ast.Attribute: Expressions._known,
    ast.Starred: Expressions._inner,
    ast.Await: Expressions._inner,
    ast.Call: Expressions._call,
    ast.Lambda: Expressions._lambda,
    ast.Compare: Expressions._compare,
    ast.ListComp: Expressions._comprehension,
    ast.SetComp: Expressions._comprehension,
    ast.GeneratorExp: Expressions._comprehension,
    ast.comprehension: Expressions._loop,
    ast.NamedExpr: Expressions._named,
    ast.arguments: Expressions._arguments,
    ast.Yield: Expressions._return,
}


def _integer(node: ast.AST | None) -> int | None:
    """Return the value of a whole number that is written down, None for anything else."""
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))):
            return -value
    return None
