"""Mapping -> frozen dataclass and back. The one place where a configuration's keys are checked."""

import ast
import dataclasses
import difflib
import numbers
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

_UNION = (typing.Union, types.UnionType)
NAME = "name"  # the key under which a mapping names what it changes


class Text(str):
    """A value as a person types it, 3e-4 or (1, 2) or none: build() reads it as its key's type."""


def build(cls, mapping):
    """Returns an instance of the dataclass `cls` made of `mapping`; absent keys keep defaults.

    cls: a dataclass whose fields are annotated with bool, int, float, str, None, Literal, tuple[X,
    ...], tuple[X, Y], Mapping[str, X], unions of these and further dataclasses (nested to any
    depth). mapping: a Mapping or anything that lists `.items()`, such as ml_collections.ConfigDict.
    An int is accepted for a float and a list for a tuple; a bool is not an int; None passes only
    where the annotation allows it. A dataclass with a classmethod `named` may be given by name, and
    a mapping for it may begin with one: {"name": "tiny", ...} is that instance, changed. Raises
    ValueError with the dotted path, the value and the rule: for an unknown key (naming the
    nearest), a wrong type, a choice outside its Literal, a required key that is missing, or a
    ValueError of the dataclass' own __post_init__.
    """
    return _build_dataclass(cls, mapping, path="", root=cls)


def merge(mapping, dotted, value):
    """Returns `mapping` as nested plain dicts with `value` at the key `dotted` ("grpo.kl_coef").

    Groups on the way that are absent, or are no mappings, become mappings, a name among them one
    that holds it (see `build`); `mapping` stays as it is.
    """
    merged = dict(mapping.items())
    key, dot, rest = dotted.partition(".")
    if dot:
        group = merged.get(key)
        if isinstance(group, str):
            group = {NAME: str(group)}
        merged[key] = merge(group if _is_mapping(group) else {}, rest, value)
    else:
        merged[key] = value
    return merged


def describe(cls):
    """Returns rows (dotted key, type, default) of strings, for help; "" if there is no default."""
    return _describe(cls, "", dataclasses.MISSING)


def to_dict(obj) -> Any:
    """Returns the dataclass instance `obj` as nested plain dicts and lists, ready for JSON.

    build(type(obj), to_dict(obj)) == obj.
    """
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return {f.name: to_dict(getattr(obj, f.name)) for f in dataclasses.fields(obj) if f.init}
    if isinstance(obj, Mapping):
        return {key: to_dict(value) for key, value in obj.items()}
    if isinstance(obj, tuple | list):
        return [to_dict(value) for value in obj]
    return obj


def _build_dataclass(cls, mapping, path, root):
    if isinstance(mapping, cls):
        return mapping
    if hasattr(cls, "named"):
        if isinstance(mapping, str):
            mapping = {NAME: str(mapping)}
        if _is_mapping(mapping) and NAME in mapping.keys():
            mapping = _over_named(cls, mapping, path)
    if not _is_mapping(mapping):
        raise ValueError(f"{_at(path)}{mapping!r} is not a mapping of {cls.__name__}'s keys")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    values = {}
    for key, value in mapping.items():
        if key not in fields:
            advice = _nearest(key, path, fields, root)
            raise ValueError(f"unknown key {_join(path, key)}={_brief(value)}; {advice}")
        values[key] = _convert(hints[key], value, _join(path, key), root)
    for name, field in fields.items():
        has_default = field.default is not dataclasses.MISSING
        has_default |= field.default_factory is not dataclasses.MISSING
        if name not in values and not has_default:
            raise ValueError(f"{_join(path, name)} is required; give it a {_name(hints[name])}")
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{_at(path)}{error}") from error


def _over_named(cls, mapping, path):
    """Returns `mapping` without its name, over what that name stands for."""
    try:
        named = to_dict(cls.named(mapping[NAME]))
    except ValueError as error:
        raise ValueError(f"{_at(path)}{error}") from error

    def over(below, above):
        if not (_is_mapping(below) and _is_mapping(above)):
            return above
        merged = dict(below.items())
        return merged | {key: over(below.get(key), value) for key, value in above.items()}

    return over(named, {key: value for key, value in mapping.items() if key != NAME})


def _convert(hint, value, path, root):
    """Returns `value` as an instance of the annotation `hint`; raises ValueError naming `path`."""
    if isinstance(value, Text) and not hasattr(hint, "named"):
        value = _read(hint, value)
    if dataclasses.is_dataclass(hint):
        return _build_dataclass(hint, value, path, root)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in _UNION:
        return _convert_union(hint, value, path, root)
    if origin is typing.Literal:
        for choice in arguments:
            if choice == value and type(choice) is type(value):
                return choice
        choices = ", ".join(repr(choice) for choice in arguments)
        near = difflib.get_close_matches(str(value), [str(a) for a in arguments], n=1)
        advice = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{path}={value!r} is not one of {choices}{advice}")
    if hint is tuple or origin is tuple:
        return _convert_tuple(arguments, value, path, root)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not _is_mapping(value):
            raise ValueError(f"{path}={value!r} is not a {_name(hint)}")
        return {k: _convert(arguments[1], v, _join(path, k), root) for k, v in value.items()}
    if hint is Any:
        return value
    is_bool = isinstance(value, bool)
    if hint is float and isinstance(value, numbers.Real) and not is_bool:
        return float(value)
    if hint is int and isinstance(value, numbers.Integral) and not is_bool:
        return int(value)
    if hint in (bool, str) and isinstance(value, hint):
        return value
    if hint in (None, type(None)) and value is None:
        return None
    if hint not in (bool, int, float, str, None, type(None)):
        raise TypeError(f"{path}: build() does not know the annotation {hint!r}")
    raise ValueError(
        f"{path}={value!r} is a {type(value).__name__}, not a {_name(hint)}{_way_out(hint, value)}"
    )


def _read(hint, text):
    """Returns the str `text` as the Python value a person means by it where `hint` is expected."""
    members = _members(hint)
    if type(None) in members and text.lower() == "none":
        return None
    members = [member for member in members if member is not type(None)]
    if members == [str] or any(str(text) in typing.get_args(member) for member in members):
        return str(text)
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return str(text)


def _convert_union(hint, value, path, root):
    members = typing.get_args(hint)
    if value is None and type(None) in members:
        return None
    members = [member for member in members if member is not type(None)]
    if len(members) == 1:
        return _convert(members[0], value, path, root)
    for member in members:
        if member is type(value):  # an int stays an int in `float | int`
            return value
    for member in members:
        try:
            return _convert(member, value, path, root)
        except ValueError:
            continue
    raise ValueError(f"{path}={value!r} is a {type(value).__name__}, not a {_name(hint)}")


def _convert_tuple(arguments, value, path, root):
    if isinstance(value, str) or not isinstance(value, Sequence):
        way_out = f"; write ({value!r},)" if isinstance(value, str | numbers.Number) else ""
        raise ValueError(f"{path}={value!r} is a {type(value).__name__}, not a tuple{way_out}")
    if not arguments:
        return tuple(value)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        raise ValueError(f"{path}={value!r} has {len(value)} entries; it takes {len(arguments)}")
    pairs = zip(arguments, value, strict=True)
    return tuple(_convert(hint, v, f"{path}[{i}]", root) for i, (hint, v) in enumerate(pairs))


def _nearest(key, path, fields, root):
    """Returns advice for an unknown key: a similar name here, one elsewhere, or all names."""
    near = difflib.get_close_matches(str(key), fields, n=1)
    near += [name for name in fields if name.startswith(str(key))]
    if near:
        return f"did you mean {_join(path, near[0])}?"
    dotted_names = sorted((row[0] for row in describe(root)), key=lambda name: -name.count("."))
    elsewhere = {dotted.rpartition(".")[2]: dotted for dotted in dotted_names}
    near = difflib.get_close_matches(str(key), elsewhere, n=1, cutoff=0.8)
    if near:
        return f"did you mean {elsewhere[near[0]]}?"
    return f"{path or 'the configuration'} has the keys {', '.join(fields) or '(none)'}"


def _describe(cls, prefix, instance):
    hints = typing.get_type_hints(cls)
    rows = []
    for field in dataclasses.fields(cls):
        hint, dotted, default = hints[field.name], _join(prefix, field.name), field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if isinstance(instance, cls):
            default = getattr(instance, field.name)
        parts = [member for member in _members(hint) if dataclasses.is_dataclass(member)]
        if not parts or default is None:
            text = "" if default is dataclasses.MISSING else repr(default)
            rows.append((dotted, _name(hint), text))
        for part in parts:
            rows += _describe(part, dotted, default)
    return rows


def _members(hint):
    """Returns the annotations of which `hint` is the union; (hint,) if it is none."""
    return typing.get_args(hint) if typing.get_origin(hint) in _UNION else (hint,)


def _is_mapping(value) -> typing.TypeGuard[Mapping]:
    return isinstance(value, Mapping) or callable(getattr(value, "items", None))


def _way_out(hint, value):
    if hint is int and isinstance(value, float) and value.is_integer():
        return f"; write {int(value)}"
    if hint is bool and value in (0, 1):
        return f"; write {bool(value)}"
    return ""


def _join(path, key):
    return f"{path}.{key}" if path else str(key)


def _at(path):
    return f"{path}: " if path else ""


def _brief(value):
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _name(hint):
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
