"""YAML from strangers: plain values only, a bounded number of them, every key once, and one kind of error."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cpsc.errors import ConfigError

MAX_BYTES = 200_000
MAX_NODES = 10_000
MAX_BITS = 1024
"""Of an integer: floating point ends there, and beyond some thousand digits Python refuses to print one."""


def read_mapping(path: Path, *, keys: str) -> dict[str, Any]:
    """The file's content. ConfigError, without the path, where it cannot be read or is no mapping; `keys` tells its kind."""
    try:
        with path.open("rb") as handle:
            content = handle.read(MAX_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError("not valid YAML (not UTF-8 text)") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(f"must be a mapping with {keys}, got more than {MAX_BYTES} bytes")
    loaded = load_yaml(text)
    if not isinstance(loaded, dict):
        raise ConfigError(f"must be a mapping with {keys}, got {type(loaded).__name__}")
    return loaded


def load_yaml(text: str) -> Any:
    """YAML's safe form as a tree. ConfigError where it is malformed, contains itself, multiplies by aliases or repeats a key."""
    try:
        loaded = yaml.load(text, Loader=_Loader)
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
            waiting += [*node.keys(), *node.values()]
        elif isinstance(node, list | tuple):
            waiting += node
        elif isinstance(node, int) and node.bit_length() > MAX_BITS:
            raise ConfigError(f"not valid YAML (a number of more than {MAX_BITS} bits)")
    return loaded


class _Loader(yaml.SafeLoader):
    """The safe loader, where a key may stand once in a mapping: of two PyYAML would silently take the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    problem = f"key {key.value!r} stands twice in one mapping, remove one"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add((key.tag, key.value))
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Lay the mappings that ``<<`` names under the node's own keys; of many, each of many, there must not be millions."""
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for source in sources:
                    if isinstance(source, yaml.MappingNode):
                        self.flatten_mapping(source)
                if sum(len(source.value) for source in sources) > MAX_NODES:
                    raise yaml.constructor.ConstructorError(None, None, f"more than {MAX_NODES} merged keys", key.start_mark)
        super().flatten_mapping(node)
