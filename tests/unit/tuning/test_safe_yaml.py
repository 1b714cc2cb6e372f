"""YAML from strangers: what is refused besides what YAML itself refuses."""

import time
from pathlib import Path

import pytest

from cpsc.errors import ConfigError
from tuning.safe_yaml import MAX_BYTES, load_yaml, read_mapping

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
    with pytest.raises(ConfigError, match=rf"^line {line} not valid YAML \(key '{key}' stands twice in one mapping, remove one\)"):
        load_yaml(text)


def test_the_same_key_in_two_mappings_is_fine() -> None:
    assert load_yaml("a: {x: 1}\nb: {x: 1}\n") == {"a": {"x": 1}, "b": {"x": 1}}


def test_a_merged_key_may_be_overridden() -> None:
    text = "base: &base {x: 1, y: 1}\nmore: &more {<<: *base, z: 1}\na: {<<: *more, x: 2}\nb: {<<: [*base, *more], z: 3}\n"
    loaded = load_yaml(text)
    assert loaded["a"] == {"x": 2, "y": 1, "z": 1}
    assert loaded["b"] == {"x": 1, "y": 1, "z": 3}


@pytest.mark.parametrize("text", [MERGE_BOMB, "a: &a {<<: *a}", "a: &a {<<: [*a, *a]}", "a: {<<: [1]}", "a: {<<: b}"])
def test_merges_that_multiply_or_make_no_sense_are_refused_at_once(text: str) -> None:
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
