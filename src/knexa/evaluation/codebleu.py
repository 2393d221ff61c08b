"""CodeBLEU (Ren et al. 2020) of Python programs, in two forms.

CodeBLEU is the mean of four parts: BLEU, keyword-weighted BLEU, the share of the reference's
syntax subtrees that the candidate has, and the share of its data flows. ``compat`` is what the PyPI
package ``codebleu`` 0.7.0 computes with equal weights, its defects included: tokens are split at
white space, the brevity penalty of the weighted part takes 2 for the length of every reference,
and a data-flow part of 0, undefined or not, counts as 1, so an empty answer scores 0.25. ``fixed``
uses Python's tokens and the true length, and leaves the data-flow part out where the reference has
none. Where the package's result depends on Python's hash seed, ``compat`` is one such result.
"""

import ast
import statistics
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from knexa.data.problem import Problem
from knexa.evaluation import bleu, dataflow, syntax
from knexa.sandbox.outcome import program

_NUM_PARTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeBleu:
    """Both scores and their parts, all in [0, 1].

    ``ngram``, ``weighted_ngram``, ``syntax`` and ``dataflow`` are ``compat``'s parts, ``dataflow``
    being None where the reference has no data flow; ``fixed`` shares the last two.
    """

    compat: float
    fixed: float
    ngram: float
    weighted_ngram: float
    syntax: float
    dataflow: float | None
    fixed_ngram: float
    fixed_weighted_ngram: float


class _Text:
    """One text, prepared for both forms."""

    def __init__(self, text: str) -> None:
        text = text.strip()[: syntax.MAX_CHARACTERS]
        self.words = bleu.count_ngrams(text.split())
        tokens, code = syntax.tokens_and_code(text)
        self.tokens = bleu.count_ngrams(tokens)
        tree = syntax.parse(code)
        self.subtrees = Counter(tree.subtrees)
        self.flows = dataflow.flows(tree)


class CodeBleuReference:
    """A reference, parsed once to score many candidates against it."""

    def __init__(self, reference: str) -> None:
        self._reference = _Text(reference)

    def score(self, candidate: str) -> CodeBleu:
        """Return the candidate's score; the candidate need not be valid Python."""
        ours, theirs = _Text(candidate), self._reference
        # The package takes the length of a (tokens, weights) pair for the reference's: always 2.
        ngram, weighted = bleu.both_bleus(ours.words, theirs.words, reference_length=2)
        fixed_ngram, fixed_weighted = bleu.both_bleus(ours.tokens, theirs.tokens)
        matched = sum(n for tree, n in theirs.subtrees.items() if tree in ours.subtrees)
        tree_match = matched / theirs.subtrees.total()
        flow_match = dataflow.match(ours.flows, theirs.flows)
        fixed_parts = [fixed_ngram, fixed_weighted, tree_match]
        if flow_match is not None:
            fixed_parts.append(flow_match)
        return CodeBleu(
            compat=(ngram + weighted + tree_match + (flow_match or 1.0)) / _NUM_PARTS,
            fixed=statistics.fmean(fixed_parts),
            ngram=ngram,
            weighted_ngram=weighted,
            syntax=tree_match,
            dataflow=flow_match,
            fixed_ngram=fixed_ngram,
            fixed_weighted_ngram=fixed_weighted,
        )


def score(candidate: str, reference: str) -> CodeBleu:
    """Return the CodeBLEU of one candidate."""
    return CodeBleuReference(reference).score(candidate)


def comparable(problem: Problem, completion: str) -> str:
    """Return the program of a completion without the docstring of the prompt.

    The docstring, which every program shares, would otherwise dominate the score.
    """
    text = program(problem, completion)
    if not text.startswith(problem.prompt):
        return text
    return _without_docstring(problem.prompt, problem.entry_point) + text[len(problem.prompt) :]


def _without_docstring(prompt: str, entry_point: str) -> str:
    with suppress(SyntaxError, ValueError):
        for node in ast.parse(prompt).body:
            if isinstance(node, ast.FunctionDef) and node.name == entry_point:
                first = node.body[0]
                if ast.get_docstring(node, clean=False) is not None:
                    lines = prompt.split("\n")
                    del lines[first.lineno - 1 : first.end_lineno]
                    return "\n".join(lines)
    return prompt


def floors(problems: Sequence[Problem]) -> dict[str, dict[str, float]]:
    """Return both forms' means for an empty answer and for a copy of the prompt.

    Raises:
        ValueError: No problems.
    """
    if not problems:
        raise ValueError("floors of no problems are undefined")
    empty, copied = [], []
    for problem in problems:
        reference = CodeBleuReference(comparable(problem, problem.canonical_solution))
        empty.append(reference.score(""))
        copied.append(reference.score(comparable(problem, "")))
    return {
        name: {
            "compat": statistics.fmean(each.compat for each in scores),
            "fixed": statistics.fmean(each.fixed for each in scores),
        }
        for name, scores in (("empty", empty), ("prompt_copy", copied))
    }
