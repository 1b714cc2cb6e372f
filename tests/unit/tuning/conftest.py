"""A small valid study, as content and as a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Write = Callable[[Any], Path]


@pytest.fixture
def raw() -> dict[str, Any]:
    """The content of a valid study file; each test gets its own."""
    return {
        "name": "small",
        "config": {
            "dataset": "digits",
            "teacher": {"arch": "wrn_10_1", "epochs": 5},
            "student": {"arch": "wrn_10_1", "warmup_epochs": 1},
            "epochs": 9,
        },
        "space": {
            "weights.contrast": {"loguniform": [0.05, 5]},
            "student.lr": {"uniform": [0.02, 0.3]},
            "schedule.student_steps": {"randint": [1, 6]},
            "cpsc.contrast": {"choice": ["teacher_anchor", "two_view"]},
        },
    }


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a study file, from its content or from text, and returns its path."""

    def write_study(content: Any) -> Path:
        path = tmp_path / "study.yaml"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
        return path

    return write_study
