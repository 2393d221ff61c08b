"""Further templates about formulas on a few numbers."""

from knexa.data.codelets.template import Template, template

_K = (2, 3, 4, 5, 6, 7, 8, 9)

TEMPLATES: tuple[Template, ...] = (
    template(
        "shift_then_scale(a:int)",
        "raise_then_multiply bump_times shifted_multiple",
        {"k": (2, 3, 5, 9), "m": (3, 4, 6, 7)},
        "return ($a + $k) * $m",
        "$m times the sum of $a and $k",
        "$a increased by $k and then multiplied by $m",
    ),
    template(
        "scale_then_drop(a:int)",
        "net_of after_fee less_fee",
        {"k": (2, 3, 4, 5, 6), "m": (2, 3, 5, 8)},
        "return $a * $k - $m",
        "$a times $k minus $m",
        "$m less than $k times $a",
    ),
    template(
        "drop_then_divide(a:int)",
        "rest_share spread_out after_deposit",
        {"k": (1, 2, 3, 4), "m": (3, 5, 7, 9)},
        "return ($a - $k) // $m",
        "$a minus $k divided by $m rounded down",
        "the whole $m th part of $a less $k",
    ),
    template(
        "fraction(a:int)",
        "fraction ratio_of scaled_part",
        {"k": (5, 7, 9, 13), "m": (4, 8, 11, 16)},
        "return $a * $k // $m",
        "$a multiplied by $k and divided by $m rounded down",
        "$k parts in $m of $a rounded down",
    ),
    template(
        "product_plus(a:int b:int)",
        "area_plus product_off times_plus",
        {"k": _K},
        "return $a * $b + $k",
        "the product of $a and $b plus $k",
        "$a times $b plus $k",
    ),
    template(
        "scaled_gap(a:int b:int)",
        "gap_fee difference_fee net_gap",
        {"k": (2, 3, 4, 5), "m": (1, 2, 6, 9)},
        "return ($a - $b) * $k + $m",
        "the difference of $a and $b times $k plus $m",
        "$k times $a less $b plus $m",
    ),
    template(
        "weighted_gap(a:int b:int)",
        "weighted_gap lead_of surplus",
        {"k": (2, 3, 4, 5), "m": (2, 3, 6, 7)},
        "return $k * $a - $m * $b",
        "$k times $a minus $m times $b",
        "the surplus of $k times $a over $m times $b",
    ),
    template(
        "remainder_plus(a:int)",
        "rest_plus mod_off slot_of",
        {"k": (3, 5, 7, 9), "m": (2, 4, 10, 20)},
        "return $a % $k + $m",
        "the remainder of $a by $k plus $m",
        "$m plus what is left of $a divided by $k",
    ),
    template(
        "distance_plus(a:int)",
        "trip_cost far_from travel",
        {"k": (5, 10, 20, 40), "m": (1, 3, 6, 9)},
        "return abs($a - $k) + $m",
        "the distance of $a from $k plus $m",
        "$m plus how far $a is from $k",
    ),
    template(
        "capped_product(a:int b:int)",
        "capped_area product_max bounded_product",
        {"k": (10, 20, 30, 50, 60, 80, 90, 99)},
        "return min($a * $b, $k)",
        "the product of $a and $b but at most $k",
        "$a times $b limited to $k",
    ),
    template(
        "scaled_square(a:int)",
        "parabola quad square_cost",
        {"k": (2, 3, 4, 5), "m": (1, 2, 3, 5)},
        "return $k * $a ** 2 + $m",
        "$k times the square of $a plus $m",
        "the square of $a multiplied by $k plus $m",
    ),
    template(
        "sum_of_parts(a:int b:int)",
        "sum_parts whole_parts crates",
        {"k": (2, 3, 5, 7), "m": (2, 4, 6, 9)},
        "return $a // $k + $b // $m",
        "the whole part of $a by $k plus that of $b by $m",
        "how many times $k goes into $a and $m into $b together",
    ),
    template(
        "scaled_remainder(a:int)",
        "hash_of scramble key_of",
        {"k": (2, 3, 5, 7), "m": (9, 10, 11, 13)},
        "return $a * $k % $m",
        "$a times $k modulo $m",
        "the remainder of $k times $a divided by $m",
    ),
)
"""In the order in which they come into use."""
