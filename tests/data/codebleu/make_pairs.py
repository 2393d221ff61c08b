"""Makes pairs.jsonl.gz: (candidate, reference) pairs with the scores of the PyPI package.

The stored scores are those of codebleu 0.7.0 with tree-sitter 0.26.1 and tree-sitter-python 0.25.0
on Python 3.11, lang="python", equal weights. The package is installed beside the environment, not
into it, because its own pin on tree-sitter is older:

    pip install --target DIR --no-deps codebleu==0.7.0
    python tests/data/codebleu/make_pairs.py DIR

Some of the package's results depend on PYTHONHASHSEED (it orders the sources of a data flow by a
set of strings); a pair is kept only if ``HASH_SEEDS`` agree. Snippets are templates of this file,
changed by seeded mutations; no benchmark's text is in them.
"""

import gzip
import json
import os
import random
import subprocess
import sys
import tokenize
from io import StringIO
from pathlib import Path

HASH_SEEDS = ("0", "1", "2", "3", "4", "5", "6", "7")
OUTPUT = Path(__file__).with_name("pairs.jsonl.gz")

SOURCES = '''def add(a, b):
    return a + b
#---
def total(values):
    result = 0
    for value in values:
        result += value
    return result
#---
def mean(values):
    """Average of values."""
    if not values:
        return 0.0
    return sum(values) / len(values)
#---
def evens(values):
    return [v for v in values if v % 2 == 0]
#---
def pairs(xs, ys):
    return {x: y for x, y in zip(xs, ys)}
#---
def clamp(x, low=0, high=10):
    if x < low:
        return low
    elif x > high:
        return high
    else:
        return x
#---
def gcd(a, b):
    while b:
        a, b = b, a % b
    return a
#---
def fib(n):
    first, second = 0, 1
    for _ in range(n):
        first, second = second, first + second
    return first
#---
def is_prime(n):
    if n < 2:
        return False
    i = 2
    while i * i <= n:
        if n % i == 0:
            return False
        i += 1
    return True
#---
def count_words(text):
    counts = {}
    for word in text.split():
        counts[word] = counts.get(word, 0) + 1
    return counts
#---
def longest(words):
    best = ''
    for index, word in enumerate(words):
        if len(word) > len(best):
            best = word
    return best
#---
import math

def hypotenuse(a, b):
    # both legs
    return math.sqrt(a ** 2 + b ** 2)
#---
class Stack:
    def __init__(self):
        self.items = []

    def push(self, item):
        self.items.append(item)

    def pop(self):
        return self.items.pop()
#---
def transpose(rows):
    return [list(row) for row in zip(*rows)]
#---
def safe_div(a, b):
    try:
        return a / b
    except ZeroDivisionError as error:
        print(error)
        return None
    finally:
        pass
#---
def apply(f, *args, **kwargs):
    return f(*args, **kwargs)
#---
def compose(f, g):
    return lambda x: f(g(x))
#---
def flatten(nested):
    flat = []
    for part in nested:
        for item in part:
            flat.append(item)
    return flat
#---
def digits(n):
    out = []
    while n > 0:
        out.append(n % 10)
        n //= 10
    return out[::-1]
#---
def greet(name: str, title: str = 'Dr') -> str:
    return 'Hello ' + title + ' ' + name
#---
def read(path):
    with open(path) as handle:
        lines = handle.readlines()
    return [line.strip() for line in lines]
#---
def squares(n):
    for i in range(n):
        yield i * i
#---
def kind(x):
    match x:
        case 0:
            return 'zero'
        case [first, *rest]:
            return first
        case _:
            return None
#---
def search(values, target):
    low, high = 0, len(values) - 1
    while low <= high:
        mid = (low + high) // 2
        if values[mid] == target:
            return mid
        if values[mid] < target:
            low = mid + 1
        else:
            high = mid - 1
    return -1
#---
async def fetch(client, url):
    response = await client.get(url)
    return response.json()
#---
def bump(x: int):
    y: int
    y = x if x > 0 else -x
    assert y >= 0, 'negative'
    del x
    return y
#---
def first_big(values, limit=5):
    return next((v for v in values if v > limit), None)
#---
def walrus(data):
    if (n := len(data)) > 3:
        return n
    return -1
#---
pass
#---
x = 1
y = x
x = y + x
print(x, y)
#---
global_count = 0

def tick():
    global global_count
    global_count = global_count + 1
    return global_count
#---
    total = 0
    for v in values:
        total += v
    return total
#---
def merge(a, b):
    i = j = 0
    out = []
    while i < len(a) and j < len(b):
        if a[i] <= b[j]:
            out.append(a[i]); i += 1
        else:
            out.append(b[j]); j += 1
    return out + a[i:] + b[j:]
'''
SNIPPETS = SOURCES.split("#---\n")
NAMES = [
    "a",
    "b",
    "values",
    "value",
    "result",
    "x",
    "n",
    "i",
    "word",
    "out",
    "item",
    "best",
    "text",
]
TOKENS = [
    "+",
    "-",
    "(",
    ")",
    ":",
    "=",
    "if",
    "else",
    "for",
    "return",
    "[",
    "'",
    "\n",
    "    ",
    "0",
    ",",
]


def mutate(text: str, rng: random.Random) -> str:
    kind = rng.randrange(12)
    lines = text.split("\n")
    spot = rng.randrange(len(lines))
    if kind == 0:
        return text[: rng.randrange(len(text) + 1)]
    if kind == 1:
        return "\n".join(lines[:spot] + lines[spot + 1 :])
    if kind == 2:
        return "\n".join([*lines[:spot], lines[spot], *lines[spot:]])
    if kind == 3:
        return text.replace(rng.choice(NAMES), rng.choice(NAMES))
    if kind == 4:
        at = rng.randrange(len(text) + 1)
        return text[:at] + rng.choice(TOKENS) + text[at:]
    if kind == 5:
        at = rng.randrange(len(text) + 1)
        return text[:at] + text[at + 1 :]
    if kind == 6:
        return "\n".join([*lines[:spot], "    # note " + str(spot), *lines[spot:]])
    if kind == 7:
        other = rng.choice(SNIPPETS).split("\n")
        return "\n".join([*lines[:spot], rng.choice(other), *lines[spot:]])
    if kind == 8:
        return text.replace("==", "!=").replace("+", "*").replace("<", ">")
    if kind == 9:
        return "\n".join("    " + line for line in lines)
    if kind == 10:
        rng.shuffle(lines)
        return "\n".join(lines)
    return text + "\n" + rng.choice(SNIPPETS)


def make_pairs(num: int, seed: int) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    pairs = [("", snippet) for snippet in SNIPPETS] + [(snippet, "") for snippet in SNIPPETS[:5]]
    pairs += [("", ""), ("\n \n", "x"), ("((((", "def f(:\n"), ("(" * 60 + ")" * 60, "x = (1)")]
    while len(pairs) < num:
        reference = rng.choice(SNIPPETS)
        candidate = reference if rng.random() < 0.6 else rng.choice(SNIPPETS)
        for _ in range(rng.randrange(4)):
            candidate = mutate(candidate, rng) or "\n"
        if rng.random() < 0.1:
            reference = mutate(reference, rng)
        pairs.append((candidate, reference))
    return pairs


def tokenizes(text: str) -> bool:
    try:
        kinds = [token.type for token in tokenize.generate_tokens(StringIO(text).readline)]
    except (tokenize.TokenError, SyntaxError):
        return False
    return tokenize.ERRORTOKEN not in kinds


def score_stdin(package: str) -> None:
    sys.path.insert(0, package)
    from codebleu import calc_codebleu

    for line in sys.stdin:
        candidate, reference = json.loads(line)
        print(json.dumps(calc_codebleu([reference], [candidate], lang="python")))


def main(package: str) -> None:
    pairs = make_pairs(900, seed=20)
    text = "".join(json.dumps(pair) + "\n" for pair in pairs)
    runs = []
    for hash_seed in HASH_SEEDS:
        done = subprocess.run(
            [sys.executable, __file__, package, "--score"],
            input=text,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        runs.append([json.loads(line) for line in done.stdout.splitlines()])
    rows = []
    for index, (candidate, reference) in enumerate(pairs):
        scores = [run[index] for run in runs]
        if all(each == scores[0] for each in scores):
            clean = tokenizes(candidate.strip()) and tokenizes(reference.strip())
            row = {"candidate": candidate, "reference": reference, "tokenizes": clean, **scores[0]}
            rows.append(json.dumps(row))
    with OUTPUT.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        file.write(("\n".join(rows) + "\n").encode())
    print(f"kept {len(rows)} of {len(pairs)} pairs, {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    if "--score" in sys.argv:
        score_stdin(sys.argv[1])
    else:
        main(sys.argv[1])
