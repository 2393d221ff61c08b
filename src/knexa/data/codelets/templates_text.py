"""Templates about text: building it, asking about it."""

from knexa.data.codelets.template import Template, Word, template

_SIGNS = tuple("-+*#_.")
_LETTERS = tuple("abcelmnrst")
_PAIRS = (("b", "c"), ("d", "g"), ("a", "i"), ("o", "u"), ("p", "r"), ("l", "n"), ("m", "s"))

STRING_BUILDING: tuple[Template, ...] = (
    template(
        "repeat_joined(s:text)",
        "repeat_text chain echo",
        {"k": (2, 3, 4, 5), "c": _SIGNS},
        'return "$c".join([$s] * $k)',
        "$s repeated $k times and joined by '$c'",
        "$k copies of $s joined by '$c'",
    ),
    template(
        "pad(s:text)",
        "pad fill justify",
        {"f": (Word("rjust", "left"), Word("ljust", "right")), "k": (12, 14, 16, 20), "c": _SIGNS},
        'return $s.$f($k, "$c")',
        "$s padded on the $f to width $k with '$c'",
        "$s filled on the $f up to width $k using '$c'",
    ),
    template(
        "cut_off(s:text)",
        "shorten cut abbreviate",
        {"k": (2, 3, 4, 5), "c": _SIGNS},
        'return $s[:$k] + "$c"',
        "the first $k characters of $s followed by '$c'",
        "$s cut after $k characters with '$c' attached",
    ),
    template(
        "replace_letter(s:text)",
        "swap_letter convert_text recode",
        {"c": tuple("aelnrst"), "d": ("x", "z", "0")},
        'return $s.replace("$c", "$d")',
        "$s with each '$c' replaced by '$d'",
        "$s where '$d' stands for '$c'",
    ),
    template(
        "surround(s:text)",
        "surround wrap_text frame",
        {"k": (1, 2, 3, 4), "c": _SIGNS},
        'return "$c" * $k + $s + "$c" * $k',
        "$s with $k times '$c' on both sides",
        "$s surrounded by $k times '$c'",
    ),
    template(
        "join_cased(x:words)",
        "join_words to_line concat",
        {"f": (Word("upper", "upper"), Word("title", "title")), "c": tuple("-+*#_/")},
        'return "$c".join(w.$f() for w in $x)',
        "the words of $x in $f case joined by '$c'",
        "$x turned to $f case and joined with '$c'",
    ),
    template(
        "delete_letter(s:text)",
        "delete_char strip_out erase",
        {"c": _LETTERS},
        'return "".join(ch for ch in $s if ch != "$c")',
        "$s without any letter '$c'",
        "$s after deleting the letter '$c'",
    ),
    template(
        "insert_at(s:text)",
        "insert put_in place",
        {"k": (1, 2, 3), "c": _SIGNS},
        'return $s[:$k] + "$c" + $s[$k:]',
        "$s with '$c' inserted at index $k",
        "$s after inserting '$c' at index $k",
    ),
)

STRING_QUERIES: tuple[Template, ...] = (
    template(
        "count_letter(s:text)",
        "count_letter letter_freq tally",
        {"c": _LETTERS},
        'return $s.count("$c")',
        "how many times the letter '$c' appears in $s",
        "the number of letters '$c' in $s",
    ),
    template(
        "edge_is(s:text)",
        "edge_is begins_or_ends check_edge",
        {"f": (Word("startswith", "starts"), Word("endswith", "ends")), "c": tuple("abegmnrst")},
        'return $s.$f("$c")',
        "whether $s $f with '$c'",
        "True if $s $f with the letter '$c'",
    ),
    template(
        "position_of(s:text)",
        "position locate index_of",
        {"f": (Word("find", "first"), Word("rfind", "last")), "c": _LETTERS},
        'return $s.$f("$c")',
        "the $f position of '$c' in $s or -1",
        "the index of the $f '$c' in $s or -1",
    ),
    template(
        "length_check(s:text)",
        "is_long length_check too_long",
        {"op": (Word(">", "longer"), Word("<", "shorter")), "k": (4, 5, 6, 7, 10)},
        "return len($s) $op $k",
        "whether $s is $op than $k characters",
        "True if $s is $op than $k",
    ),
    template(
        "count_words(s:text)",
        "count_words word_tally num_words",
        {"op": (Word(">", "more than"), Word("<", "fewer than")), "k": (3, 4, 5, 6)},
        "return sum(1 for w in $s.split() if len(w) $op $k)",
        "the number of words in $s with $op $k letters",
        "how many words of $s have $op $k letters",
    ),
    template(
        "char_at(s:text)",
        "char_at letter_of fetch",
        {"side": (Word("", "start"), Word("-", "end")), "k": (1, 2, 3, 4)},
        "return $s[${side}$k]",
        "the character of $s at index $k from the $side",
        "the letter $k places from the $side of $s",
    ),
    template(
        "contains_two(s:text)",
        "has_both contains_two includes",
        {"op": (Word("and", "both"), Word("or", "either")), "c d": _PAIRS},
        'return "$c" in $s $op "$d" in $s',
        "whether $s contains $op of '$c' and '$d'",
        "True if $op of '$c' and '$d' occur in $s",
    ),
    template(
        "count_among(s:text)",
        "count_among char_total sum_letters",
        {"c d": _PAIRS, "k": (1, 2, 3)},
        'return sum($k for ch in $s if ch in "$c$d")',
        "the score of $s giving $k for each '$c' or '$d'",
        "$k points for each '$c' or '$d' found in $s",
    ),
)
