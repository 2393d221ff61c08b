"""What a program says: its strings as it would put them together, and the names it gives them.

Programs are read, never run. Every node is visited once, in the order of the text, and what is put
together is bounded by the length of the text: a program that asks for more is ``Unreadable``.
"""

import ast

from knexa.exchange.guardrail.expressions import MAX_DEPTH, Expressions
from knexa.exchange.guardrail.scope import Reading, last_name, written_name
from knexa.exchange.guardrail.values import Budget, Unreadable, Value


def read(tree: ast.Module, length: int) -> Reading:
    """Return what a program of ``length`` characters says.

    Raises:
        Unreadable: It is nested too deeply, or puts together far more than it holds.
    """
    program = _Program(Budget(8 * length + 16_384))
    program.body(tree.body, 0)
    program.finish()
    return program.reading


class _Program(Expressions):
    """Reads statements from top to bottom."""

    def _assignment(self, node: ast.Assign, depth: int) -> Value:
        target = node.targets[0]
        if (  # k = k + 'b' says what k += 'b' says
            len(node.targets) == 1
            and isinstance(node.value, ast.BinOp)
            and isinstance(node.value.op, ast.Add)
            and written_name(target) is not None
            and written_name(node.value.left) == written_name(target)
        ):
            self.grow(target, self.visit(node.value.right, depth))
            return None
        value = self.visit(node.value, depth)
        for target in node.targets:
            self._visit_target(target, depth)
            self.assign(target, value)
        return None

    def _visit_target(self, target: ast.AST, depth: int) -> None:
        """Read what stands inside a target, such as an index."""
        if not isinstance(target, ast.Name):
            self.body(ast.iter_child_nodes(target), depth)

    def _augmented(self, node: ast.AugAssign, depth: int) -> Value:
        value = self.visit(node.value, depth)
        self._visit_target(node.target, depth)
        if isinstance(node.op, ast.Add):
            self.grow(node.target, value)
        return None

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, depth: int) -> Value:
        self.body(node.decorator_list, depth)
        self.visit(node.args, depth)
        self.functions.append(node.name)
        self.body(node.body, depth)
        self.functions.pop()
        return None

    def _match(self, node: ast.Match, depth: int) -> Value:
        self.visit(node.subject, depth)
        for case in node.cases:
            self._pattern(case.pattern, node.subject, depth)
            self.visit(case.guard, depth)
            self.body(case.body, depth)
        return None

    def _pattern(self, pattern: ast.pattern, subject: ast.expr | str | None, depth: int) -> None:
        """Record the strings that a subject is matched with."""
        if depth > MAX_DEPTH:
            raise Unreadable
        name = subject if isinstance(subject, str) else last_name(subject)
        match pattern:
            case ast.MatchValue():
                self.name(name, self.visit(pattern.value, depth + 1))
            case ast.MatchOr() | ast.MatchSequence():
                parts = subject.elts if isinstance(subject, ast.Tuple | ast.List) else []
                for index, inner in enumerate(pattern.patterns):
                    is_part = isinstance(pattern, ast.MatchSequence) and index < len(parts)
                    self._pattern(inner, parts[index] if is_part else subject, depth + 1)
            case ast.MatchMapping():
                for key, inner in zip(pattern.keys, pattern.patterns, strict=True):
                    value = self.visit(key, depth + 1)
                    self._pattern(inner, value if isinstance(value, str) else name, depth + 1)
            case ast.MatchClass():
                for inner in pattern.patterns:
                    self._pattern(inner, name, depth + 1)
                for attribute, inner in zip(pattern.kwd_attrs, pattern.kwd_patterns, strict=True):
                    self._pattern(inner, attribute, depth + 1)
            case ast.MatchAs(pattern=ast.pattern() as inner):
                self._pattern(inner, pattern.name or name, depth + 1)


_Program.methods = {
    **Expressions.methods,
    ast.Assign: _Program._assignment,
    ast.AnnAssign: _Program._named,
    ast.AugAssign: _Program._augmented,
    ast.FunctionDef: _Program._function,
    ast.AsyncFunctionDef: _Program._function,
    ast.Return: _Program._return,
    ast.For: _Program._loop,
    ast.AsyncFor: _Program._loop,
    ast.Match: _Program._match,
}
