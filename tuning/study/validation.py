"""Validation of file contents against types, with pydantic's report reduced to one readable line."""

import functools
import reprlib
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import CoreSchema, SchemaValidator

from cpsc.errors import ConfigError
from tuning.study.near_misses import hint
from tuning.study.yaml_loader import unquoted

T = TypeVar("T")

SCALARS = ("bool", "int", "float", "str")
"""Types for which pydantic, unless strict, converts True and '1' to numbers, and 1 and 'yes' to True."""

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist, _SHORT.maxstring, _SHORT.maxlong, _SHORT.maxother = 4, 8, 12, 80, 80, 80


def validate(adapter: TypeAdapter[T], raw: Any, *, where: str) -> T:
    """`raw` as the adapter's type. ConfigError names `where`, path, rule and value of the first mistake.

    Values are not converted between types, except that an integer is accepted as a float, and lists and mappings stand for
    tuples and dataclasses.
    """
    try:
        return cast(T, _validator(adapter).validate_python(raw))
    except ValidationError as error:
        raise ConfigError(_one_line(error, adapter, where)) from error
    except ConfigError as error:
        section = where.rsplit(".", 1)[-1]
        raise ConfigError(f"{where}.{str(error).removeprefix(f'{section}.')}") from error


def format_value(value: Any) -> str:
    """`value` for an error message, shortened if it is long: it may be a whole file."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python does not print integers of more than a few thousand digits
        return f"a {type(value).__name__} that is too long to print"


def said_as_text(value: Any) -> str:
    """A hint for text where another type is needed: in a message, the quotes around a number are easily overlooked."""
    return ", a text: write it without quotes" if isinstance(value, str) and not isinstance(unquoted(value), str) else ""


def _wants_quotes(value: Any) -> str:
    return ": write it in quotes if it is meant as text" if isinstance(value, bool | int | float) else ""


@functools.lru_cache
def _validator(adapter: TypeAdapter[Any]) -> SchemaValidator:
    return SchemaValidator(cast(CoreSchema, _strict_in_scalars(adapter.core_schema)))


def _strict_in_scalars(schema: Any) -> Any:
    """`schema` with strict scalars. pydantic's own strict mode would also require instances of dataclasses and tuples.

    Dataclasses also refuse unknown keys, so that a user's own method need not configure that.
    """
    if isinstance(schema, list | tuple):
        return type(schema)(map(_strict_in_scalars, schema))
    if not isinstance(schema, dict):
        return schema
    strict: dict[str, Any] = {"strict": True} if schema.get("type") in SCALARS else {}
    if schema.get("type") == "dataclass":
        strict = {"config": {"extra_fields_behavior": "forbid", **schema.get("config", {})}}
    return {key: _strict_in_scalars(value) for key, value in schema.items()} | strict


def _one_line(error: ValidationError, adapter: TypeAdapter[Any], where: str) -> str:
    details = error.errors(include_url=False)
    first = details[0]
    path = ".".join([where, *(str(part) for part in first["loc"])])
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        name = str(first["loc"][-1])
        message = f"unknown key{hint(name, _names(adapter.json_schema()))}"
    elif first["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        message = "is missing"
    else:
        rule = first["msg"].removeprefix("Value error, ")
        value = first["input"]
        remark = _wants_quotes(value) if first["type"] == "string_type" else said_as_text(value)
        message = f"{rule[0].lower()}{rule[1:]}, got {format_value(value)}{remark}"
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return f"{path}: {message}{more}"


def _names(schema: dict[str, Any]) -> list[str]:
    """Every key of the schema, at any level: close matches are searched among all of them."""
    names = list(schema.get("properties", {}))
    for definition in schema.get("$defs", {}).values():
        names += definition.get("properties", {})
    return names
