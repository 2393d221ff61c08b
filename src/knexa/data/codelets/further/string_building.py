"""Further templates about making text."""

from knexa.data.codelets.template import Template, template

_SIGNS = tuple("-+*#_.")

TEMPLATES: tuple[Template, ...] = (
    template(
        "last_part(s:text)",
        "last_part ending suffix_of",
        {"k": (2, 3, 4, 5), "c": _SIGNS},
        'return "$c" + $s[-$k:]',
        "'$c' followed by the last $k characters of $s",
        "the $k last characters of $s after a '$c'",
    ),
    template(
        "drop_head(s:text)",
        "drop_head skip_start cut_front",
        {"k": (1, 2, 3, 4), "c": _SIGNS},
        'return $s[$k:] + "$c"',
        "$s without its first $k characters but with '$c' at the end",
        "$s after dropping $k characters in front and adding '$c'",
    ),
    template(
        "joined_heads(x:words)",
        "joined_heads acronym short_code",
        {"k": (1, 2, 3, 4), "c": tuple("-+*_")},
        'return "$c".join(w[:$k] for w in $x)',
        "the first $k letters of the words in $x joined by '$c'",
        "the words of $x each cut after $k letters and joined with '$c'",
    ),
    template(
        "outer_parts(s:text)",
        "outer_parts redact hide_middle",
        {"k": (1, 2), "m": (1, 2), "c": tuple("-*#_")},
        'return $s[:$k] + "$c" + $s[-$m:]',
        "the first $k and the last $m characters of $s with '$c' between",
        "$s with '$c' in place of all between its first $k and last $m characters",
    ),
    template(
        "repeat_head(s:text)",
        "repeat_head stammer echo_start",
        {"k": (1, 2, 3, 4), "m": (2, 3, 4)},
        "return $s[:$k] * $m",
        "the first $k characters of $s repeated $m times",
        "$m copies of the first $k characters of $s",
    ),
    template(
        "join_long(x:words)",
        "join_long long_line join_some",
        {"k": (3, 4, 5), "c": tuple("-+*_")},
        'return "$c".join(w for w in $x if len(w) > $k)',
        "the words of $x with more than $k letters joined by '$c'",
        "all words in $x longer than $k joined with '$c'",
    ),
    template(
        "enclose_upper(s:text)",
        "enclose headline banner",
        {
            "c d": (
                ("<", ">"),
                ("[", "]"),
                ("(", ")"),
                ("-", "!"),
                ("*", "#"),
                ("+", "."),
                ("_", "-"),
            )
        },
        'return "$c" + $s.upper() + "$d"',
        "$s in upper case between '$c' and '$d'",
        "'$c' and $s in upper case and '$d'",
    ),
    template(
        "spaced(s:text)",
        "spaced spell_out wide",
        {"c": _SIGNS},
        'return "$c".join($s)',
        "the characters of $s joined by '$c'",
        "$s with '$c' between its characters",
    ),
    template(
        "rejoin(s:text)",
        "rejoin slug snake",
        {"c": _SIGNS},
        'return "$c".join($s.split())',
        "the words of $s joined by '$c'",
        "$s with its words linked by '$c'",
    ),
    template(
        "reversed_plus(s:text)",
        "reversed_plus mirror flip_text",
        {"c": _SIGNS},
        'return $s[::-1] + "$c"',
        "$s reversed and followed by '$c'",
        "$s read backwards with '$c' at the end",
    ),
    template(
        "join_reversed(x:words)",
        "join_reversed mirror_words flip_words",
        {"c": _SIGNS},
        'return "$c".join(w[::-1] for w in $x)',
        "the words of $x each reversed and joined by '$c'",
        "every word of $x read backwards and joined with '$c'",
    ),
)
"""In the order in which they come into use."""
