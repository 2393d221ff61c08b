import ast

import pytest

from knexa.data.source_code import (
    shape,
    split_signature,
    tidy,
    top_level_functions,
    unbound_names,
    whole_program,
)


def test_tidy_turns_tabs_and_crlf_into_four_spaces() -> None:
    code = "def f(x): \r\n\tif x:\r\n\t  # why\r\n\t  return 1 \r\n\treturn 2"
    assert tidy(code) == ("def f(x):\n    if x:\n        # why\n        return 1\n    return 2\n")


def test_tidy_keeps_a_string_over_several_lines_as_it_is() -> None:
    code = 'def f():\n  return """a  \n b"""\n'
    assert ast.dump(ast.parse(tidy(code))) == ast.dump(ast.parse(code))


def test_tidy_refuses_what_is_not_python() -> None:
    with pytest.raises(SyntaxError):
        tidy("def f(:\n")


@pytest.mark.parametrize(
    ("source", "signature", "body"),
    [
        ("def f(x):\n    return x", "def f(x):", "    return x\n"),
        ("def f(x): return x", "def f(x):", "    return x\n"),
        ("def f(x):  # note\n    return x", "def f(x):", "    return x\n"),
        ("def f(x=lambda: {1: 2}):\n    pass", "def f(x=lambda: {1: 2}):", "    pass\n"),
        ("def f(\n    x,\n) -> int:\n    return 1", "def f(\n    x,\n) -> int:", "    return 1\n"),
    ],
)
def test_signature_ends_at_its_own_colon(source: str, signature: str, body: str) -> None:
    assert split_signature(source) == (signature, body)


def test_unbound_names_are_those_that_somebody_else_must_define() -> None:
    code = "root = Node(1)\nassert f(root) == sys.getsizeof([x for x in range(3)])\n"
    assert unbound_names(code) == {"Node", "f", "sys"}


def test_a_completion_that_defines_the_entry_point_replaces_the_prompt() -> None:
    assert whole_program("def f():\n", "def f():\n    return 1\n", "f") == (
        "def f():\n    return 1\n"
    )
    assert whole_program("def f():\n", "    return 1\n", "f") == "def f():\n    return 1\n"
    assert top_level_functions("not python") == []


def test_shape_ignores_own_names_only() -> None:
    assert shape("def f(a):\n    return len(a)\n") == shape("def g(b):\n    return len(b)\n")
    assert shape("def f(a):\n    return len(a)\n") != shape("def f(a):\n    return sum(a)\n")
