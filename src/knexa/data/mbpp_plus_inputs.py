"""What MBPP+'s arguments are: its file is JSON, which has no tuples, sets and complex numbers."""

from collections.abc import Callable, Sequence
from typing import Any

Arguments = Sequence[Any]


def restored(number: int, inputs: Sequence[Arguments]) -> list[Arguments]:
    """Return the inputs of problem ``Mbpp/number`` with the types that EvalPlus gives them."""
    restore = _RESTORE.get(number)
    return list(inputs) if restore is None else [restore(arguments) for arguments in inputs]


def _tuples(arguments: Arguments) -> Arguments:
    return [tuple(each) for each in arguments]


def _lists_of_tuples(arguments: Arguments) -> Arguments:
    return [[tuple(item) for item in each] for each in arguments]


def _tuples_of_tuples(arguments: Arguments) -> Arguments:
    return [tuple(tuple(item) for item in each) for each in arguments]


def _first_is_list_of_tuples(arguments: Arguments) -> Arguments:
    return [[tuple(item) for item in arguments[0]], *arguments[1:]]


def _first_is_tuple(arguments: Arguments) -> Arguments:
    return [tuple(arguments[0]), *arguments[1:]]


def _first_is_tuple_that_may_hold_some(arguments: Arguments) -> Arguments:
    return [tuple(tuple(item) if isinstance(item, list) else item for item in arguments[0])]


def _second_is_tuple(arguments: Arguments) -> Arguments:
    return [arguments[0], tuple(arguments[1])]


def _list_of_sets(arguments: Arguments) -> Arguments:
    return [[set(item) if isinstance(item, list) and item else {} for item in arguments[0]]]


def _first_holds_tuples_by_key(arguments: Arguments) -> Arguments:
    return [{key: tuple(value) for key, value in arguments[0].items()}, *arguments[1:]]


def _float_and_complex(arguments: Arguments) -> Arguments:
    return [float(arguments[0]), complex(arguments[1])]


def _complex(arguments: Arguments) -> Arguments:
    return [complex(arguments[0])]


def _tuples_throughout(arguments: Arguments) -> Arguments:
    def turned(value: Any) -> Any:
        return tuple(map(turned, value)) if isinstance(value, list) else value

    return [turned(each) for each in arguments]


_PROBLEMS: tuple[tuple[Callable[[Arguments], Arguments], tuple[int, ...]], ...] = (
    (_tuples, (2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596)),
    (_tuples, (616, 630, 726, 740, 744, 809)),
    (_lists_of_tuples, (63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780)),
    (_tuples_of_tuples, (259, 401, 445)),
    (_first_is_list_of_tuples, (75, 413, 444, 753)),
    (_first_is_tuple, (250, 307, 405, 446, 617, 720, 763, 808)),
    (_first_is_tuple_that_may_hold_some, (278,)),
    (_second_is_tuple, (106, 750)),
    (_list_of_sets, (115,)),
    (_first_holds_tuples_by_key, (722,)),
    (_float_and_complex, (124,)),
    (_complex, (252,)),
    (_tuples_throughout, (580, 615, 791)),
)
_RESTORE = {number: restore for restore, numbers in _PROBLEMS for number in numbers}
