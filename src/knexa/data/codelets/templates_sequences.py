"""Templates about lists: aggregation, filtering, mapping, ordering."""

from knexa.data.codelets.template import Template, Word, template

_K = (2, 3, 4, 5, 6, 7, 8, 9)
_COMPARE = (
    Word(">", "greater than"),
    Word("<", "less than"),
    Word(">=", "at least"),
    Word("<=", "at most"),
)
_LETTERS = tuple("abcelmstw")
_RANGES = tuple((k, m) for k in (1, 2, 3, 5) for m in (8, 10, 12, 15))

AGGREGATION: tuple[Template, ...] = (
    template(
        "sum_compared(x:ints)",
        "sum_some total_if add_some",
        {"op": _COMPARE, "k": _K},
        "return sum(v for v in $x if v $op $k)",
        "the sum of all $x that are $op $k",
        "the total of the entries of $x that are $op $k",
    ),
    template(
        "count_divisible(x:ints)",
        "count_div how_many num_mult",
        {"k": _K},
        "return sum(1 for v in $x if v % $k == 0)",
        "how many entries of $x are divisible by $k",
        "the count of $x divisible by $k",
    ),
    template(
        "extreme_offset(x:ints)",
        "extreme top_plus edge",
        {"f": (Word("max", "largest"), Word("min", "smallest")), "k": _K},
        "return $f($x) + $k",
        "the $f entry of $x plus $k",
        "the $f of $x increased by $k",
    ),
    template(
        "scaled_product(x:ints)",
        "product multiply_all prod",
        {"k": _K},
        "out = $k\nfor v in $x:\n    out *= v\nreturn out",
        "the product of $x times $k",
        "$k times the product of all $x",
    ),
    template(
        "sum_of_powers(x:ints)",
        "power_sum sum_pow energy",
        {"k": (2, 3, 4, 5), "m": (1, 2, 5)},
        "return sum(v ** $k for v in $x) + $m",
        "the sum of $x raised to the power $k plus $m",
        "the sum of each of $x to the power $k plus $m",
    ),
    template(
        "count_equal(x:ints)",
        "occurrences count_of freq",
        {"k": (1, 2, 3, 4, 5, 6, 7, 8, 9)},
        "return $x.count($k)",
        "how many times $k occurs in $x",
        "the number of times $k appears in $x",
    ),
    template(
        "scaled_spread(x:ints)",
        "spread width_of extent",
        {"k": _K},
        "return (max($x) - min($x)) * $k",
        "the spread of $x times $k",
        "$k times the spread between the largest and smallest of $x",
    ),
    template(
        "any_all(x:ints)",
        "test_all verify check_values",
        {"f": (Word("any", "any"), Word("all", "every")), "k": (1, 2, 3, 5, 8, 10, 12, 15)},
        "return $f(v > $k for v in $x)",
        "whether $f entry of $x is greater than $k",
        "True if $f entry of $x is above $k",
    ),
)

FILTERING: tuple[Template, ...] = (
    template(
        "keep_compared(x:ints)",
        "keep_some select pick",
        {"op": _COMPARE, "k": _K},
        "return [v for v in $x if v $op $k]",
        "the entries of $x that are $op $k",
        "a list of those $x that are $op $k",
    ),
    template(
        "drop_divisible(x:ints)",
        "drop_mult without reject",
        {"k": _K},
        "return [v for v in $x if v % $k != 0]",
        "the entries of $x not divisible by $k",
        "$x without the entries divisible by $k",
    ),
    template(
        "remove_value(x:ints)",
        "remove exclude discard",
        {"k": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)},
        "return [v for v in $x if v != $k]",
        "$x with every $k removed",
        "$x after removing each $k",
    ),
    template(
        "head_tail(x:ints)",
        "ends cut_list part",
        {
            "s k": tuple((Word(f":{k}", "first"), k) for k in (1, 2, 3, 4, 5))
            + tuple((Word(f"-{k}:", "last"), k) for k in (1, 2, 3, 4, 5))
        },
        "return $x[$s]",
        "the $s $k entries of $x",
        "$x reduced to its $s $k entries",
    ),
    template(
        "keep_between(x:ints)",
        "between band_pass inside",
        {"k m": _RANGES},
        "return [v for v in $x if $k <= v <= $m]",
        "the entries of $x between $k and $m",
        "those of $x that lie between $k and $m",
    ),
    template(
        "words_by_length(x:words)",
        "by_length long_words fit",
        {"op": (Word(">", "more than"), Word("<", "fewer than")), "k": (3, 4, 5, 6)},
        "return [w for w in $x if len(w) $op $k]",
        "the words of $x with $op $k letters",
        "every word in $x that has $op $k letters",
    ),
    template(
        "words_by_edge(x:words)",
        "by_edge match_words named",
        {"f": (Word("startswith", "start"), Word("endswith", "end")), "c": _LETTERS},
        'return [w for w in $x if w.$f("$c")]',
        "the words of $x that $f with '$c'",
        "every word in $x that has '$c' at its $f",
    ),
    template(
        "every_nth(x:ints)",
        "every_nth sample thin",
        {"i": (0, 1, 2), "k": (2, 3, 4)},
        "return $x[$i::$k]",
        "each entry of $x from index $i on in steps of $k",
        "$x thinned to steps of $k from index $i",
    ),
)

MAPPING: tuple[Template, ...] = (
    template(
        "shift_scale(x:ints)",
        "apply change_all update",
        {"op": (Word("+", "increased"), Word("-", "decreased"), Word("*", "multiplied")), "k": _K},
        "return [v $op $k for v in $x]",
        "$x with each entry $op by $k",
        "the list of all $x $op by $k",
    ),
    template(
        "cap_each(x:ints)",
        "cap limit_all trim",
        {"f": (Word("min", "most"), Word("max", "least")), "k": _K},
        "return [$f(v, $k) for v in $x]",
        "$x with each entry made at $f $k",
        "all $x bounded to at $f $k",
    ),
    template(
        "remainders(x:ints)",
        "remainders mod_all residues",
        {"k": (2, 3, 4, 5, 6, 7, 8, 9, 10)},
        "return [v % $k for v in $x]",
        "the remainders of $x after division by $k",
        "the remainder of each of $x modulo $k",
    ),
    template(
        "by_position(x:ints)",
        "by_position weigh ranked",
        {"k": (1, 2, 3, 4, 5, 6, 7, 8)},
        "return [i * v + $k for i, v in enumerate($x)]",
        "each of $x times its position plus $k",
        "$x with each entry times its index plus $k",
    ),
    template(
        "repeat_words(x:words)",
        "repeat_all echo_words stutter",
        {"k": (2, 3, 4, 5), "c": tuple("-.!")},
        'return [w * $k + "$c" for w in $x]',
        "the words of $x repeated $k times with '$c' after them",
        "each word of $x repeated $k times and ended by '$c'",
    ),
    template(
        "prefix_words(x:words)",
        "prefix_all tag_words mark",
        {"c": tuple("#@>*-_+")},
        'return ["$c" + w for w in $x]',
        "the words of $x with '$c' in front",
        "each word of $x preceded by '$c'",
    ),
    template(
        "substitute(x:ints)",
        "substitute swap_value patch",
        {"k": (0, 1, 2, 3, 5), "m": (10, 20, 50, 99)},
        "return [$m if v == $k else v for v in $x]",
        "$x with each $k replaced by $m",
        "$x where $m stands in place of $k",
    ),
    template(
        "combine_lists(x:ints y:ints)",
        "combine merge_lists add_lists",
        {"k": _K},
        "return [a + $k * b for a, b in zip($x, $y)]",
        "the entries of $x plus $k times those of $y",
        "$x added to $k times $y entry by entry",
    ),
)

ORDERING: tuple[Template, ...] = (
    template(
        "largest_first(x:ints)",
        "largest top_n best",
        {"k": (1, 2, 3, 4, 5, 6, 7)},
        "return sorted($x, reverse=True)[:$k]",
        "the $k largest entries of $x in descending order",
        "the top $k of $x from high to low",
    ),
    template(
        "smallest_first(x:ints)",
        "smallest low_n least",
        {"k": (1, 2, 3, 4, 5, 6, 7)},
        "return sorted($x)[:$k]",
        "the $k smallest entries of $x in ascending order",
        "the bottom $k of $x from low to high",
    ),
    template(
        "rotate(x:ints)",
        "rotate turn spin",
        {"s": (Word("", "left"), Word("-", "right")), "k": (1, 2, 3, 4, 5)},
        "return $x[$s$k:] + $x[:$s$k]",
        "$x rotated to the $s by $k",
        "the rotation of $x to the $s by $k places",
    ),
    template(
        "sort_by_remainder(x:ints)",
        "sort_mod order_rem arrange",
        {"k": (2, 3, 4, 5, 6, 7, 8, 9, 10)},
        "return sorted($x, key=lambda v: v % $k)",
        "$x sorted by remainder modulo $k",
        "$x ordered by the remainder of each modulo $k",
    ),
    template(
        "sort_by_distance(x:ints)",
        "sort_near closest_order by_dist",
        {"k": (0, 2, 3, 4, 5, 6, 7, 8, 10)},
        "return sorted($x, key=lambda v: abs(v - $k))",
        "$x sorted by distance from $k",
        "$x ordered by how near each is to $k",
    ),
    template(
        "ranked(x:ints)",
        "rank_pick nth_value kth",
        {"s": (Word("-", "largest"), Word("", "smallest")), "k": (1, 2, 3, 4, 5)},
        "return sorted($x + [0])[$s$k]",
        "the entry at rank $k among the $s of $x with a zero added",
        "rank $k of the $s of $x once a zero is added",
    ),
    template(
        "reverse_head(x:ints)",
        "flip_head reverse_part mirror",
        {"k": (2, 3, 4, 5), "i": (0, 1)},
        "return $x[:$i] + $x[$i:$k + $i][::-1] + $x[$k + $i:]",
        "$x with the $k entries from index $i on reversed",
        "$x after reversing $k entries starting at index $i",
    ),
    template(
        "move_to_end(x:ints)",
        "move_end push_back sink",
        {"k": (0, 1, 2, 3, 4, 5, 6, 7)},
        "return [v for v in $x if v != $k] + [v for v in $x if v == $k]",
        "$x with each $k moved to the end",
        "$x after moving every $k to the end",
    ),
)
