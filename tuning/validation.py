"""From pydantic's report to the one line a person needs."""

import difflib
import reprlib
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from cpsc.errors import ConfigError

T = TypeVar("T")

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist, _SHORT.maxstring, _SHORT.maxlong, _SHORT.maxother = 4, 8, 12, 80, 80, 80


def validate(adapter: TypeAdapter[T], raw: Any, *, where: str) -> T:
    """`raw` as the adapter's type. ConfigError: `where`, path, rule and value of the first mistake."""
    try:
        return adapter.validate_python(raw)
    except ValidationError as error:
        raise ConfigError(_one_line(error, adapter, where)) from error
    except ConfigError as error:
        section = where.rsplit(".", 1)[-1]
        raise ConfigError(f"{where}.{str(error).removeprefix(f'{section}.')}") from error


def shown(value: Any) -> str:
    """`value` as an error message shows it: whole where it is short, for it may be a whole file."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python prints no integer of more than some thousand digits
        return f"a {type(value).__name__} that is too long to print"


def _one_line(error: ValidationError, adapter: TypeAdapter[Any], where: str) -> str:
    details = error.errors(include_url=False)
    first = details[0]
    path = ".".join([where, *(str(part) for part in first["loc"])])
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        name = str(first["loc"][-1])
        close = difflib.get_close_matches(name, _names(adapter.json_schema()), n=1)
        message = "unknown key" + (f", did you mean {close[0]}?" if close else "")
    elif first["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        message = "is missing"
    else:
        rule = first["msg"].removeprefix("Value error, ")
        message = f"{rule[0].lower()}{rule[1:]}, got {shown(first['input'])}"
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return f"{path}: {message}{more}"


def _names(schema: dict[str, Any]) -> list[str]:
    """Every key that the schema knows, at any level: near misses are looked for among all of them."""
    names = list(schema.get("properties", {}))
    for definition in schema.get("$defs", {}).values():
        names += definition.get("properties", {})
    return names
