"""Short functions of the corpus, each written once with placeholders and described tersely.

They cover single constructs; ``constructs`` composes longer functions. The descriptions are in the
corpus' dialect, which shares no phrase with the benchmark.
"""

import random
import string
from typing import NamedTuple

from knexa.backbones.pretraining import dialect
from knexa.backbones.pretraining.dialect import Draft, number, said

_ARGUMENTS = {
    "L": dialect.LISTS,
    "W": dialect.WORD_LISTS,
    "T": dialect.TEXTS,
    "N": dialect.NUMBERS,
    "D": dialect.TABLES,
    "Q": dialect.KEYS,
    "G": dialect.GRIDS,
}

_CHOICES: dict[str, tuple[tuple[str, str], ...]] = {
    "cmp": ((">", "beyond"), ("<", "short of"), (">=", "reaching"), ("<=", "capped")),
    "op": (("+", "lift"), ("-", "sink"), ("*", "stretch")),
    "pm": (("+", "lift"), ("-", "sink")),
    "side": (("", "fore"), ("-", "aft")),
    "peak": (("max", "peak"), ("min", "trough")),
    "quant": (("any", "some"), ("all", "each")),
    "edge": (("startswith", "opening"), ("endswith", "closing")),
    "spot": (("find", "fore"), ("rfind", "aft")),
    "just": (("rjust", "west"), ("ljust", "east")),
    "case": (("upper", "shout"), ("title", "headline"), ("lower", "whisper")),
    "link": (("and", "jointly"), ("or", "alternatively")),
    "join": (("|", "union"), ("-", "except"), ("&", "meet")),
}


class Sketch(NamedTuple):
    """Kinds of the arguments (named x, y in the text), description, unindented body."""

    args: str
    says: str
    body: str


SKETCHES: tuple[Sketch, ...] = (
    Sketch("N", "stretch $k, lift $m", "return $x * $k + $m"),
    Sketch("N", "stretch $k, sink $m", "return $x * $k - $m"),
    Sketch("N", "exponent $i, $pm $k", "return $x ** $i $pm_ $k"),
    Sketch("NN", "mixture $k $m", "return $k * $x + $m * $y"),
    Sketch("N", "stretch $k, shrink $m1", "return $x * $k // $m1"),
    Sketch("N", "permille $k", "return $x * $k // 100"),
    Sketch("NN", "apart, stretch $k", "return abs($x - $y) * $k"),
    Sketch("NN", "pooled, shrink $b", "return ($x + $y) // $b"),
    Sketch("NN", "chain 3600 60 lift $k", "return $x * 3600 + $y * 60 + $k"),
    Sketch("N", "$pm $k, residue $b", "return ($x $pm_ $k) % $b"),
    Sketch("N", "off $b by $i", "return $x % $b == $i"),
    Sketch("N", "numerals hitting $i", 'return str($x).count("$i")'),
    Sketch("N", "span $i fitting it", "return [d for d in range($i, $x + 1) if $x % d == 0]"),
    Sketch(
        "N",
        "radix $b",
        'out = ""\nwhile $x:\n    out = str($x % $b) + out\n    $x //= $b\nreturn out',
    ),
    Sketch("NN", "euclid, stretch $k", "while $y:\n    $x, $y = $y, $x % $y\nreturn $x * $k"),
    Sketch("N", "span stride $b", "return list(range($b, $x + 1, $b))"),
    Sketch("N", "lift $i unfit", "return all(($x + $i) % d for d in range(2, $x + $i))"),
    Sketch("N", "peel $b", "while $x % $b == 0:\n    $x //= $b\nreturn $x"),
    Sketch("N", "fence $k .. $m", "return max($k, min($m, $x))"),
    Sketch("N", "$cmp $m => $k, rest 0", "return $k if $x $cmp_ $m else 0"),
    Sketch("N", "inside $k .. $m open", "return $k <= $x < $m"),
    Sketch("N", "$cmp $k => '$w', rest '$v'", 'return "$w" if $x $cmp_ $k else "$v"'),
    Sketch("N", "$cmp $k => $pm $m", "if $x $cmp_ $k:\n    $x $pm_= $m\nreturn $x"),
    Sketch(
        "N",
        "'$w' short of $k, '$v' beyond $m, rest '$u'",
        'if $x < $k:\n    return "$w"\nreturn "$v" if $x > $m else "$u"',
    ),
    Sketch(
        "N", "fitting $b => shrink, rest lift $m", "return $x // $b if $x % $b == 0 else $x + $m"
    ),
    Sketch("NN", "$link $cmp $k", "return $x $cmp_ $k $link_ $y $cmp_ $k"),
    Sketch("L", "only $cmp $k, pooled", "return sum(v for v in $x if v $cmp_ $k)"),
    Sketch("L", "tally fitting $b", "return sum(1 for v in $x if v % $b == 0)"),
    Sketch("L", "$peak, $pm $k", "return $peak_($x) $pm_ $k"),
    Sketch("L", "piled onto $k", "out = $k\nfor v in $x:\n    out *= v\nreturn out"),
    Sketch("L", "exponent $i pooled, lift $k", "return sum(v ** $i for v in $x) + $k"),
    Sketch("L", "hits of $k", "return $x.count($k)"),
    Sketch("L", "peak to trough, stretch $k", "return (max($x) - min($x)) * $k"),
    Sketch("L", "$quant $cmp $k", "return $quant_(v $cmp_ $k for v in $x)"),
    Sketch("L", "only $cmp $k", "return [v for v in $x if v $cmp_ $k]"),
    Sketch("L", "only unfitting $b", "return [v for v in $x if v % $b != 0]"),
    Sketch("L", "only fitting $b", "return [v for v in $x if v % $b == 0]"),
    Sketch("L", "only unlike $k", "return [v for v in $x if v != $k]"),
    Sketch("L", "fore $i", "return $x[:$i]"),
    Sketch("L", "aft $i", "return $x[-$i:]"),
    Sketch("L", "only inside $k .. $m", "return [v for v in $x if $k <= v <= $m]"),
    Sketch("W", "only size $cmp $i", "return [w for w in $x if len(w) $cmp_ $i]"),
    Sketch("W", "only $edge '$c'", 'return [w for w in $x if w.$edge_("$c")]'),
    Sketch("L", "skipping $i stride $b", "return $x[$i::$b]"),
    Sketch("L", "all $op $k", "return [v $op_ $k for v in $x]"),
    Sketch("L", "all $peak $k", "return [$peak_(v, $k) for v in $x]"),
    Sketch("L", "all residue $b", "return [v % $b for v in $x]"),
    Sketch("L", "all by slot, lift $k", "return [i * v + $k for i, v in enumerate($x)]"),
    Sketch("W", "all stutter $i '$s'", 'return [w * $i + "$s" for w in $x]'),
    Sketch("W", "all head '$s'", 'return ["$s" + w for w in $x]'),
    Sketch("W", "all tail '$s'", 'return [w + "$s" for w in $x]'),
    Sketch("L", "swap $k => $m", "return [$m if v == $k else v for v in $x]"),
    Sketch("LL", "lined up, stretch $k", "return [a + $k * b for a, b in zip($x, $y)]"),
    Sketch("L", "arranged down fore $i", "return sorted($x, reverse=True)[:$i]"),
    Sketch("L", "arranged fore $i", "return sorted($x)[:$i]"),
    Sketch("L", "revolved $side $i", "return $x[$side_$i:] + $x[:$side_$i]"),
    Sketch("L", "arranged via residue $b", "return sorted($x, key=lambda v: v % $b)"),
    Sketch("L", "arranged via apart $k", "return sorted($x, key=lambda v: abs(v - $k))"),
    Sketch("L", "nil tail, arranged slot $side $i", "return sorted($x + [0])[$side_$i]"),
    Sketch("L", "backwards fore $i", "return $x[:$i][::-1] + $x[$i:]"),
    Sketch("L", "backwards $i .. $b", "return $x[:$i] + $x[$i:$b + $i][::-1] + $x[$b + $i:]"),
    Sketch("L", "sinking $k", "return [v for v in $x if v != $k] + [v for v in $x if v == $k]"),
    Sketch("T", "copies $i glue '$s'", 'return "$s".join([$x] * $i)'),
    Sketch("T", "pack $just $k '$s'", 'return $x.$just_($k, "$s")'),
    Sketch("T", "fore $i tail '$s'", 'return $x[:$i] + "$s"'),
    Sketch("T", "swap '$c' => '$d'", 'return $x.replace("$c", "$d")'),
    Sketch("T", "fence '$s' $i", 'return "$s" * $i + $x + "$s" * $i'),
    Sketch("W", "$case glue '$s'", 'return "$s".join(w.$case_() for w in $x)'),
    Sketch("T", "chars unlike '$c'", 'return "".join(ch for ch in $x if ch != "$c")'),
    Sketch("T", "wedge '$s' $i", 'return $x[:$i] + "$s" + $x[$i:]'),
    Sketch("T", "hits of '$c'", 'return $x.count("$c")'),
    Sketch("T", "$edge '$c'", 'return $x.$edge_("$c")'),
    Sketch("T", "spot $spot '$c'", 'return $x.$spot_("$c")'),
    Sketch("T", "size $cmp $k", "return len($x) $cmp_ $k"),
    Sketch("T", "tally size $cmp $i", "return sum(1 for w in $x.split() if len(w) $cmp_ $i)"),
    Sketch("T", "slot $side $i", "return $x[$side_$i]"),
    Sketch("T", "holding '$c' $link '$d'", 'return "$c" in $x $link_ "$d" in $x'),
    Sketch("T", "chars amid '$c$d' pay $i", 'return sum($i for ch in $x if ch in "$c$d")'),
    Sketch("D", "only worth $cmp $k", "return {a: b for a, b in $x.items() if b $cmp_ $k}"),
    Sketch("D", "worth $op $k", "return {a: b $op_ $k for a, b in $x.items()}"),
    Sketch("W", "lookup hits of '$c'", 'return {w: w.count("$c") for w in $x}'),
    Sketch("DQ", "seek, absent $k", "return $x.get($y, $k)"),
    Sketch(
        "D", "pooled worth $edge '$c'", 'return sum(b for a, b in $x.items() if a.$edge_("$c"))'
    ),
    Sketch(
        "L",
        "bins via residue $b",
        "out = {}\nfor v in $x:\n    out.setdefault(v % $b, []).append(v)\nreturn out",
    ),
    Sketch("D", "handles worth $cmp $k", "return [a for a, b in $x.items() if b $cmp_ $k]"),
    Sketch("W", "lookup slots up $k", "return {w: i for i, w in enumerate($x, $k)}"),
    Sketch("L", "uniques residue $b", "return {v % $b for v in $x}"),
    Sketch("N", "couple shrink residue $b", "return ($x // $b, $x % $b)"),
    Sketch("LL", "uniques lent $cmp $k", "return {v for v in $x if v in $y or v $cmp_ $k}"),
    Sketch("L", "tally uniques $cmp $k", "return len({v for v in $x if v $cmp_ $k})"),
    Sketch("L", "couples $op $k", "return [(v, v $op_ $k) for v in $x]"),
    Sketch("L", "uniques $join $k $m", "return set($x) $join_ {$k, $m}"),
    Sketch("L", "couple cleft $side $i", "return ($x[:$side_$i], $x[$side_$i:])"),
    Sketch("L", "trough peak slack $k", "return (min($x) - $k, max($x) + $k)"),
    Sketch(
        "L", "trail from $k", "out = [$k]\nfor v in $x:\n    out.append(out[-1] + v)\nreturn out"
    ),
    Sketch("N", "twins $k $m", "a, b = $k, $m\nfor _ in range($x):\n    a, b = b, a + b\nreturn a"),
    Sketch(
        "N",
        "rounds from $k stretch $m lift 1",
        "out = $k\nfor _ in range($x):\n    out = out * $m + 1\nreturn out",
    ),
    Sketch(
        "N",
        "ticks shrink $b beyond $k",
        "out = 0\nwhile $x > $k:\n    $x //= $b\n    out += 1\nreturn out",
    ),
    Sketch("N", "calls itself, floor $k", "return $k if $x <= 0 else $x + THIS($x - 1)"),
    Sketch("G", "cells $op $k", "return [[v $op_ $k for v in row] for row in $x]"),
    Sketch("G", "slot $i stretch $k", "return [row[$i] * $k for row in $x]"),
    Sketch("L", "nested $k", "out = 0\nfor v in $x:\n    out = out * $k + v\nreturn out"),
)


def draw_sketch(rng: random.Random) -> Draft:
    """Fill in one sketch: argument names, constants, operators, order of the description."""
    sketch = rng.choice(SKETCHES)
    arguments: list[str] = []
    for kind in sketch.args:
        # A body of its own locals: no argument may be called as one of them.
        free = [n for n in _ARGUMENTS[kind] if n not in arguments and n not in {"a", "b", "d"}]
        arguments.append(rng.choice(free))
    values: dict[str, object] = {name: number(rng) for name in ("k", "m")}
    values |= dict(zip(("x", "y"), arguments, strict=False))
    values |= dict(zip("wvu", rng.sample(dialect.NOUNS, 3), strict=True))
    values |= dict(zip("cd", rng.sample(dialect.LETTERS, 2), strict=True))
    values |= {"i": rng.randint(0, 9), "b": rng.randint(2, 12), "m1": rng.randint(10, 99)}
    values["s"] = rng.choice(dialect.SIGNS)
    code: dict[str, object] = {}
    for name, options in _CHOICES.items():
        symbol, word = rng.choice(options)
        values[name], code[name] = word, symbol
    body = sketch.body
    for name, operator in code.items():
        body = body.replace(f"${name}_", str(operator))
    says = string.Template(sketch.says).substitute(values)
    body = string.Template(body).substitute(values)
    return tuple(arguments), said(", ".join(arguments), [says], rng), body
