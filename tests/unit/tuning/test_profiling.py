"""A trace of training steps, counted from outside the training code."""

import gzip
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from cpsc.errors import ConfigError
from tuning.replay.profiler import WARMUP_STEPS, StepProfiler, check_trace_file


def train(steps: int) -> None:
    """Steps of two optimizers in turn, as generator and student have."""
    networks = [nn.Linear(4, 4), nn.Linear(4, 2)]
    optimizers = [torch.optim.SGD(networks[0].parameters(), lr=0.1), torch.optim.Adam(networks[1].parameters(), lr=0.1)]
    for step in range(steps):
        networks[1](networks[0](torch.ones(3, 4))).sum().backward()
        optimizers[step % 2].step()


def profiled(steps: int, *, wanted: int) -> StepProfiler:
    profiler = StepProfiler(wanted)
    with profiler.watching():
        train(steps)
    train(5)  # after the block nobody counts
    return profiler


@pytest.mark.parametrize(("steps", "expected"), [(WARMUP_STEPS + 9, 2), (WARMUP_STEPS + 1, 1)])
def test_the_trace_holds_the_wanted_steps_or_as_many_as_there_are(steps: int, expected: int, tmp_path: Path) -> None:
    profiler = profiled(steps, wanted=2)
    assert profiler.num_profiled == expected
    table = profiler.write(tmp_path / "trace.json")
    names = [event.get("name", "") for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]]
    assert names.count("aten::linear") == 2 * expected
    assert "# of Calls" in table
    assert [file.name for file in tmp_path.iterdir()] == ["trace.json"]


def test_a_trace_can_be_compressed(tmp_path: Path) -> None:
    profiled(WARMUP_STEPS + 2, wanted=1).write(tmp_path / "trace.json.gz")
    assert "traceEvents" in json.loads(gzip.decompress((tmp_path / "trace.json.gz").read_bytes()))


def test_too_few_steps_are_told_and_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"needs more than {WARMUP_STEPS} training steps, but there were {WARMUP_STEPS}"):
        profiled(WARMUP_STEPS, wanted=2).write(tmp_path / "trace.json")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["trace", "trace.txt", "trace.gz"])
def test_a_trace_is_called_as_viewers_expect(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must be a file whose name ends in \.json or \.json\.gz"):
        check_trace_file(tmp_path / name)
    check_trace_file(tmp_path / "trace.json")
