"""Data flow of Python code for CodeBLEU (Ren et al. 2020, 3.3; Guo et al. 2021).

A flow states for one variable token where its value comes from. The walk keeps for every name the
tokens that may have set it last; loops are walked twice, so that a value may come from the previous
iteration. The flows equal those of the released CodeBLEU with two differences: it orders several
sources of one token by Python's randomised string hashes, which are sorted by name here; and code
whose nested loops would take exponential time has no flows.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from knexa.evaluation.syntax import Node, Tree, token_text

NormalFlow = tuple[str, str, tuple[str, ...]]
States = dict[str, list[int]]

_MAX_VISITS = 200_000


@dataclass(slots=True)
class _Flow:
    """``name`` at token ``index`` gets its value by ``relation`` from tokens ``sources``."""

    name: str
    index: int
    relation: str
    source_names: list[str]
    sources: list[int]


class _NoFlowError(Exception):
    """The tree is too large, or not valid enough, for data flow."""


def flows(tree: Tree) -> Counter[NormalFlow]:
    """Return the flows of a program with variables renamed in order of appearance."""
    walk = _Walk(tree)
    try:
        found, _ = walk.visit(tree.root, {})
    except (_NoFlowError, RecursionError):
        return Counter()
    return _normalise(_connected(sorted(found, key=_index)))


def match(candidate: Counter[NormalFlow], reference: Counter[NormalFlow]) -> float | None:
    """Return the share of the reference's flows that the candidate has; None where it has none."""
    if not reference:
        return None
    return (candidate & reference).total() / reference.total()


def _index(flow: _Flow) -> int:
    return flow.index


def _connected(found: list[_Flow]) -> list[_Flow]:
    """Keep the tokens that take part in a flow, one entry each."""
    used = {flow.index for flow in found if flow.sources}
    used.update(source for flow in found for source in flow.sources)
    return _merge([flow for flow in found if flow.index in used], key=_index)


def _merge(found: list[_Flow], key: Callable[[_Flow], object]) -> list[_Flow]:
    """Merge the sources of flows with the same key; the first one gives everything else."""
    merged: dict[object, _Flow] = {}
    for flow in found:
        first = merged.setdefault(key(flow), flow)
        if first is not flow:
            names = sorted({*first.source_names, *flow.source_names})
            sources = sorted({*first.sources, *flow.sources})
            merged[key(flow)] = _Flow(first.name, first.index, first.relation, names, sources)
    return list(merged.values())


def _normalise(found: list[_Flow]) -> Counter[NormalFlow]:
    numbers: dict[str, str] = {}
    normal: Counter[NormalFlow] = Counter()
    for flow in found:
        for name in (*flow.source_names, flow.name):
            numbers.setdefault(name, f"var_{len(numbers)}")
        sources = tuple(numbers[name] for name in flow.source_names)
        normal[numbers[flow.name], flow.relation, sources] += 1
    return normal


class _Walk:
    """Walks one program; its methods return the flows below a node and the states after it."""

    def __init__(self, tree: Tree) -> None:
        self._tokens: dict[object, tuple[int, str]] = {}
        self._visits = 0
        for index, node in enumerate(_leaves(tree.root)):
            self._tokens[node.place] = (index, token_text(node.place, tree.lines))
        self._rules: dict[str, Callable[[Node, States], tuple[list[_Flow], States]]] = {
            "default_parameter": self._default_parameter,
            "assignment": self._assignment,
            "augmented_assignment": self._assignment,
            "for_in_clause": self._comprehension,
            "if_statement": self._branch,
            "for_statement": self._for,
            "while_statement": self._while,
        }

    def visit(self, node: Node, states: States) -> tuple[list[_Flow], States]:
        self._visits += 1
        if self._visits > _MAX_VISITS:
            raise _NoFlowError
        if node.is_token:
            return self._token(node, states)
        rule = self._rules.get(node.type)
        if rule is not None:
            return rule(node, states)
        first = [child for child in node.children if child.type == "for_in_clause"]
        if not first:
            return self._sequence(node.children, states)
        # A comprehension's names are used before the clauses that bind them.
        rest = [child for child in node.children if child.type != "for_in_clause"]
        found, states = self._sequence(first + rest, states)
        return sorted(found, key=_index), states

    def _sequence(self, nodes: list[Node], states: States) -> tuple[list[_Flow], States]:
        found: list[_Flow] = []
        for node in nodes:
            more, states = self.visit(node, states)
            found += more
        return found, states

    def _token(self, node: Node, states: States) -> tuple[list[_Flow], States]:
        index, text = self._located(node)
        if node.type == text:  # a keyword or a punctuation mark
            return [], states
        if text in states:
            return [_Flow(text, index, "comesFrom", [text], list(states[text]))], states
        if node.type == "identifier":
            states = {**states, text: [index]}
        return [_Flow(text, index, "comesFrom", [], [])], states

    def _located(self, node: Node) -> tuple[int, str]:
        """Return the token's index and text; parts of a string have none."""
        found = self._tokens.get(node.place)
        if found is None:
            # An assignment pairs the children of both sides even if one is a string: in
            # ``x.y = "z"`` each has three. CodeBLEU then drops the program's data flow.
            raise _NoFlowError
        return found

    def _variables(self, node: Node) -> list[tuple[int, str]]:
        tokens = [(leaf.type, *self._located(leaf)) for leaf in _leaves(node)]
        return [(index, text) for kind, index, text in tokens if kind != text]

    def _default_parameter(self, node: Node, states: States) -> tuple[list[_Flow], States]:
        name, value = _field(node, "name"), node.fields.get("value")
        if value is None:
            names = self._variables(name)
            fresh = {text: [index] for index, text in names}
            return [_Flow(text, i, "comesFrom", [], []) for i, text in names], {**states, **fresh}
        found, states = self.visit(value, states)
        found, states = list(found), dict(states)
        sources = self._variables(value)
        for index, text in self._variables(name):
            found += [_Flow(text, index, "comesFrom", [s], [i]) for i, s in sources]
            states[text] = [index]
        return sorted(found, key=_index), states

    def _assignment(self, node: Node, states: States) -> tuple[list[_Flow], States]:
        if "right" not in node.fields:
            return [], states
        lefts, rights = _pair_up(_field(node, "left"), _field(node, "right"))
        found, states = self._assign(lefts, rights, states)
        return sorted(found, key=_index), states

    def _comprehension(self, node: Node, states: States) -> tuple[list[_Flow], States]:
        found, states = self._assign([_field(node, "left")], [node.children[-1]], states)
        return sorted(found, key=_index), states

    def _assign(
        self, lefts: list[Node], rights: list[Node], states: States
    ) -> tuple[list[_Flow], States]:
        found, states = self._sequence(rights, states)
        states = dict(states)
        for left, right in zip(lefts, rights, strict=False):
            sources = self._variables(right)
            names, indices = [text for _, text in sources], [index for index, _ in sources]
            for index, text in self._variables(left):
                found.append(_Flow(text, index, "computedFrom", list(names), list(indices)))
                states[text] = [index]
        return found, states

    def _branch(self, node: Node, states: States) -> tuple[list[_Flow], States]:
        found: list[_Flow] = []
        after: list[States] = []
        current = states
        for child in node.children:
            if child.type in ("elif_clause", "else_clause"):
                more, other = self.visit(child, states)
                after.append(other)
            else:
                more, current = self.visit(child, current)
            found += more
        after.append(current)
        if not any("else" in child.type for child in node.children):
            after.append(states)
        merged: dict[str, set[int]] = {}
        for other in after:
            for name, indices in other.items():
                merged.setdefault(name, set()).update(indices)
        joined = {name: sorted(indices) for name, indices in merged.items()}
        return sorted(found, key=_index), joined

    def _for(self, node: Node, states: States) -> tuple[list[_Flow], States]:
        lefts, rights = _pair_up(_field(node, "left"), _field(node, "right"))
        found: list[_Flow] = []
        for _ in range(2):
            more, states = self._assign(lefts, rights, states)
            found += more
            if node.children[-1].type == "block":
                more, states = self.visit(node.children[-1], states)
                found += more
        return _merge_iterations(found), states

    def _while(self, node: Node, states: States) -> tuple[list[_Flow], States]:
        found: list[_Flow] = []
        for _ in range(2):
            more, states = self._sequence(node.children, states)
            found += more
        return _merge_iterations(found), states


def _leaves(node: Node) -> list[Node]:
    leaves: list[Node] = []
    stack = [node]
    while stack:
        top = stack.pop()
        if top.is_token:
            leaves.append(top)
        else:
            stack.extend(reversed(top.children))
    return leaves


def _field(node: Node, name: str) -> Node:
    found = node.fields.get(name)
    if found is None:
        raise _NoFlowError
    return found


def _pair_up(left: Node, right: Node) -> tuple[list[Node], list[Node]]:
    """Pair the parts of ``a, b = x, y``; sides of different length stay whole."""
    lefts = [child for child in left.children if child.type != ","]
    rights = [child for child in right.children if child.type != ","]
    if len(lefts) != len(rights) or not lefts:
        return [left], [right]
    return lefts, rights


def _merge_iterations(found: list[_Flow]) -> list[_Flow]:
    """Merge the flows that both walks of a loop found for the same token."""
    merged = _merge(found, key=lambda flow: (flow.name, flow.index, flow.relation))
    return sorted(merged, key=_index)
