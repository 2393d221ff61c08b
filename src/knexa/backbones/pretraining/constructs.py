"""The kinds of functions that the corpus of the tiny backbones is made of."""

import random
from collections.abc import Callable

from knexa.backbones.pretraining.dialect import (
    FOLDS,
    GRIDS,
    KEYS,
    LETTERS,
    LISTS,
    NOUNS,
    NUMBERS,
    SIGNS,
    TABLES,
    TEXTS,
    WORD_LISTS,
    Draft,
    change_of,
    list_change,
    number,
    said,
    test_of,
    text_change,
    text_measure,
    text_test,
)


def _formula(rng: random.Random) -> Draft:
    x, y = rng.sample(NUMBERS, 2)
    if rng.random() < 0.5:
        one = change_of(x, rng)
        return (x,), said(x, [one.says], rng), f"return {one.code}"
    one, two = change_of(x, rng), change_of(y, rng)
    op, says = rng.choice((("+", "joined by"), ("-", "against"), ("*", "crossed by")))
    parts = f"{one.says} on {x} {says} {two.says} on {y}"
    return (x, y), parts, f"return ({one.code}) {op} ({two.code})"


def _branch(rng: random.Random) -> Draft:
    x, y = rng.sample(NUMBERS, 2)
    one, two, test = change_of(x, rng), change_of(x, rng), test_of(x, rng)
    yes, no = (f'"{rng.choice(NOUNS)}"' for _ in range(2))
    match rng.randrange(5):
        case 0:
            says = [f"{test.says} => {one.says}", f"rest {two.says}"]
            body = f"return {one.code} if {test.code} else {two.code}"
        case 1:
            says = [f"{test.says} => {yes}", f"rest {no}"]
            body = f"if {test.code}:\n    return {yes}\nreturn {no}"
        case 2:
            other = test_of(x, rng)
            says = [f"{test.says} => {yes}", f"{other.says} => {no}", f"rest {two.says}"]
            body = f"if {test.code}:\n    return {yes}\nreturn {no} if {other.code} else {two.code}"
        case 3:
            k = number(rng)
            says = [f"{test.says} => minus-by {k}", one.says]
            body = f"if {test.code}:\n    {x} -= {k}\nreturn {one.code}"
        case _:
            other = test_of(y, rng)
            op, word = rng.choice((("and", "together with"), ("or", "alternatively")))
            both = f"{x} {test.says} {word} {y} {other.says}"
            return (x, y), both, f"return {test.code} {op} {other.code}"
    return (x,), said(x, [s.replace('"', "'") for s in says], rng), body


def _comprehension(rng: random.Random) -> Draft:
    x = rng.choice(LISTS)
    one, test, before = change_of("v", rng), test_of("v", rng), list_change(x, rng)
    only = f"only {test.says}"
    fold, folded = rng.choice(FOLDS[:6])
    match rng.randrange(6):
        case 0:
            says, code = [only, one.says], f"[{one.code} for v in {x} if {test.code}]"
        case 1:
            says, code = [before.says, one.says], f"[{one.code} for v in {before.code}]"
        case 2:
            says, code = [before.says, only], f"[v for v in {before.code} if {test.code}]"
        case 3:
            says = [one.says, only, folded]
            code = f"{fold}({one.code} for v in {x} if {test.code})"
        case 4:
            says, code = [one.says, folded], f"{fold}({one.code} for v in {x})"
        case _:
            k = number(rng)
            fold, folded = rng.choice(FOLDS)
            says, code = [folded, f"then lift {k}"], f"{fold}({before.code}) + {k}"
            if fold in {"sorted", "list", "set"}:
                fold, folded = rng.choice((("any", "some"), ("all", "each")))
                says = [f"{folded} {test.says} via {one.says}"]
                code = f"{fold}({test.code.replace('v', '(' + one.code + ')', 1)} for v in {x})"
    return (x,), said(x, says, rng), f"return {code}"


def _ordering(rng: random.Random) -> Draft:
    x = rng.choice(LISTS)
    first = list_change(x, rng)
    k = rng.randint(1, 9)
    source = first.code if "+" not in first.code else f"({first.code})"
    endings = (
        (f"[:{k}]", f"front {k}"),
        (f"[-{k}:]", f"rear {k}"),
        (f"[{k}:]", f"skipping {k}"),
        (f"[::{k}]", f"stride {k}"),
        (f"[{k}]", f"slot {k}"),
        (f"[-{k}]", f"rear slot {k}"),
        ("[::-1]", "backwards"),
        (f".count({k})", f"hits {k}"),
        (f" + [{k}]", f"tail {k}"),
    )
    suffix, says = rng.choice(endings)
    if rng.random() < 0.3:
        second = list_change(x, rng)
        both = [first.says, f"beside {second.says}"]
        return (x,), said(x, both, rng), f"return {first.code} + {second.code}"
    return (x,), said(x, [first.says, says], rng), f"return {source}{suffix}"


def _two_lists(rng: random.Random) -> Draft:
    x, y = rng.sample(LISTS, 2)
    one, two, test = change_of("a", rng), change_of("b", rng), test_of("v", rng)
    head = rng.choice((f"{x} and {y}", f"{x} & {y}"))
    match rng.randrange(4):
        case 0:
            op, word = rng.choice((("+", "joined by"), ("-", "against"), ("*", "crossed by")))
            says = f"{one.says} {word} {two.says}"
            code = f"[({one.code}) {op} ({two.code}) for a, b in zip({x}, {y})]"
        case 1:
            says = f"couples of {one.says} beside {two.says}"
            code = f"[({one.code}, {two.code}) for a, b in zip({x}, {y})]"
        case 2:
            op, word = rng.choice((("&", "meet"), ("|", "union"), ("-", "except"), ("^", "xor")))
            k = rng.randint(0, 20)
            says, code = f"uniques {word} tail {k}", f"(set({x}) {op} set({y})) | {{{k}}}"
        case _:
            inside, word = rng.choice((("in", "shared"), ("not in", "unshared")))
            op, link = rng.choice((("and", "together with"), ("or", "alternatively")))
            says = f"{word} {link} {test.says}"
            code = f"[v for v in {x} if v {inside} {y} {op} {test.code}]"
    return (x, y), f"{head}: {says}", f"return {code}"


def _text(rng: random.Random) -> Draft:
    s = rng.choice(TEXTS)
    one, two, sign = text_change(s, rng), text_change(s, rng), rng.choice(SIGNS)
    test, other, c = text_test(s, rng), text_test(s, rng), rng.choice(LETTERS)
    measure, k = text_measure(s, rng), rng.randint(0, 9)
    op, link = rng.choice((("and", "together with"), ("or", "alternatively")))
    drafts = (
        ([one.says, f"beside {two.says}"], f"{one.code} + {two.code}"),
        ([one.says, f"glue '{sign}'", two.says], f'{one.code} + "{sign}" + {two.code}'),
        ([f"{k} copies", one.says, f"glue '{sign}'"], f'"{sign}".join([{one.code}] * {k})'),
        ([f"{test.says} {link} {other.says}"], f"{test.code} {op} {other.code}"),
        ([f"{test.says} => {one.says}", "rest as is"], f"{one.code} if {test.code} else {s}"),
        ([measure.says, f"beyond {k}"], f"{measure.code} > {k}"),
        ([measure.says, f"stretch {k}"], f"({measure.code}) * {k}"),
        (
            [f"chars unlike '{c}'", f"tail '{sign}'"],
            f'"".join(ch for ch in {s} if ch != "{c}") + "{sign}"',
        ),
        (
            [f"chars amid '{c}{sign}'", f"stretch {k}"],
            f'sum({k} for ch in {s} if ch in "{c}{sign}") * {k}',
        ),
        ([f"chars glue '{sign}'", "shout"], f'"{sign}".join({s}).upper()'),
        ([f"slot {k}", f"tail '{sign}'"], f'{s}[{k}] + "{sign}"'),
        ([f"'{sign}' fence {k}", one.says], f'"{sign}" * {k} + {one.code}'),
    )
    says, code = rng.choice(drafts)
    return (s,), said(s, says, rng), f"return {code}"


def _word_lists(rng: random.Random) -> Draft:
    x = rng.choice(WORD_LISTS) if rng.random() < 0.7 else rng.choice(TEXTS)
    source = x if x in WORD_LISTS else f"{x}.split()"
    one, test, measure = text_change("w", rng), text_test("w", rng), text_measure("w", rng)
    sign, k = rng.choice(SIGNS), rng.randint(0, 9)
    only, items = f"only {test.says}", f"for w in {source}"
    some = f"{items} if {test.code}"
    drafts = (
        ([one.says, only], f"[{one.code} {some}]"),
        ([measure.says, only], f"[{measure.code} {some}]"),
        ([measure.says, "added up"], f"sum({measure.code} {items})"),
        ([measure.says, only, "added up"], f"sum({measure.code} {some})"),
        ([one.says, f"glue '{sign}'"], f'"{sign}".join({one.code} {items})'),
        ([only, f"glue '{sign}'"], f'"{sign}".join(w {some})'),
        ([only, f"arranged front {k}"], f"sorted(w {some})[:{k}]"),
        ([f"lookup {measure.says}", only], f"{{w: {measure.code} {some}}}"),
        ([f"lookup {one.says}"], f"{{w: {one.code} {items}}}"),
        (
            [f"lookup slots up {k}", only],
            f"{{w: i + {k} for i, w in enumerate({source}) if {test.code}}}",
        ),
        ([f"couples up {k}", one.says], f"[(i, {one.code}) for i, w in enumerate({source}, {k})]"),
    )
    says, code = rng.choice(drafts)
    return (x,), said(x, says, rng), f"return {code}"


def _tables(rng: random.Random) -> Draft:
    d, q, x = rng.choice(TABLES), rng.choice(KEYS), rng.choice(LISTS)
    one, test, name = change_of("b", rng), test_of("b", rng), text_test("a", rng)
    k, key = number(rng), change_of("v", rng)
    fold, folded = rng.choice(FOLDS[:4])
    items = f"for a, b in {d}.items()"
    match rng.randrange(8):
        case 0:
            body = f"b = {d}.get({q}, {k})\nreturn {one.code}"
            return (d, q), f"{d} at {q}, absent {k}, {one.says}", body
        case 1:
            body = f"    out.setdefault({key.code}, []).append(v + {k})"
            body = f"out = {{}}\nfor v in {x}:\n{body}\nreturn out"
            return (x,), said(x, [f"bins via {key.says}"], rng), body
        case 2:
            body = f"    out[{key.code}] = out.get({key.code}, 0) + {k}"
            body = f"out = {{}}\nfor v in {x}:\n{body}\nreturn out"
            return (x,), said(x, [f"ledger via {key.says} up {k}"], rng), body
        case 3:
            says = [one.says, f"only {test.says}"]
            code = f"{{a: {one.code} {items} if {test.code}}}"
        case 4:
            says = [f"only {name.says}", one.says]
            code = f"{{a: {one.code} {items} if {name.code}}}"
        case 5:
            says = [one.says, f"only {name.says}", folded]
            code = f"{fold}({one.code} {items} if {name.code})"
        case 6:
            says = [f"keys only {test.says}", folded]
            code = f"{fold}([a {items} if {test.code}])"
            if fold == "sum":
                says, code = ["flipped", one.says], f"{{{one.code}: a {items}}}"
        case _:
            says, code = [f"couples via {one.says}"], f"[(a, {one.code}) {items}]"
    return (d,), said(d, says, rng), f"return {code}"


def _tuples(rng: random.Random) -> Draft:
    x, n = rng.choice(LISTS), rng.choice(NUMBERS)
    one, two, test = change_of("v", rng), change_of("v", rng), test_of("v", rng)
    first, second = list_change(x, rng), list_change(x, rng)
    a, b = change_of(n, rng), change_of(n, rng)
    k, m = number(rng), number(rng)
    op, word = rng.choice((("|", "union"), ("-", "except"), ("&", "meet")))
    match rng.randrange(6):
        case 0:
            says = [f"couple {a.says} beside {b.says}"]
            return (n,), said(n, says, rng), f"return ({a.code}, {b.code})"
        case 1:
            says = [f"couple {first.says} beside {second.says}"]
            code = f"({first.code}, {second.code})"
        case 2:
            says = [f"couples {one.says} beside {two.says}"]
            code = f"[({one.code}, {two.code}) for v in {x}]"
        case 3:
            says = [f"uniques {one.says}", f"only {test.says}"]
            code = f"{{{one.code} for v in {x} if {test.code}}}"
        case 4:
            says = [f"uniques {one.says}", "tally"]
            code = f"len({{{one.code} for v in {x}}}) + {k}"
        case _:
            says = [f"uniques {word} {k} {m}", "arranged"]
            code = f"sorted(set({x}) {op} {{{k}, {m}}})"
    return (x,), said(x, says, rng), f"return {code}"


def _loops(rng: random.Random) -> Draft:
    x, n = rng.choice(LISTS), rng.choice(NUMBERS)
    step, k, m = change_of("out", rng), number(rng), rng.randint(2, 9)
    one, test, down = change_of("v", rng), test_of("v", rng), change_of(n, rng)
    case = rng.randrange(9)
    match case:
        case 0:
            op, word = rng.choice((("+", "gathers"), ("*", "piles"), ("-", "sheds")))
            says = [f"from {k} {word} {one.says}"]
            body = f"out = {k}\nfor v in {x}:\n    out {op}= {one.code}\nreturn out"
        case 1:
            says = [f"from {k} gathers {one.says}", f"only {test.says}"]
            body = f"    if {test.code}:\n        out += {one.code}"
            body = f"out = {k}\nfor v in {x}:\n{body}\nreturn out"
        case 2:
            says = [f"trail from {k} gathers {one.says}"]
            body = f"out = [{k}]\nfor v in {x}:\n    out.append(out[-1] + {one.code})\nreturn out"
        case 3:
            says = [f"from {k} rounds {step.says}"]
            body = f"out = {k}\nfor _ in range({n}):\n    out = {step.code}\nreturn out"
        case 4:
            says = [f"twins {k} {m} rounds with {m}"]
            body = f"a, b = {k}, {m}\nfor _ in range({n}):\n    a, b = b, a + {m} * b\nreturn a"
        case 5:
            says = [f"ticks while beyond {k}", f"shrink {m}", f"by {k}"]
            body = f"out = {k}\nwhile {n} > {k}:\n    {n} //= {m}\n    out += 1\nreturn out"
        case 6:
            says = [f"while fitting {m} shrink {m}", f"then {down.says}"]
            body = f"while {n} % {m} == 0:\n    {n} //= {m}\nreturn {down.code}"
        case 7:
            says = [f"calls itself, base {k}, {down.says}, back {m}"]
            body = f"return {k} if {n} <= {m} else {down.code} + THIS({n} - {m})"
        case _:
            says = [f"trail while positive residue {m} shrink {m}"]
            body = f"out = []\nwhile {n}:\n    out.append({n} % {m})\n    {n} //= {m}\nreturn out"
    argument = x if case < 3 else n
    return (argument,), said(argument, says, rng), body


def _numbers(rng: random.Random) -> Draft:
    n, o = rng.sample(NUMBERS, 2)
    k, m = rng.randint(0, 9), rng.randint(2, 9)
    one, test, shift = change_of("d", rng), test_of("d", rng), change_of(n, rng)
    fold, folded = rng.choice(FOLDS[:4])
    match rng.randrange(7):
        case 0:
            says = [f"digits {one.says}", folded]
            code = f"{fold}({one.code.replace('d', 'int(d)', 1)} for d in str({n}))"
        case 1:
            says, code = [f"digits hits {k}", f"lift {m}"], f'str({n}).count("{k}") + {m}'
        case 2:
            says = [f"span {k} fitting it", one.says]
            code = f"[{one.code} for d in range({k}, {n}) if {n} % d == 0]"
        case 3:
            says = [f"span {k}", one.says, f"only {test.says}"]
            code = f"{fold}([{one.code} for d in range({k}, {n} + {m}) if {test.code}])"
            says.append(folded)
        case 4:
            says = [f"{shift.says} span {k} unfitting each"]
            code = f"all(({shift.code}) % d for d in range({k}, {n}))"
        case 5:
            says, code = [f"span {k} stride {m}", folded], f"{fold}(range({k}, {n}, {m}))"
        case _:
            body = f"while {o}:\n    {n}, {o} = {o}, {n} % {o}\nreturn {shift.code}"
            return (n, o), f"euclid {n} {o}, {shift.says}", body
    return (n,), said(n, says, rng), f"return {code}"


def _grids(rng: random.Random) -> Draft:
    g, _ = rng.choice(GRIDS), rng.choice(NUMBERS)
    one, test, k = change_of("v", rng), test_of("v", rng), rng.randint(0, 9)
    cell, m = change_of(f"row[{k}]", rng), rng.randint(0, 9)
    fold, folded = rng.choice(FOLDS[:3])
    drafts = (
        (
            ["cells " + one.says, f"only {test.says}"],
            f"[[{one.code} for v in row if {test.code}] for row in {g}]",
        ),
        (
            ["cells " + one.says, f"rows {folded}"],
            f"[{fold}({one.code} for v in row) for row in {g}]",
        ),
        ([f"slot {k} {cell.says}", folded], f"{fold}({cell.code} for row in {g})"),
        ([f"slot {k} beside slot {m}"], f"[(row[{k}], row[{m}]) for row in {g}]"),
        (["cells flattened", one.says], f"[{one.code} for row in {g} for v in row]"),
        ([f"rows stretch {k} tail {m}"], f"[row * {k} + [{m}] for row in {g}]"),
        (["slots by " + one.says], f"[i * ({one.code}) for i, v in enumerate({g}[{k}])]"),
    )
    says, code = rng.choice(drafts)
    return (g,), said(g, says, rng), f"return {code}"


_WEIGHTED: tuple[tuple[Callable[[random.Random], Draft], int], ...] = (
    (_formula, 4),
    (_branch, 6),
    (_comprehension, 8),
    (_ordering, 5),
    (_two_lists, 3),
    (_text, 7),
    (_word_lists, 7),
    (_tables, 6),
    (_tuples, 5),
    (_loops, 7),
    (_numbers, 5),
    (_grids, 3),
)
CONSTRUCTS = [construct for construct, _ in _WEIGHTED]
WEIGHTS = [weight for _, weight in _WEIGHTED]
