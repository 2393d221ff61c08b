"""What names hold in a program that is read, and what is recorded of it."""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from knexa.exchange.guardrail.names import strength
from knexa.exchange.guardrail.values import Budget, Value, held, text_of, together

_BASIC_AUTH = re.compile(r"(?i)basic_?auth|^auth$|http_?auth")


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


class Scope:
    """Names, which hold what was last assigned to them, and the strings that are met.

    Attributes:
        reading: What is recorded.
        budget: What is left to spend on it.
        values: What each name holds, where that is known.
    """

    def __init__(self, budget: Budget) -> None:
        self.reading = Reading()
        self.budget = budget
        self.values: dict[str, Value] = {}
        self._grown: set[str] = set()  # names whose strings grew piece by piece

    def finish(self) -> None:
        """Record what grew to the end."""
        for name in self._grown:
            self.made(self.values.get(name))

    def made(self, value: Value) -> Value:
        """Record a string that was put together, and return it."""
        if isinstance(value, str) and value:
            self.budget.spend(len(value))
            self.reading.strings.append(value)
        return value

    def name(self, name: str | None, value: Value) -> None:
        """Record the strings in a value under a name, where it is a secret's."""
        if name and value is not None and strength(name) is not None:
            for string in held(value, self.budget):
                self.budget.spend(len(string) // 8)
                self.reading.named.append((name, string))

    def name_login(self, name: str | None, value: Value) -> None:
        """Record the second of (user, password) under the name of such a pair."""
        if name and _BASIC_AUTH.search(name) and isinstance(value, tuple) and len(value) == 2:
            self.name("password", value[1])

    def assign(self, target: ast.AST, value: Value) -> None:
        """Let a target hold a value from now on."""
        if isinstance(target, ast.Tuple | ast.List):
            self._unpack(target.elts, value)
            return
        name = written_name(target)
        self.name(last_name(target), value)
        self.name_login(last_name(target), value)
        if name is not None:
            if name in self._grown:
                self._grown.discard(name)
                self.made(self.values.get(name))
            self.values[name] = value

    def _unpack(self, targets: Sequence[ast.expr], value: Value) -> None:
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

    def grow(self, target: ast.AST, value: Value) -> None:
        """Add to what a name holds; the result is recorded once it grows no more."""
        self.name(last_name(target), value)
        name = written_name(target)
        if name is None:
            return
        before, piece = text_of(self.values.get(name)), text_of(value)
        if before is None or piece is None:
            self.assign(target, None)
            return
        self.values[name] = together(self.budget, [before, piece])
        self.name(last_name(target), self.values[name])
        self._grown.add(name)


def last_name(node: ast.AST | None) -> str | None:
    """Return the last name of x, a.x, a["x"] or x(), or None."""
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            return node.attr
        case ast.Subscript(slice=ast.Constant(value=str(key))):
            return key
        case ast.Call():
            return last_name(node.func)
        case ast.Starred():
            return last_name(node.value)
    return None


def written_name(node: ast.AST) -> str | None:
    """Return x or a.x as written, None for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return None
