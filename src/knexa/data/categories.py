"""Assigns one of the twelve categories to a problem by fixed rules; the first match wins.

A rule looks at the *lead*, which is the words of the entry point and the first 240 characters of
the docstring's prose (without examples and asserts, in lower case), and at the syntax tree of the
canonical solution. "Text" is a lead about strings, words or characters; "sequence" is one about
lists, arrays or elements, or code that iterates over an argument. The rules, in order:

|  # | category        | when                                                                 |
|----|-----------------|----------------------------------------------------------------------|
|  1 | dictionaries    | dictionaries, key-value; counts and groups with a dict in the code   |
|  2 | ordering        | sort, sorts, sorting, rearranging, shuffling                         |
|  3 | recurrences     | the function calls itself; Fibonacci, subsequence, path, grid ...    |
|  4 | sets_tuples     | tuples (but not "return a tuple")                                    |
|  5 | number_theory   | primes, divisors, gcd, binary, bits, powers of two ...               |
|  6 | ordering        | not text; reversing, rotating, ascending, k-th, closest ...          |
|  7 | string_queries  | text, and an answer that is true or false                            |
|  8 | string_building | text, and removing, replacing, converting, joining, encoding ...     |
|  9 | string_queries  | other text                                                           |
| 10 | number_theory   | digits, modulo, multiples, quotients                                 |
| 11 | sets_tuples     | sets, pairs, intersections, duplicates, unique or common elements    |
| 12 | string_building | the code returns an f-string, a join or a changed case               |
| 13 | filtering       | sequence, and the code returns a comprehension with a condition      |
| 14 | mapping         | sequence, and the code returns a comprehension without one           |
| 15 | aggregation     | sequence, and true or false, or a sum, count, product, average ...   |
| 16 | filtering       | filter; sequence, and removing, extracting, only, odd, negative ...  |
| 17 | mapping         | sequence, and each, converting, replacing, splitting, flattening ... |
| 18 | aggregation     | other sequences                                                      |
| 19 | conditionals    | true or false; smallest of three, valid, otherwise; two ifs or more  |
| 20 | recurrences     | a loop in the code                                                   |
| 21 | arithmetic      | everything else                                                      |

The rules are coarse: they serve histograms, and may misjudge single problems.
"""

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from knexa.data.problem import CATEGORIES
from knexa.data.source_code import parse, whole_program

_LEAD_LENGTH = 240

_TEXT = (
    r"strings?\b|words?\b|char(acter)?s?\b|letters?\b|vowels?|substr|sentence|regex|text\b|"
    r"parenthes|brackets?\b|paren|music|literals?\b|spaces\b|date\b|file name|message|lower ?case"
)
_TEXTS = r"(list|array|set|sublist)s? of (\w+ )?(strings?|words)"
_SEQUENCE = (
    r"lists?\b|arrays?\b|arr\b|lst\b|elements?\b|sequences?\b|items?\b|sublists?\b|heap\b|dataset|"
    r"numbers in|intervals?\b"
)
_DICTIONARY = r"dictionar|dict\b|key.?value|histogram|hash ?map"
_FREQUENCY = r"freq|occur|most common|number of times|group|count"
_SORT = r"sort(s|ing)?\b|re-?arrang|merge multiple sorted|order by|shuffle"
_RECURRENCE = (
    r"fib|tribonacci|collatz|recurs|matri(x|ces)|grid\b|\w*dimensional|subseq|sub-?seq|sub-?array|"
    r"contiguous|path\b|running|rolling|cumulative|series\b|ways\b|binomial|factorial|inversion|"
    r"catalan|eulerian|bell num|balance\b|below.zero|run-length|operations? req|permutation|"
    r"combinations|triangle of numbers|right triangle of|newman|pell|polynomial|"
    r"sequences? of length|magic square|3d"
)
_TUPLES = r"(?<!return a )(?<!returns a )\w*tuple"
_NUMBER_THEORY = (
    r"primes?\b|divisors?\b|divisible|divides\b|gcd|lcm|factori[sz]|binary|hexadecimal|octal\b|"
    r"bits?\b|xor\b|co-?prime|power of (2|two|n)\b|perfect square|roman|iscube|keith|woodall|"
    r"amicable|numerical base|change base|modular|palindromes? of a|even positive|"
    r"difference of two squares|product of two squares|hamming|simple power|smart ?num|undulating|"
    r"reverse\.|integer palindromes"
)
_ORDER = r"revers|rotat|swap|rank|ascending|descending|monoton|closest|k-?th |n largest"
_BUILD = (
    r"remov|replac|convert|concat|join|encod|decod|encrypt|flip|split|insert|camel|snake|shift|"
    r"append|delet|revers|swap|make|pars|separat|prefixes|sequence\b.*string|fix|md5|select|"
    r"truncat|extract|transform|simplif"
)
_DIGITS = r"digits?\b|modulo|modp|multiples\b|multiple of|remainder|even integer|quotient"
_SETS = (
    r"sets?\b|pairs?\b|intersect|union|unique|distinct|duplicat|common\b|subset|repeated|triple|"
    r"only once|disjoint"
)
_TOTAL = r"sums?\b|count|number of|total|average|mean\b|product\b|median|add the"
_FILTER = (
    r"remov|extract|only\b|exclud|delet|shortlist|select|drop|positive numbers in|greater than|"
    r"larger than|less than|missing|starting with|start with|which are|negative|even\b|odd\b|"
    r"pluck|substract|top k|maximum k"
)
_MAP = (
    r"each\b|every\b|convert|map\b|multiply|incr|squares?d?\b|replac|insert|concat|flatten|split|"
    r"rescale|transform|zip|add\b.*\bto\b|intersperse|decod|encod|generate|derivative|all possible"
)
_CASES = (
    r"check|whether|(min|max)\w* of (two|three)|compare|larg(er|est) of|smaller of|opposite|"
    r"valid|grade|season|choose|bill|age\b|depending|if\b|otherwise"
)


@dataclass(frozen=True, kw_only=True)
class _Features:
    """Features of a problem that the rules use."""

    lead: str
    loops: bool
    recursive: bool
    yes_no: bool
    makes_dict: bool
    makes_text: bool
    comprehension: Literal["filter", "map"] | None
    iterates_argument: bool
    num_branches: int

    def says(self, pattern: str) -> bool:
        """Return whether ``pattern`` matches at the start of some word of the lead."""
        return re.search(rf"\b(?:{pattern})", self.lead) is not None

    @property
    def text(self) -> bool:
        """Whether it is about a single text, not about a list of texts."""
        return self.says(_TEXT) and not self.says(_TEXTS)

    @property
    def sequence(self) -> bool:
        """Whether it is about a list or the like."""
        return self.iterates_argument or self.says(_SEQUENCE)


_RULES: tuple[tuple[str, Callable[[_Features], bool]], ...] = (
    ("dictionaries", lambda c: c.says(_DICTIONARY) or (c.makes_dict and c.says(_FREQUENCY))),
    ("ordering", lambda c: c.says(_SORT)),
    ("recurrences", lambda c: c.recursive or c.says(_RECURRENCE)),
    ("sets_tuples", lambda c: c.says(_TUPLES)),
    ("number_theory", lambda c: c.says(_NUMBER_THEORY)),
    ("ordering", lambda c: not c.text and c.says(_ORDER)),
    ("string_queries", lambda c: c.text and c.yes_no),
    ("string_building", lambda c: c.text and (c.makes_text or c.says(_BUILD))),
    ("string_queries", lambda c: c.text),
    ("number_theory", lambda c: c.says(_DIGITS)),
    ("sets_tuples", lambda c: c.says(_SETS)),
    ("string_building", lambda c: c.makes_text),
    ("filtering", lambda c: c.sequence and c.comprehension == "filter"),
    ("mapping", lambda c: c.sequence and c.comprehension == "map"),
    ("aggregation", lambda c: c.sequence and (c.yes_no or c.says(_TOTAL))),
    ("filtering", lambda c: c.says("filter") or (c.sequence and c.says(_FILTER))),
    ("mapping", lambda c: c.sequence and c.says(_MAP)),
    ("aggregation", lambda c: c.sequence),
    ("conditionals", lambda c: c.yes_no or c.says(_CASES) or c.num_branches >= 2),
    ("recurrences", lambda c: c.loops),
    ("arithmetic", lambda c: True),
)


def categorize(prompt: str, canonical_solution: str, entry_point: str) -> int:
    """Return the index in ``CATEGORIES`` of a problem, by the rules of this module.

    For a solution that does not parse only its words count; it is not an error.
    """
    features = _features(prompt, canonical_solution, entry_point)
    return CATEGORIES.index(next(name for name, rule in _RULES if rule(features)))


def _features(prompt: str, canonical_solution: str, entry_point: str) -> _Features:
    """Read the docstring and the syntax tree of the entry point."""
    program = whole_program(prompt, canonical_solution, entry_point)
    function = _find_function(program, entry_point)
    documented = _find_function(prompt, entry_point) or function
    docstring = (ast.get_docstring(documented) if documented else None) or prompt
    prose = re.split(r">>>|\bassert\b|\bexamples?\b", docstring, flags=re.IGNORECASE)[0]
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", entry_point)
    nodes = list(ast.walk(function)) if function else []
    calls = {_called(node) for node in nodes}
    answers = [node.value for node in nodes if isinstance(node, ast.Return) and node.value]
    loops = [node for node in nodes if isinstance(node, ast.For | ast.comprehension)]
    arguments = {node.arg for node in nodes if isinstance(node, ast.arg)}
    iterated = {leaf.id for loop in loops for leaf in _iterated(loop.iter)}
    return _Features(
        lead=" ".join(f"{name} {prose}".lower().split())[:_LEAD_LENGTH],
        loops=bool(loops) or any(isinstance(node, ast.While) for node in nodes),
        recursive=entry_point in calls,
        yes_no=bool(answers) and all(map(_is_yes_no, answers)),
        makes_dict=any(isinstance(node, ast.Dict | ast.DictComp) for node in nodes)
        or not calls.isdisjoint({"dict", "Counter", "defaultdict"}),
        makes_text=any(map(_is_new_text, answers)),
        comprehension=_comprehension(answers),
        iterates_argument=not arguments.isdisjoint(iterated),
        num_branches=sum(isinstance(node, ast.If | ast.IfExp) for node in nodes),
    )


def _find_function(program: str, name: str) -> ast.FunctionDef | None:
    """Return the last top-level function of that name, or None."""
    try:
        body = parse(program).body
    except (SyntaxError, ValueError):
        return None
    found = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == name]
    return found[-1] if found else None


def _called(node: ast.AST) -> str:
    """Return the last part of the name that ``node`` calls; empty where it is no call."""
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute):
            return node.func.attr
        if isinstance(node.func, ast.Name):
            return node.func.id
    return ""


def _iterated(iterable: ast.expr) -> list[ast.Name]:
    """Return the names a loop runs over, through enumerate and the like; not those in range()."""
    if isinstance(iterable, ast.Name):
        return [iterable]
    if isinstance(iterable, ast.Call) and _called(iterable) in {"enumerate", "zip", "reversed"}:
        return [name for argument in iterable.args for name in _iterated(argument)]
    return []


def _comprehension(answers: list[ast.expr]) -> Literal["filter", "map"] | None:
    """Return what a returned list comprehension does: drops elements, or only changes them."""
    for answer in answers:
        if isinstance(answer, ast.ListComp):
            return "filter" if any(part.ifs for part in answer.generators) else "map"
    return None


def _is_new_text(value: ast.expr) -> bool:
    """Return whether an expression evidently makes a new string."""
    return isinstance(value, ast.JoinedStr) or _called(value) in {
        *("join", "upper", "lower", "replace", "title", "capitalize", "swapcase", "strip"),
        *("ljust", "rjust", "zfill", "center", "format"),
    }


def _is_yes_no(value: ast.expr) -> bool:
    """Return whether an expression evidently is a truth value, or a word for one."""
    if isinstance(value, ast.Constant):
        return isinstance(value.value, bool) or str(value.value).lower() in _YES_NO
    if isinstance(value, ast.BoolOp):
        return all(map(_is_yes_no, value.values))
    if isinstance(value, ast.IfExp):
        return _is_yes_no(value.body) and _is_yes_no(value.orelse)
    if isinstance(value, ast.UnaryOp):
        return isinstance(value.op, ast.Not)
    if isinstance(value, ast.Call):
        return _called(value) in {"all", "any", "bool", "isinstance", "startswith", "issubset"}
    return isinstance(value, ast.Compare)


_YES_NO = frozenset({"yes", "no", "valid", "invalid", "equal", "not equal"})
