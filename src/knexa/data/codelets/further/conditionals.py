"""Further templates about comparisons and cases."""

from knexa.data.codelets.template import Template, template

_LIMITS = (10, 20, 30, 50)

TEMPLATES: tuple[Template, ...] = (
    template(
        "lower_when_under(x:int)",
        "penalty lowered fined",
        {"k": _LIMITS, "m": (2, 3, 4, 5)},
        "return $x - $m if $x < $k else $x",
        "$x lowered by $m when it is below $k",
        "$x minus $m if it is under $k or else $x itself",
    ),
    template(
        "multiply_when_over(x:int)",
        "boosted multiplied_if surge",
        {"k": (5, 10, 15, 20), "m": (2, 3, 4, 5)},
        "return $x * $m if $x > $k else $x",
        "$x times $m when it is greater than $k",
        "$x multiplied by $m if over $k or else $x",
    ),
    template(
        "name_by_remainder(x:int)",
        "label_by turn_name whose_turn",
        {"k": (2, 3, 4, 5, 6), "yes no": (("stop", "go"), ("red", "blue"), ("full", "part"))},
        'return "$yes" if $x % $k == 0 else "$no"',
        "'$yes' when $k divides $x and '$no' when not",
        "the text '$yes' for $x a multiple of $k and '$no' for others",
    ),
    template(
        "two_rates(x:int)",
        "two_rates fare price_of",
        {"k": (5, 10, 20, 30), "m": (3, 4, 5, 6)},
        "if $x > $k:\n    return $x * $m\nreturn $x + $m",
        "$x times $m if it is over $k and plus $m otherwise",
        "$x multiplied by $m above $k but only increased by $m up to there",
    ),
    template(
        "at_least_plus(x:int)",
        "fee_of at_least_plus minimum_fee",
        {"k": (10, 20, 30, 40), "m": (1, 3, 5, 7)},
        "return max($x, $k) + $m",
        "$m plus the larger of $x and $k",
        "$x made at least $k and then increased by $m",
    ),
    template(
        "winner_bonus(a:int b:int)",
        "winner best_of duel",
        {"k": (2, 3, 4, 5, 6, 7, 8, 9)},
        "return $a + $k if $a > $b else $b",
        "$a plus $k if it is larger than $b and else $b",
        "$b unless $a beats it or else $a plus $k",
    ),
    template(
        "raise_up_to(x:int)",
        "raise_up_to charge capped_gain",
        {"k": (2, 3, 4, 5), "m": (20, 30, 50, 60)},
        "return min($x + $k, $m)",
        "$x plus $k but at most $m",
        "$x increased by $k and limited to $m",
    ),
)
"""In the order in which they come into use."""
