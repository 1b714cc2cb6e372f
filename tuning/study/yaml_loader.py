"""A safe YAML loader: plain values only, a limited number of them, unique keys, and one kind of error.

Plain values are read as people mean them, close to YAML 1.2: PyYAML's 1.1 reads ``1e-3`` as text, ``012`` as ten, ``1:30`` as
ninety and a date as an object. Values that YAML readers disagree about are refused.
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
"""Largest integer: that is where floating point ends, and Python refuses to print integers of a few thousand digits."""

_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_NULL, _BOOL = r"~|null|Null|NULL|", r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF"
_INT = r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*|0x[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*|0o[0-7]+(?:_[0-7]+)*|0b[01]+(?:_[01]+)*)"
_NOT_FINITE = r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
_FLOAT = rf"[-+]?(?:{_DIGITS}\.(?:{_DIGITS})?|\.{_DIGITS}|{_DIGITS}(?=[eE]))(?:[eE][-+]?[0-9]+)?|{_NOT_FINITE}"
_AMBIGUOUS = rf"[-+]?(?:0(?:_?[0-9])+|{_DIGITS}(?::[0-5]?[0-9])+(?:\.[0-9_]*)?)"
"""Octal numbers of YAML 1.1, which YAML 1.2 reads as decimal, and base-60 numbers, which it reads as text."""
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
"""Types of plain values by their form; everything else is text, including dates."""
_FIRST = {_NULL_TAG: ["~", "n", "N", ""], _BOOL_TAG: list("yYnNtTfFoO")}
_FIRST_OF_NUMBERS = list("-+.0123456789")


def read_mapping(path: Path, *, keys: str, as_ray_does: bool = False) -> dict[str, Any]:
    """The file's content. ConfigError, without the path, if it cannot be read or is not a mapping; `keys`: the keys to expect."""
    text = read_text(path, kind=f"a mapping with {keys}", no_text="not valid YAML (not UTF-8 text)")
    loaded = load_yaml(text, as_ray_does=as_ray_does)
    if not isinstance(loaded, dict):
        raise ConfigError(f"must be a mapping with {keys}, got {type(loaded).__name__}")
    return loaded


def read_text(path: Path, *, kind: str, no_text: str) -> str:
    """The text of a short file that a person writes. ConfigError, without the path, if it cannot be read or is too long.

    `kind`: what the file should be, for the message; `no_text`: the message for bytes that are not text.
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
    """Load safe YAML as a tree. ConfigError if it is malformed, contains itself, grows too large by aliases, or repeats a key.

    `as_ray_does`: read plain values strictly as YAML 1.1, for a file that Ray will read itself.
    """
    try:
        loaded = yaml.load(text, Loader=_Loader if as_ray_does else _PlainLoader)
    except ConfigError:
        raise
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1} " if mark else ""
        raise ConfigError(f"{line}not valid YAML ({getattr(error, 'problem', None) or getattr(error, 'reason', error)})") from error
    except Exception as error:  # PyYAML does not wrap errors of its constructors: bad dates, digits or tags, deep nesting
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
    """`tree` as YAML that `load_yaml` and any other reader reads back alike: text that looks like a number to one is quoted."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False)


def dump_inline(tree: Any) -> str:
    """The same in a single line, as a value after its key."""
    return yaml.dump([tree], Dumper=_Dumper, sort_keys=False, default_flow_style=True, width=math.inf).strip()[1:-1]


def unquoted(text: str) -> Any:
    """What `text` would mean in a file without quotes: a number, a boolean or null, or else `text` itself."""
    for tag in (_NULL_TAG, _BOOL_TAG, _INT_TAG, _FLOAT_TAG):
        if text and _PATTERNS[tag].match(text):
            with contextlib.suppress(ConfigError):  # a number that floating point cannot represent
                return _read(tag, text)
    return text


class _Loader(yaml.SafeLoader):
    """The safe loader, but a key may appear only once per mapping: PyYAML would silently take the last one."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    problem = f"key {key.value!r} appears twice in one mapping, remove one"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add((key.tag, key.value))
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge the mappings named by ``<<`` under the node's own keys, with a limit: nested merges could make millions."""
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
    """The same, with plain values read according to `_PATTERNS`."""

    yaml_implicit_resolvers = {"<": [(f"{_CORE}merge", re.compile(r"<<\Z"))]}  # noqa: RUF012, as in the parent class

    def construct_plain(self, node: yaml.Node) -> Any:
        """A plain value read by `_read`, also if an explicit tag gives its type."""
        try:
            return _read(node.tag, self.construct_scalar(node))  # type: ignore[arg-type]
        except ConfigError as error:
            raise ConfigError(f"line {node.start_mark.line + 1}: {error}") from error


class _Dumper(yaml.SafeDumper):
    """Writes quotes wherever a reader of either YAML version needs them."""


def _read(tag: str, text: str) -> Any:
    """The value of a scalar with that tag. ValueError if it does not match the tag, ConfigError if it is ambiguous."""
    if tag == _AMBIGUOUS_TAG or _PATTERNS[_AMBIGUOUS_TAG].match(text):
        what = "is a base-60 number" if ":" in text else "is an octal number"
        raise ConfigError(f"{text} {what} to some YAML readers, write the number you mean, or '{text}' if it is text")
    if not _PATTERNS[tag].match(text):
        raise ValueError(f"{text!r} is not a valid {tag.removeprefix(_CORE)}")
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
        raise ConfigError(f"{text} is {'too large' if value else 'too small'} for floating point")
    return value


for _tag, _pattern in _PATTERNS.items():
    for _class in (_PlainLoader, _Dumper):
        _class.add_implicit_resolver(_tag, _pattern, _FIRST.get(_tag, _FIRST_OF_NUMBERS))
    _PlainLoader.add_constructor(_tag, _PlainLoader.construct_plain)


def to_plain(value: Any) -> Any:
    """`value` with tuples as lists, as safe YAML requires."""
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    return [to_plain(item) for item in value] if isinstance(value, list | tuple) else value
