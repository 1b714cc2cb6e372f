"""YAML from strangers: what is refused besides what YAML itself refuses."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from cpsc.errors import ConfigError
from tuning.study.yaml_loader import MAX_BYTES, dump_yaml, load_yaml, read_mapping, unquoted

MERGE_BOMB = f"a0: &a0 {{{', '.join(f'k{key}: 0' for key in range(9))}}}\n" + "".join(
    f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 9)}]}}\n" for level in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a"),
        ("a:\n  b: 1\n  'b': 2\n", 3, "b"),
        ("[{a: 1, b: 2, a: 1}]", 1, "a"),
        ("1: a\n1: b\n", 2, "1"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_line(text: str, line: int, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^line {line} not valid YAML \(key '{key}' appears twice in one mapping, remove one\)"):
        load_yaml(text)


def test_the_same_key_in_two_mappings_is_fine() -> None:
    assert load_yaml("a: {x: 1}\nb: {x: 1}\n") == {"a": {"x": 1}, "b": {"x": 1}}


def test_a_merged_key_may_be_overridden() -> None:
    text = "base: &base {x: 1, y: 1}\nmore: &more {<<: *base, z: 1}\na: {<<: *more, x: 2}\nb: {<<: [*base, *more], z: 3}\n"
    loaded = load_yaml(text)
    assert loaded["a"] == {"x": 2, "y": 1, "z": 1}
    assert loaded["b"] == {"x": 1, "y": 1, "z": 3}


def test_merges_that_multiply_take_no_time() -> None:
    started = time.monotonic()
    with suppress(ConfigError):  # from 6.0.4 on PyYAML itself takes each key once
        load_yaml(MERGE_BOMB)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("text", ["a: &a {<<: *a}", "a: &a {<<: [*a, *a]}", "a: {<<: [1]}", "a: {<<: b}"])
def test_merges_that_make_no_sense_are_refused_at_once(text: str) -> None:
    started = time.monotonic()
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_yaml(text)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "number", ["0x" + "F" * 5000, "-0b" + "1" * 5000, "[{a: 0x" + "F" * 300 + "}]", "? 0x" + "F" * 300 + "\n: 1"]
)
def test_a_number_beyond_floating_point_is_refused(number: str) -> None:
    with pytest.raises(ConfigError, match="more than 1024 bits"):
        load_yaml(number)


def test_a_file_of_no_end_is_refused_without_being_read_whole(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"more than {MAX_BYTES} bytes"):
        read_mapping(Path("/dev/zero"), keys="name")
    (tmp_path / "large.yaml").write_text("a: 1\n" + "#" * MAX_BYTES)
    with pytest.raises(ConfigError, match=f"must be a mapping with name, got more than {MAX_BYTES} bytes"):
        read_mapping(tmp_path / "large.yaml", keys="name")


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "marked.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_mapping(tmp_path / "marked.yaml", keys="a") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        ("-2e+4", -2e4),
        (".5e3", 500.0),
        ("+.5", 0.5),
        ("1.", 1.0),
        ("00.5", 0.5),
        ("1_000", 1000),
        ("1_000.5", 1000.5),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b101", 5),
        ("-0", 0),
        ("!!float 1e-3", 0.001),
        ("yes", True),
        ("Off", False),
        ("y", "y"),
        ("~", None),
        ("2024-01-01", "2024-01-01"),
        ("=", "="),
        ("'1e-3'", "1e-3"),
        ("1e-3f", "1e-3f"),
        ("1_", "1_"),
        ("0x", "0x"),
        ("127.0.0.1:5000", "127.0.0.1:5000"),
        ("inf", "inf"),
        ("[1e-3, 1e-2]", [0.001, 0.01]),
    ],
)
def test_a_plain_value_is_what_people_mean_by_it(text: str, value: Any) -> None:
    loaded = load_yaml(text)
    assert (loaded, type(loaded)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 012", "line 1: 012 is an octal number to some YAML readers"),
        ("a: 1\nb: [1, -007]", "line 2: -007 is an octal number to some YAML readers"),
        ("a: 089", "089 is an octal number"),
        ("a: 1:30", "1:30 is a base-60 number to some YAML readers"),
        ("a: 12:30:45.5", "is a base-60 number"),
        ("12:30: a", "is a base-60 number"),
        ("a: 1e999", "1e999 is too large for floating point"),
        ("a: -1e-999", "-1e-999 is too small for floating point"),
        ("a: !!int '012'", "012 is an octal number"),
        ("a: !!int 1e3", "not valid YAML ('1e3' is not a valid int)"),
        ("a: !!bool maybe", "not valid YAML ('maybe' is not a valid bool)"),
    ],
)
def test_a_number_that_is_read_in_two_ways_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_yaml(text)
    assert said in str(caught.value)


def test_a_file_of_rays_is_read_as_ray_does() -> None:
    text = "[1e-3, 012, 1:30, yes]"
    assert load_yaml(text, as_ray_does=True) == yaml.safe_load(text) == ["1e-3", 10, 90, True]


LOOK_ALIKES = [
    "1e-3",
    "012",
    "089",
    "0o17",
    "1:30",
    "2024-01-01",
    "yes",
    "1_000",
    "1.",
    ".inf",
    "=",
    "",
    "~",
    "<<",
    "1_0e3",
    "a: b",
]


@pytest.mark.parametrize("value", [*LOOK_ALIKES, None, True, 1e-5, 1e20, 0.5, 1000, [1e-3, "1e-3"], {"1e3": 1}])
def test_what_is_written_is_read_back_by_us_and_by_others(value: Any) -> None:
    written = dump_yaml({"a": value})
    assert load_yaml(written) == yaml.safe_load(written) == {"a": value}


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 0.001), ("no", False), ("null", None), ("5", 5), ("x", "x"), ("", ""), ("012", "012")]
)
def test_a_text_tells_what_it_would_be_without_quotes(text: str, value: Any) -> None:
    assert unquoted(text) == value
