"""YAML from strangers: plain values only, a bounded number of them, and one kind of error."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cpsc.errors import ConfigError

MAX_NODES = 10_000


def read_mapping(path: Path, *, keys: str) -> dict[str, Any]:
    """The file's content. ConfigError, without the path, where it cannot be read or is no mapping; `keys` tells its kind."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError("not valid YAML (not UTF-8 text)") from error
    loaded = load_yaml(text)
    if not isinstance(loaded, dict):
        raise ConfigError(f"must be a mapping with {keys}, got {type(loaded).__name__}")
    return loaded


def load_yaml(text: str) -> Any:
    """YAML's safe form as a tree. ConfigError where it is malformed, contains itself or multiplies by aliases."""
    try:
        loaded = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1} " if mark else ""
        raise ConfigError(f"{line}not valid YAML ({getattr(error, 'problem', None) or getattr(error, 'reason', error)})") from error
    except Exception as error:  # PyYAML lets through what its constructors meet: ill-formed dates, digits, tags; deep nesting
        raise ConfigError(f"not valid YAML ({error})") from error
    waiting, seen = [loaded], 0
    while waiting:
        node = waiting.pop()
        seen += 1
        if seen > MAX_NODES:
            raise ConfigError(f"not valid YAML (more than {MAX_NODES} values, or an alias that contains itself)")
        if isinstance(node, Mapping):
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
    return loaded
