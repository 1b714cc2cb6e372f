"""Pydantic's report in one line."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from pydantic import TypeAdapter

from cpsc.errors import ConfigError
from tuning.study.validation import format_value, validate


@dataclass(frozen=True, kw_only=True)
class Inner:
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    width: int
    label: str = "a"

    def __post_init__(self) -> None:
        if self.width < 0:
            raise ConfigError(f"inner.width must be >= 0, got {self.width}")
        if self.width > 9:
            raise ValueError("Too wide")


@dataclass(frozen=True, kw_only=True)
class Outer:
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    inner: Inner = field(default_factory=lambda: Inner(width=1))
    items: tuple[int, ...] = ()


ADAPTER = TypeAdapter(Outer)


def refusal(raw: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(ADAPTER, raw, where="config")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_valid_content_becomes_the_type() -> None:
    assert validate(ADAPTER, {"inner": {"width": 3}, "items": [1, 2]}, where="config") == Outer(inner=Inner(width=3), items=(1, 2))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"innr": {}}, "config.innr: unknown key, did you mean inner?"),
        ({"inner": {"width": 1, "lable": "b"}}, "config.inner.lable: unknown key, did you mean label?"),
        ({"zzz": 1}, "config.zzz: unknown key"),
        ({"inner": {}}, "config.inner.width: is missing"),
        ({"inner": {"width": -1}}, "config.inner.width must be >= 0, got -1"),
        ({"inner": {"width": 10}}, "config.inner: too wide, got {'width': 10}"),
        ({"items": [1, "x"]}, "config.items.1: input should be a valid integer, got 'x'"),
        ({"items": [1, 2.5]}, "config.items.1: input should be a valid integer, got 2.5"),
        ({"inner": {"width": 1, "label": "\n"}, "b": 1}, "config.b: unknown key"),
        ({"inner": {"label": 1}}, "config.inner.width: is missing (and 1 more)"),
    ],
)
def test_the_first_mistake_is_told_in_one_line_and_the_others_counted(raw: Any, message: str) -> None:
    assert refusal(raw) == message


@pytest.mark.parametrize("raw", [None, 3, "text", [1], {1: 2}])
def test_content_of_another_kind_is_refused_with_its_value(raw: Any) -> None:
    message = refusal(raw)
    assert message.startswith("config")
    assert message.endswith(f"got {raw!r}" if not isinstance(raw, dict) else "got 1")


def test_the_cause_is_kept_for_debugging() -> None:
    with pytest.raises(ConfigError) as caught:
        validate(ADAPTER, {"zzz": 1}, where="config")
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("value", [5, "text", [1, 2.5], {"a": None}, 10**12, float("nan")])
def test_a_short_value_is_shown_whole(value: object) -> None:
    assert format_value(value) == repr(value)


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, ["x" * 10**5] * 1000, {str(key): key for key in range(10**4)}, 10**4000, 10**6000],
    ids=["text", "list", "mapping", "digits", "digits beyond printing"],
)
def test_a_long_value_is_shown_in_part(value: object) -> None:
    assert 0 < len(format_value(value)) < 2000
