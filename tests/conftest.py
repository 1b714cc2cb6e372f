"""The study that most tests begin with."""

from typing import Any

import pytest

from tests.support.studies import tiny_study


@pytest.fixture
def study() -> dict[str, Any]:
    return tiny_study()
