"""YAML from strangers: plain values only, a bounded number of them, every key once, and one kind of error.

Plain values are read as people mean them, which is nearly YAML 1.2: PyYAML's 1.1 takes ``1e-3`` for text, ``012`` for ten,
``1:30`` for ninety and a date for an object. What two readers would read differently is refused.
"""

import contextlib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cpsc.errors import ConfigError

MAX_BYTES = 200_000
MAX_NODES = 10_000
MAX_BITS = 1024
"""Of an integer: floating point ends there, and beyond some thousand digits Python refuses to print one."""

_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_NULL, _BOOL = r"~|null|Null|NULL|", r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF"
_INT = r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*|0x[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*|0o[0-7]+(?:_[0-7]+)*|0b[01]+(?:_[01]+)*)"
_NOT_FINITE = r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
_FLOAT = rf"[-+]?(?:{_DIGITS}\.(?:{_DIGITS})?|\.{_DIGITS}|{_DIGITS}(?=[eE]))(?:[eE][-+]?[0-9]+)?|{_NOT_FINITE}"
_AMBIGUOUS = rf"[-+]?(?:0(?:_?[0-9])+|{_DIGITS}(?::[0-5]?[0-9])+(?:\.[0-9_]*)?)"
"""Octal numbers of YAML 1.1, which its successor reads as decimal, and numbers to the base of 60, which it reads as text."""
_CORE = "tag:yaml.org,2002:"
_NULL_TAG, _BOOL_TAG, _INT_TAG, _FLOAT_TAG, _AMBIGUOUS_TAG = (
    *(f"{_CORE}{kind}" for kind in ("null", "bool", "int", "float")),
    "!ambiguous",
)
_PATTERNS = {
    tag: re.compile(rf"(?:{pattern})\Z")
    for tag, pattern in {
        _NULL_TAG: _NULL,
        _BOOL_TAG: _BOOL,
        _INT_TAG: _INT,
        _FLOAT_TAG: _FLOAT,
        _AMBIGUOUS_TAG: _AMBIGUOUS,
    }.items()
}
"""What a plain value is by its looks; all else is text, dates among it."""
_FIRST = {_NULL_TAG: ["~", "n", "N", ""], _BOOL_TAG: list("yYnNtTfFoO")}
_FIRST_OF_NUMBERS = list("-+.0123456789")


def read_mapping(path: Path, *, keys: str, as_ray_does: bool = False) -> dict[str, Any]:
    """The file's content. ConfigError, without the path, where it cannot be read or is no mapping; `keys` tells its kind."""
    text = read_text(path, kind=f"a mapping with {keys}", no_text="not valid YAML (not UTF-8 text)")
    loaded = load_yaml(text, as_ray_does=as_ray_does)
    if not isinstance(loaded, dict):
        raise ConfigError(f"must be a mapping with {keys}, got {type(loaded).__name__}")
    return loaded


def read_text(path: Path, *, kind: str, no_text: str) -> str:
    """The text of a file that a person writes, which is short. ConfigError, without the path, where it cannot be read or is longer
    than `kind` is; `no_text`: what is said of bytes that are none.
    """
    try:
        with path.open("rb") as handle:
            content = handle.read(MAX_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(no_text) from error
    if len(content) > MAX_BYTES:
        raise ConfigError(f"must be {kind}, got more than {MAX_BYTES} bytes")
    return text


def load_yaml(text: str, *, as_ray_does: bool = False) -> Any:
    """YAML's safe form as a tree. ConfigError where it is malformed, contains itself, multiplies by aliases or repeats a key.

    `as_ray_does`: plain values by the letter of YAML 1.1, for a file that Ray will read itself.
    """
    try:
        loaded = yaml.load(text, Loader=_Loader if as_ray_does else _PlainLoader)
    except ConfigError:
        raise
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


def dump_yaml(tree: Any) -> str:
    """`tree` as `load_yaml`, and any other reader of YAML, reads it back: a text that looks like a number to one is quoted."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False)


def dump_inline(tree: Any) -> str:
    """The same in a single line, as a value behind its key."""
    return yaml.dump([tree], Dumper=_Dumper, sort_keys=False, default_flow_style=True, width=math.inf).strip()[1:-1]


def unquoted(text: str) -> Any:
    """What `text` would be in a file without its quotes: a number, a truth value or null; `text` itself where it is text."""
    for tag in (_NULL_TAG, _BOOL_TAG, _INT_TAG, _FLOAT_TAG):
        if text and _PATTERNS[tag].match(text):
            with contextlib.suppress(ConfigError):  # a number that floating point has not
                return _read(tag, text)
    return text


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


class _PlainLoader(_Loader):
    """The same, with plain values read as `_PATTERNS` say."""

    yaml_implicit_resolvers = {"<": [(f"{_CORE}merge", re.compile(r"<<\Z"))]}  # noqa: RUF012, as in the class above it

    def construct_plain(self, node: yaml.Node) -> Any:
        """A number, of whatever notation, by `_read`; also where a tag says in front that it is one."""
        try:
            return _read(node.tag, self.construct_scalar(node))  # type: ignore[arg-type]
        except ConfigError as error:
            raise ConfigError(f"line {node.start_mark.line + 1}: {error}") from error


class _Dumper(yaml.SafeDumper):
    """Writes quotes wherever a reader of either version needs them."""


def _read(tag: str, text: str) -> Any:
    """The value of a scalar of that tag. ValueError where it is none, ConfigError where it may be more than one."""
    if tag == _AMBIGUOUS_TAG or _PATTERNS[_AMBIGUOUS_TAG].match(text):
        what = "counts in sixties" if ":" in text else "is octal"
        raise ConfigError(f"{text} {what} to some readers of YAML, write the number that is meant, or '{text}' if it is text")
    if not _PATTERNS[tag].match(text):
        raise ValueError(f"{text!r} is no {tag.removeprefix(_CORE)}")
    if tag == _NULL_TAG:
        return None
    if tag == _BOOL_TAG:
        return text.lower() in ("yes", "true", "on")
    if tag == _INT_TAG:
        return int(text, base=0)
    return _read_float(text)


def _read_float(text: str) -> float:
    if re.fullmatch(_NOT_FINITE, text):
        return float(text.replace(".", "", 1))
    value = float(text)
    if math.isinf(value) or (value == 0 and re.search("[1-9]", re.split("[eE]", text)[0])):
        raise ConfigError(f"{text} is {'beyond' if value else 'too small for'} floating point")
    return value


for _tag, _pattern in _PATTERNS.items():
    for _class in (_PlainLoader, _Dumper):
        _class.add_implicit_resolver(_tag, _pattern, _FIRST.get(_tag, _FIRST_OF_NUMBERS))
    _PlainLoader.add_constructor(_tag, _PlainLoader.construct_plain)


def to_plain(value: Any) -> Any:
    """`value` with tuples as lists, as YAML's safe form wants it."""
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    return [to_plain(item) for item in value] if isinstance(value, list | tuple) else value
