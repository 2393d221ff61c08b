from pathlib import Path

import pytest

from knexa.data.categories import categorize
from knexa.data.humaneval_mbpp import load_humaneval, load_mbpp
from knexa.data.problem import CATEGORIES

# (category, signature, sentence, body)
OWN = [
    (
        "arithmetic",
        "cone_volume(r, h)",
        "Volume of a cone.",
        "return 3.14 * r * r * h / 3",
    ),
    ("arithmetic", "add(a, b)", "Add two numbers.", "return a + b"),
    ("arithmetic", "to_kelvin(c)", "Turn degrees Celsius into Kelvin.", "return c + 273.15"),
    ("number_theory", "is_prime(n)", "Is n a prime number?", "return n > 1"),
    ("number_theory", "last(n)", "Return the last digit of n.", "return n % 10"),
    ("number_theory", "gcd(a, b)", "Greatest common divisor.", "return b"),
    ("number_theory", "to_bin(n)", "Write n in binary.", "return bin(n)[2:]"),
    (
        "conditionals",
        "clamp(x)",
        "Keep x within 0 and 9.",
        "if x < 0:\n        return 0\n    if x > 9:\n        return 9\n    return x",
    ),
    ("conditionals", "smaller(a, b)", "Return the minimum of two numbers.", "return min(a, b)"),
    ("conditionals", "leap(y)", "Tell leap years.", "return y % 4 == 0"),
    ("aggregation", "total(xs)", "Sum the list.", "return sum(xs)"),
    ("aggregation", "largest(xs)", "Return the greatest element.", "return max(xs)"),
    (
        "aggregation",
        "all_small(xs)",
        "Are all elements below ten?",
        "return all(x < 10 for x in xs)",
    ),
    ("filtering", "evens(xs)", "Keep some numbers.", "return [x for x in xs if x % 2 == 0]"),
    ("filtering", "drop_none(xs)", "Remove None from a list.", "return list(filter(None, xs))"),
    ("mapping", "doubled(xs)", "Double the numbers.", "return [2 * x for x in xs]"),
    ("mapping", "flatten(xs)", "Flatten the nested list.", "return out"),
    ("ordering", "by_size(xs)", "Sort a list by size.", "return sorted(xs, key=abs)"),
    ("ordering", "turn(xs, k)", "Rotate the list by k.", "return xs[k:] + xs[:k]"),
    ("string_building", "shout(s)", "Convert a string to capitals.", "return s.upper()"),
    ("string_building", "greet(name)", "Say hello.", 'return f"Hello {name}"'),
    ("string_queries", "vowels(s)", "Count the vowels.", "return sum(c in 'aeiou' for c in s)"),
    ("string_queries", "starts(s)", "Does the string begin with a?", "return s.startswith('a')"),
    ("dictionaries", "invert(d)", "Invert a dictionary.", "return {v: k for k, v in d.items()}"),
    ("dictionaries", "tally(xs)", "Count each item.", "return dict(Counter(xs))"),
    ("sets_tuples", "both(a, b)", "Return the intersection.", "return a & b"),
    ("sets_tuples", "firsts(ts)", "Take the first of every tuple.", "return [t[0] for t in ts]"),
    ("sets_tuples", "dups(xs)", "Does it contain duplicates?", "return len(set(xs)) < len(xs)"),
    ("recurrences", "down(n)", "Step down.", "return 0 if n == 0 else down(n - 1)"),
    ("recurrences", "fib(n)", "Return the n-th Fibonacci number.", "return a"),
    (
        "recurrences",
        "powers(n)",
        "Add up powers.",
        "while n < 9:\n        n += n\n    return n",
    ),
]

PUBLISHED = {
    "HumanEval/2": "arithmetic",
    "HumanEval/45": "arithmetic",
    "MBPP/14": "arithmetic",
    "HumanEval/31": "number_theory",
    "HumanEval/13": "number_theory",
    "MBPP/33": "number_theory",
    "HumanEval/71": "conditionals",
    "MBPP/58": "conditionals",
    "MBPP/227": "conditionals",
    "HumanEval/35": "aggregation",
    "MBPP/66": "aggregation",
    "HumanEval/30": "filtering",
    "MBPP/161": "filtering",
    "HumanEval/42": "mapping",
    "MBPP/297": "mapping",
    "HumanEval/145": "ordering",
    "MBPP/71": "ordering",
    "HumanEval/27": "string_building",
    "HumanEval/51": "string_building",
    "MBPP/102": "string_building",
    "HumanEval/48": "string_queries",
    "HumanEval/18": "string_queries",
    "MBPP/204": "string_queries",
    "HumanEval/95": "dictionaries",
    "MBPP/88": "dictionaries",
    "HumanEval/58": "sets_tuples",
    "MBPP/106": "sets_tuples",
    "HumanEval/9": "recurrences",
    "HumanEval/55": "recurrences",
    "MBPP/187": "recurrences",
}


@pytest.mark.parametrize(("category", "signature", "sentence", "body"), OWN)
def test_examples_fall_into_their_category(
    category: str, signature: str, sentence: str, body: str
) -> None:
    prompt = f'def {signature}:\n    """{sentence}"""\n'
    found = categorize(prompt, f"    {body}\n", signature.split("(")[0])
    assert CATEGORIES[found] == category


def test_published_problems_fall_into_their_category(benchmarks: Path) -> None:
    problems = load_humaneval(benchmarks) + load_mbpp(benchmarks)
    found = {p.task_id: CATEGORIES[p.category] for p in problems if p.task_id in PUBLISHED}
    assert found == PUBLISHED


def test_examples_in_the_docstring_do_not_decide() -> None:
    plain = 'def area(a, b):\n    """Area of a rectangle."""\n'
    shown = 'def area(a, b):\n    """Area of a rectangle.\n\n    >>> sort(list)\n    """\n'
    body = "    return a * b\n"
    assert categorize(plain, body, "area") == categorize(shown, body, "area") == 0


def test_a_solution_that_does_not_parse_is_sorted_by_its_words() -> None:
    found = categorize('def f(s):\n    """Count the vowels."""\n', "    return (\n", "f")
    assert CATEGORIES[found] == "string_queries"
