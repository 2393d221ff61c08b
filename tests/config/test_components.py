"""The constructor is the schema: what is accepted, what is refused, in which words."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from knexa.config.build import RootKeys
from knexa.config.components import (
    canonical,
    component_name,
    construct,
    describe,
    did_you_mean,
    instantiate,
    load_class,
    show,
)
from knexa.errors import UserError

HERE = __name__


class Scorer:
    def score(self) -> float:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Flat(Scorer):
    value: float = 0.5

    def score(self) -> float:
        return self.value


@dataclass(frozen=True, kw_only=True)
class Silent:
    pass


@dataclass(frozen=True, kw_only=True)
class Everything:
    count: Annotated[int, Field(ge=1, lt=10)] = 1
    rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    limit: Annotated[int, Field(gt=0)] | None = None
    mode: Literal["fast", "slow"] = "fast"
    sizes: tuple[int, ...] = ()
    pair: tuple[float, float] = (0.0, 1.0)
    names: Annotated[tuple[str, ...], Field(min_length=1)] = ("a",)
    parts: dict[str, Flat] | None = None
    scorer: Scorer | None = None
    width: int | Literal["auto"] = "auto"
    on: bool = False


def make(**values: Any) -> Any:
    return construct(Everything, values, key="x")


@pytest.mark.parametrize(
    ("values", "name", "expected"),
    [
        ({"rate": 1}, "rate", 1.0),
        ({"sizes": [1, 2]}, "sizes", (1, 2)),
        ({"pair": [1, 2.5]}, "pair", (1.0, 2.5)),
        ({"limit": None}, "limit", None),
        ({"limit": 3}, "limit", 3),
        ({"width": 7}, "width", 7),
        ({"width": "auto"}, "width", "auto"),
        ({"parts": {"a": {"value": 2}}}, "parts", {"a": Flat(value=2.0)}),
        ({"scorer": {"_target_": f"{HERE}.Flat"}}, "scorer", Flat()),
    ],
)
def test_yaml_values_become_what_the_constructor_annotates(
    values: dict[str, Any], name: str, expected: Any
) -> None:
    built = construct(Everything, values, key="x", trusted_modules=[HERE])
    assert getattr(built, name) == expected


def test_integer_becomes_a_float_where_a_float_is_annotated() -> None:
    assert isinstance(make(rate=1).rate, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 10}, "x.count=10: must be an integer >= 1 and < 10"),
        ({"count": "1"}, "x.count=1: must be an integer >= 1 and < 10"),
        ({"count": True}, "x.count=true: must be an integer >= 1 and < 10"),
        ({"rate": 0}, "x.rate=0: must be a number > 0 and <= 1"),
        ({"rate": float("nan")}, "x.rate=nan: must be a number > 0 and <= 1"),
        ({"limit": 0}, "x.limit=0: must be an integer > 0 or null"),
        ({"mode": "fats"}, "x.mode=fats (did you mean fast?): must be one of fast, slow"),
        ({"sizes": [1, "b"]}, "x.sizes[1]=b: must be an integer"),
        ({"sizes": 3}, "x.sizes=3: must be a list, each entry an integer"),
        ({"pair": [1]}, "x.pair=[1]: must be a list of a number, a number"),
        ({"names": []}, "x.names=[]: must be a list, each entry text of at least 1"),
        (
            {"parts": {"a": {"valeu": 2}}},
            "unknown key x.parts.a.valeu (did you mean x.parts.a.value",
        ),
        ({"width": "wide"}, "x.width=wide: must be an integer or one of auto"),
        ({"on": "yes"}, "x.on=yes: must be true or false"),
        ({"ratte": 1}, "unknown key x.ratte (did you mean x.rate?); allowed: x.count, x.rate"),
    ],
)
def test_refusal_names_key_value_and_what_is_allowed(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        make(**values)
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


def test_nested_component_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(UserError, match=r"x\.scorer\._target_=.*Silent: must be .*Scorer"):
        construct(
            Everything,
            {"scorer": {"_target_": f"{HERE}.Silent"}},
            key="x",
            trusted_modules=[HERE],
        )


def test_a_node_is_identified_by_names_and_by_numbers_as_the_constructor_takes_them() -> None:
    flat = {"_target_": f"{HERE}.Flat", "value": 2}
    node = {
        "_target_": f"{HERE}.Everything",
        "count": 1,
        "rate": 1,
        "limit": 3,
        "pair": [0, 1.5],
        "sizes": [4],
        "parts": {"a": {"value": 1}, "b": flat},
        "scorer": flat,
        "width": 6,
        "on": True,
    }
    taken = canonical(node, trusted_modules=[HERE])
    assert taken == {
        "_name_": f"{HERE}.Everything",
        "count": 1,
        "rate": 1.0,
        "limit": 3,
        "pair": [0.0, 1.5],
        "sizes": [4],
        "parts": {"a": {"value": 1.0}, "b": {"value": 2.0}},  # of the class that is annotated
        "scorer": {"_name_": f"{HERE}.Flat", "value": 2.0},
        "width": 6,
        "on": True,
    }
    floats = [taken["rate"], *taken["pair"], taken["scorer"]["value"]]
    assert all(type(value) is float for value in floats)


def test_a_class_of_the_package_is_called_by_the_name_in_its_own_body(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Base:
        name = "base"

    class Derived(Base):
        pass

    assert component_name(Base).endswith("Base")  # from outside: by its dotted name
    for cls in (Base, Derived):
        monkeypatch.setattr(cls, "__module__", "knexa.anywhere")
    assert component_name(Base) == "base"
    with pytest.raises(UserError, match=r"Derived is no component: it declares no name"):
        component_name(Derived)


def test_missing_parameter_is_named_with_what_it_takes() -> None:
    with pytest.raises(UserError, match=r"^seed is missing: must be an integer"):
        construct(RootKeys, {"name": "study"}, key="")


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.Popen",
        "knexaevil.Class",
        "builtins.eval",
        "knexa",
        "knexa.config.components.importlib.import_module",
        "knexa.config.components.Any",
        "",
        "..",
        "knexa.config.components.",
    ],
)
def test_target_outside_the_package_is_refused(target: str) -> None:
    with pytest.raises(UserError):
        load_class(target, key="matchmaker._target_")


def test_class_that_a_module_only_imports_is_refused() -> None:
    with pytest.raises(UserError, match="is defined in pydantic"):
        load_class("knexa.config.components.TypeAdapter", key="x")


def test_trusted_module_is_allowed_and_its_neighbours_are_not() -> None:
    assert load_class(f"{HERE}.Flat", key="x", trusted_modules=[HERE]) is Flat
    with pytest.raises(UserError, match="trusted_modules"):
        load_class(f"{HERE}.Flat", key="x", trusted_modules=[HERE + "x"])


def test_constructor_without_annotations_is_refused() -> None:
    class Loose:
        def __init__(self, value, **rest) -> None:  # type: ignore[no-untyped-def]
            pass

    with pytest.raises(UserError, match="needs a name and an annotation"):
        construct(Loose, {"value": 1}, key="x")


def test_node_without_target_is_refused() -> None:
    with pytest.raises(UserError, match=r"^x\._target_ is missing"):
        instantiate({"value": 1}, key="x")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


@given(st.sampled_from(list(Everything.__dataclass_fields__)), json_values)
def test_any_value_is_either_built_or_refused_in_one_line(name: str, value: Any) -> None:
    refusals = []
    try:
        make(**{name: value})
    except UserError as refusal:
        refusals.append(str(refusal))
    assert all("\n" not in text and f"x.{name}" in text for text in refusals)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "an integer"),
        (Annotated[float, Field(gt=0)], "a number > 0"),
        (Annotated[int, Field(ge=0)] | None, "an integer >= 0 or null"),
        (Annotated[str, Field(description="a folder name")], "a folder name"),
        (dict[str, int], "a mapping, each value an integer"),
    ],
)
def test_annotations_are_described_in_words(annotation: Any, words: str) -> None:
    assert describe(annotation) == words


def test_values_are_shown_as_they_are_typed() -> None:
    shown = [show(v) for v in (None, True, [1, "a"], {"a": 1}, "", "a\nb", "x" * 90)]
    assert shown[:6] == ["null", "true", "[1,a]", "{a:1}", "''", "a b"]
    assert len(shown[6]) == 60


def test_distant_words_are_not_suggested() -> None:
    assert did_you_mean("zzz", ["alpha", "beta"]) == ""


@dataclass(frozen=True, kw_only=True)
class OneSide:
    x: float = 0.0


@dataclass(frozen=True, kw_only=True)
class OtherSide:
    x: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Either:
    inner: OneSide | OtherSide


def test_components_of_two_classes_are_never_one_identity():
    nodes = [
        {
            "_target_": f"{__name__}.Either",
            "inner": {"_target_": f"{__name__}.{name}", "x": 1},
        }
        for name in ("OneSide", "OtherSide")
    ]
    one, other = (canonical(node, trusted_modules=(__name__,)) for node in nodes)
    assert one != other
