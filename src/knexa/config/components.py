"""Constructs the component that a config node names, checked by the constructor's signature.

The constructor is the schema: a node's keys are the keyword parameters of the class that
``_target_`` names, and its values must match their annotations: ranges by
``Annotated[float, Field(gt=0)]``, choices by ``Literal``, optional values by ``X | None``,
sequences by ``tuple[int, ...]``, nested settings by dataclasses or by nodes with a ``_target_`` of
their own. A node is checked by constructing it, which is cheap by convention. Type variables and
callables are not supported as annotations.
"""

import functools
import importlib
import inspect
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import annotated_types
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from knexa.errors import UserError, did_you_mean, first_line, one_line, show, unknown_key
from knexa.recipe import NAME, AddedLater, Secret, secret_digest

TARGET = "_target_"

_PACKAGE = "knexa"
_LEAF_NAMES: dict[Any, str] = {
    int: "an integer",
    float: "a number",
    str: "text",
    bool: "true or false",
    type(None): "null",
    Any: "any value",
}
_BOUNDS: dict[type, str] = {
    annotated_types.Gt: "> {0.gt}",
    annotated_types.Ge: ">= {0.ge}",
    annotated_types.Lt: "< {0.lt}",
    annotated_types.Le: "<= {0.le}",
    annotated_types.MinLen: "of at least {0.min_length}",
    annotated_types.MaxLen: "of at most {0.max_length}",
    annotated_types.MultipleOf: "a multiple of {0.multiple_of}",
}


def instantiate(
    node: Mapping[str, Any], *, key: str, kind: type = object, trusted_modules: Sequence[str] = ()
) -> Any:
    """Check a config node against its component's constructor and construct it.

    Args:
        node: A plain mapping (interpolations resolved) with ``_target_`` and the parameters.
        key: The node's dotted place in the config, for messages, e.g. ``matchmaker``.
        kind: What the component's class must be derived from.
        trusted_modules: Modules outside knexa whose classes may be constructed.

    Raises:
        UserError: One line, for a target that is not allowed or of another kind, an unknown or
            missing key, a value of the wrong type or range, or a ``ValueError`` of the constructor.
    """
    if TARGET not in node:
        raise UserError(
            f"{key}.{TARGET} is missing: name the component's class, e.g. package.Class"
        )
    cls = load_class(node[TARGET], key=f"{key}.{TARGET}", trusted_modules=trusted_modules)
    if not issubclass(cls, kind):
        raise UserError(
            f"{key}.{TARGET}={node[TARGET]}: {cls.__name__} is no {key}: choose one of knexa's, or "
            f"derive it from {kind.__module__}.{kind.__qualname__}"
        )
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(vars(cls)["__abstractmethods__"]))
        raise UserError(f"{key}.{TARGET}={node[TARGET]}: {cls.__name__} lacks {missing}")
    values = {name: value for name, value in node.items() if name != TARGET}
    return construct(cls, values, key=key, trusted_modules=trusted_modules)


def canonical(node: Mapping[str, Any], *, trusted_modules: Sequence[str] = ()) -> dict[str, Any]:
    """Return what identifies a valid config node: its component's name, and its values.

    ``_name_`` replaces ``_target_`` (see ``component_name``), and integers become floats where the
    parameter is a float, so that ``alpha: 1`` and ``alpha: 1.0`` are equal. A nested node of
    exactly the annotated class has no name, and a parameter that is as before it was added
    (``AddedLater``) is left out. Digests replace secrets (``knexa.recipe.Secret``), but for empty
    ones.
    """
    cls = load_class(node[TARGET], key=TARGET, trusted_modules=trusted_modules)
    return {NAME: component_name(cls), **_canonical_fields(cls, node, trusted_modules)}


def without_secrets(
    node: Mapping[str, Any], *, trusted_modules: Sequence[str] = ()
) -> dict[str, Any]:
    """Return a valid config node with digests in place of its secrets."""
    cls = load_class(node[TARGET], key=TARGET, trusted_modules=trusted_modules)
    return {TARGET: node[TARGET], **_canonical_fields(cls, node, trusted_modules)}


def secret_parameters(cls: type) -> list[str]:
    """Return the parameters of a component's class that are, or contain, secrets."""
    return [name for name, (annotation, _) in _schema(cls).items() if _holds_secret(annotation)]


def _holds_secret(annotation: Any) -> bool:
    base, metadata = _split(annotation)
    if _is_secret(metadata):
        return True
    if is_dataclass(base) and isinstance(base, type):
        return bool(secret_parameters(base))
    return any(_holds_secret(inner) for inner in get_args(base))


def _is_secret(metadata: Sequence[Any]) -> bool:
    return any(item is Secret or isinstance(item, Secret) for item in metadata)


def component_name(cls: type) -> str:
    """Return the name that identifies a component's class, whatever module it is in.

    A class of the package declares it as ``name`` in its own body (an inherited one does not
    count). A class from outside is identified by its dotted name.

    Raises:
        UserError: It is a class of the package and no component.
    """
    if not is_inside(cls.__module__, (_PACKAGE,)):
        return f"{cls.__module__}.{cls.__qualname__}"
    name = vars(cls).get("name")
    if not isinstance(name, str):
        raise UserError(f"{cls.__module__}.{cls.__qualname__} is no component: it declares no name")
    return name


def load_class(target: Any, *, key: str, trusted_modules: Sequence[str] = ()) -> type:
    """Import the class that a ``_target_`` names, if it lives in knexa or in a trusted module.

    The class must be *defined* there, not imported there (``knexa.x.subprocess.Popen``).

    Raises:
        UserError: If the target is not allowed, cannot be imported or is not a class.
    """
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        raise UserError(f"{key}={show(target)}: must be a class's dotted name, e.g. package.Class")
    allowed = (_PACKAGE, *trusted_modules)
    module_name, _, class_name = target.rpartition(".")
    if not is_inside(module_name, allowed):
        raise UserError(
            f"{key}={target}: only classes in {' or '.join(allowed)} are instantiated; "
            f"to allow it, set trusted_modules=[{module_name or target}]"
        )
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as error:
        hint = "; is the folder that holds it in PYTHONPATH?" * (
            isinstance(error, ModuleNotFoundError) and error.name == module_name
        )
        raise UserError(
            f"{key}={target}: cannot import {module_name}: {first_line(error)}{hint}"
        ) from error
    cls = getattr(module, class_name, None)
    classes = [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module_name and not name.startswith("_")
    ]
    if not isinstance(cls, type):
        raise UserError(
            f"{key}={target}: {module_name} has no class {class_name}"
            f"{did_you_mean(class_name, classes)}; it has {', '.join(classes) or 'none'}"
        )
    if not is_inside(cls.__module__, allowed):
        raise UserError(
            f"{key}={target}: {class_name} is defined in {cls.__module__}; only classes defined in "
            f"{' or '.join(allowed)} are instantiated"
        )
    return cls


def construct(
    cls: type, values: Mapping[str, Any], *, key: str, trusted_modules: Sequence[str] = ()
) -> Any:
    """Check ``values`` against the signature of ``cls`` and call it.

    Args:
        cls: A class with annotated keyword parameters.
        values: The parameters, as plain YAML values.
        key: Dotted place in the config, for messages; empty for the root.
        trusted_modules: As for ``instantiate``.

    Raises:
        UserError: One line that names the key, the value and what is allowed.
    """
    schema = _schema(cls)
    prefix = f"{key}." if key else ""
    for name in values:
        if name not in schema:
            raise unknown_key(f"{prefix}{name}", [f"{prefix}{known}" for known in schema])
    arguments = {}
    for name, (annotation, required) in schema.items():
        if name in values:
            arguments[name] = _convert(annotation, values[name], f"{prefix}{name}", trusted_modules)
        elif required:
            raise UserError(f"{prefix}{name} is missing: must be {describe(annotation)}")
    try:
        return cls(**arguments)
    except ValueError as error:
        raise UserError(f"{key or cls.__name__}: {one_line(error)}") from error


def is_inside(module_name: str, allowed: Iterable[str]) -> bool:
    """Return whether a module is one of these, or inside one of them."""
    return any(module_name == name or module_name.startswith(f"{name}.") for name in allowed)


def describe(annotation: Any) -> str:
    """Return what an annotation allows, e.g. ``a number > 0`` or ``one of exact, greedy``."""
    base, metadata = _split(annotation)
    described = [item.description for item in metadata if getattr(item, "description", None)]
    if described:
        return str(described[0])
    origin, args = get_origin(base), get_args(base)
    if _is_union(base):
        return " or ".join(describe(arm) for arm in args)
    if origin is Literal:
        text = "one of " + ", ".join(show(choice) for choice in args)
    elif origin is tuple and not (len(args) == 2 and args[1] is Ellipsis):
        text = "a list of " + ", ".join(describe(arg) for arg in args)
    elif origin in (tuple, list, frozenset, set):
        text = "a list, each entry " + describe(args[0])
    elif base in (tuple, list):
        text = "a list"
    elif origin is dict or base is dict:
        text = "a mapping" + (f", each value {describe(args[1])}" if args else "")
    elif base in _LEAF_NAMES:
        text = _LEAF_NAMES[base]
    elif is_dataclass(base) and isinstance(base, type):
        text = "a mapping with the keys " + ", ".join(_schema(base))
    else:
        text = f"a component ({TARGET}) of the kind {getattr(base, '__name__', base)}"
    return " ".join([text, *_bounds(metadata)])


def _bounds(metadata: Sequence[Any]) -> list[str]:
    found = []
    for item in metadata:
        if isinstance(item, annotated_types.Interval):
            found.extend(_bounds(list(item)))
        elif type(item) in _BOUNDS:
            found.append(_BOUNDS[type(item)].format(item))
        elif getattr(item, "pattern", None):
            found.append(f"matching {item.pattern}")
    return [" and ".join(found)] if found else []


def _split(annotation: Any) -> tuple[Any, list[Any]]:
    """Return an annotation's bare type and its metadata, with pydantic's ``Field`` unpacked."""
    if get_origin(annotation) is not Annotated:
        return annotation, []
    base, *extras = get_args(annotation)
    metadata: list[Any] = []
    for item in extras:
        metadata.extend([item, *item.metadata] if isinstance(item, FieldInfo) else [item])
    return base, metadata


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _arms(base: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type itself."""
    return get_args(base) if _is_union(base) else (base,)


@functools.cache
def _schema(cls: type) -> dict[str, tuple[Any, bool]]:
    """Return {parameter: (annotation, is it required)} of a constructor."""
    if cls.__init__ is object.__init__:  # type: ignore[misc]
        return {}
    hints = get_type_hints(cls.__init__, include_extras=True)  # type: ignore[misc]
    schema = {}
    for name, parameter in list(inspect.signature(cls).parameters.items()):
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) or name not in hints:
            raise UserError(
                f"{cls.__module__}.{cls.__qualname__} cannot be configured: its constructor's "
                f"parameter {name} needs a name and an annotation of its own"
            )
        schema[name] = hints[name], parameter.default is parameter.empty
    return schema


@functools.cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    config = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)
    return TypeAdapter(annotation, config=config)


def _refuse(annotation: Any, value: Any, key: str) -> UserError:
    arms = _arms(_split(annotation)[0])
    choices = [str(c) for arm in arms if get_origin(arm) is Literal for c in get_args(arm)]
    hint = did_you_mean(str(value), choices)
    return UserError(f"{key}={show(value)}{hint}: must be {describe(annotation)}")


def _convert(annotation: Any, value: Any, key: str, trusted: Sequence[str]) -> Any:
    """Return ``value`` converted to its annotation: lists to tuples, mappings to dataclasses."""
    base, metadata = _split(annotation)
    if isinstance(value, Mapping) and TARGET in value:
        return _nested(base, instantiate(value, key=key, trusted_modules=trusted), key)
    if _is_union(base):
        return _convert_union(annotation, value, key, trusted)
    origin, args = get_origin(base), get_args(base)
    if origin in (tuple, list):
        converted = _convert_sequence(annotation, value, key, trusted)
    elif origin is dict:
        if not isinstance(value, Mapping):
            raise _refuse(annotation, value, key)
        converted = {
            _check(args[0], name, key): _convert(args[1], item, f"{key}.{name}", trusted)
            for name, item in value.items()
        }
    elif is_dataclass(base) and isinstance(base, type):
        if not isinstance(value, Mapping):
            raise _refuse(annotation, value, key)
        return construct(base, value, key=key, trusted_modules=trusted)
    else:
        return _check(annotation, value, key)
    if metadata:
        _check(Annotated[(origin, *metadata)], converted, key, described=annotation)
    return converted


def _convert_union(annotation: Any, value: Any, key: str, trusted: Sequence[str]) -> Any:
    base, metadata = _split(annotation)
    arms = [arm for arm in get_args(base) if arm is not type(None)]
    if value is None and len(arms) < len(get_args(base)):
        return None
    if len(arms) == 1 and isinstance(value, Mapping):
        return _convert(arms[0], value, key, trusted)  # its own message names the nested key
    for arm in arms:
        wanted = Annotated[(arm, *metadata)] if metadata else arm
        try:
            return _convert(wanted, value, key, trusted)
        except UserError:
            continue
    raise _refuse(annotation, value, key)


def _convert_sequence(annotation: Any, value: Any, key: str, trusted: Sequence[str]) -> Any:
    base, _ = _split(annotation)
    origin, args = get_origin(base), get_args(base)
    if not isinstance(value, list | tuple):
        raise _refuse(annotation, value, key)
    if origin is tuple and args[-1] is not Ellipsis:
        if len(value) != len(args):
            raise _refuse(annotation, value, key)
        entries = args
    else:
        entries = (args[0],) * len(value)
    return origin(
        _convert(entry, item, f"{key}[{index}]", trusted)
        for index, (entry, item) in enumerate(zip(entries, value, strict=True))
    )


def _canonical_fields(cls: type, node: Mapping[str, Any], trusted: Sequence[str]) -> dict[str, Any]:
    schema = _schema(cls)
    return {
        name: _canonical(schema[name][0], value, trusted)
        for name, value in node.items()
        if name != TARGET and AddedLater(value) not in _split(schema[name][0])[1]
    }


def _canonical(annotation: Any, value: Any, trusted: Sequence[str]) -> Any:
    base, metadata = _split(annotation)
    if _is_secret(metadata) and value:
        return secret_digest(_canonical(base, value, trusted))
    origin, args = get_origin(base), get_args(base)
    if isinstance(value, Mapping) and TARGET in value:
        cls = load_class(value[TARGET], key=TARGET, trusted_modules=trusted)
        if [arm for arm in _arms(base) if arm is not type(None)] == [cls]:
            return _canonical_fields(cls, value, trusted)
        return canonical(value, trusted_modules=trusted)
    if _is_union(base):
        fitting = (arm for arm in args if _fits(arm, value, trusted))
        return next((_canonical(arm, value, trusted) for arm in fitting), value)
    if isinstance(value, list) and origin in (tuple, list):
        ends = origin is list or args[-1] is Ellipsis
        entries = (args[0],) * len(value) if ends else args
        return [_canonical(e, item, trusted) for e, item in zip(entries, value, strict=True)]
    if isinstance(value, Mapping) and origin is dict:
        return {name: _canonical(args[1], item, trusted) for name, item in value.items()}
    if isinstance(value, Mapping) and is_dataclass(base) and isinstance(base, type):
        return _canonical_fields(base, value, trusted)
    return float(value) if base is float and type(value) is int else value


def _fits(arm: Any, value: Any, trusted: Sequence[str]) -> bool:
    """Return whether a valid value is of this member of a union."""
    if isinstance(value, Mapping):
        return is_dataclass(_split(arm)[0]) or get_origin(_split(arm)[0]) is dict
    try:
        _convert(arm, value, "", trusted)
    except UserError:
        return False
    return True


def _check(annotation: Any, value: Any, key: str, *, described: Any = None) -> Any:
    try:
        return _adapter(annotation).validate_python(value)
    except ValidationError as error:
        raise _refuse(described or annotation, value, key) from error


def _nested(base: Any, built: Any, key: str) -> Any:
    """Return a nested component if it is of the annotated class."""
    kinds = _arms(base)
    if any(kind is Any or (isinstance(kind, type) and isinstance(built, kind)) for kind in kinds):
        return built
    raise UserError(
        f"{key}.{TARGET}={type(built).__module__}.{type(built).__qualname__}: must be "
        f"{describe(base)}"
    )
