"""Type checks for the fields of a settings class, run when one is built: Python itself accepts True as 1."""

import functools
import types
import typing
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Literal, TypeGuard, TypeVar

from cpsc.errors import ConfigError

T = TypeVar("T")

_WORDS = {int: "a whole number", float: "a number", bool: "True or False", str: "text", types.NoneType: "None"}


def is_count(value: object) -> TypeGuard[int]:
    """Whether `value` is a whole number above 0 (booleans are not)."""
    return type(value) is int and value > 0


def of_stated_kinds(path: str) -> Callable[[type[T]], type[T]]:
    """Make the decorated dataclass check the type of every field before its own ``__post_init__``.

    A number field rejects booleans and text, and an int field takes whole numbers only. A Literal takes its own values, a tuple
    also a list. The ConfigError names the field below `path`.
    """

    def decorate(cls: type[T]) -> type[T]:
        check_rules = cls.__dict__.get("__post_init__")

        def check(self: Any) -> None:
            for name, kind, is_of_kind in _checks(self.__class__):
                value = getattr(self, name)
                if not is_of_kind(value):
                    full = f"{path}.{name}" if path else name
                    raise ConfigError(f"{full} must be {_spoken(kind)}, got {value!r}")
            if check_rules is not None:
                check_rules(self)

        cls.__post_init__ = check  # type: ignore[attr-defined]
        return cls

    return decorate


@functools.cache
def _checks(cls: Any) -> list[tuple[str, Any, Callable[[object], bool]]]:
    hints = typing.get_type_hints(cls)
    return [(item.name, hints[item.name], _check_of(hints[item.name])) for item in fields(cls)]


def _check_of(kind: Any) -> Callable[[object], bool]:
    """A function that says whether a value is of `kind`. Built once, because a search builds thousands of settings."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        checks = [_check_of(option) for option in arguments]
        return lambda value: any(check(value) for check in checks)
    if origin is Literal:
        return lambda value: any(value == option and type(value) is type(option) for option in arguments)
    if origin is tuple:
        check_item = _check_of(arguments[0])
        return lambda value: isinstance(value, tuple | list) and all(map(check_item, value))
    if kind in (int, float):
        numbers = (int,) if kind is int else (int, float)
        return lambda value: isinstance(value, numbers) and not isinstance(value, bool)
    return lambda value: isinstance(value, origin or kind)


def _spoken(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(map(_spoken, arguments))
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        return f"a list, each {_spoken(arguments[0])}"
    return _WORDS.get(kind) or f"a {getattr(kind, '__name__', kind)}"
