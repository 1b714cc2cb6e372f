"""Profiler of a trial's training steps: a trace for Chrome or Perfetto, and the costliest operations as a table."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.profiler import ProfilerActivity, profile

from cpsc.atomic_file import atomic_path
from cpsc.errors import ConfigError
from tuning.process_settings import unless_set, variables

WARMUP_STEPS = 3
"""Steps that are not profiled: the first ones select kernels and allocate memory that later ones reuse."""
TABLE_ROWS, NAME_WIDTH = 12, 44
SUFFIXES = (".json", ".json.gz")
SILENT = "7"
"""A log level above all of the profiler's library, which would report on stderr whenever it starts and stops."""


class StepProfiler:
    """Profiles `steps` optimizer steps, of any network, after the first `WARMUP_STEPS`.

    A whole epoch would be gigabytes of events. Steps are counted by a hook that torch calls after every optimizer step, so the
    training code needs no changes.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._profile = profile(activities=_activities())
        self._seen = 0
        self._is_on = False

    @property
    def num_profiled(self) -> int:
        """Number of steps in the trace so far."""
        return min(max(0, self._seen - WARMUP_STEPS), self._steps)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Profile the optimizer steps inside the block."""
        handle = register_optimizer_step_post_hook(self._after_step)
        with variables(unless_set({"KINETO_LOG_LEVEL": SILENT})):
            try:
                yield
            finally:
                handle.remove()
                self._stop()

    def write(self, file: Path) -> str:
        """Write the trace atomically -> the table of the costliest operations. ConfigError if no step was profiled."""
        if not self.num_profiled:
            raise ConfigError(
                f"--profile: needs more than {WARMUP_STEPS} training steps, but there were {self._seen}; run more epochs"
            )
        with atomic_path(file) as temporary:
            self._profile.export_chrome_trace(str(temporary))
        order = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        rows = self._profile.key_averages()
        return str(rows.table(sort_by=order, row_limit=TABLE_ROWS, max_name_column_width=NAME_WIDTH))

    def _after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self._seen += 1
        if self._seen == WARMUP_STEPS:
            self._profile.start()
            self._is_on = True
        elif self._seen == WARMUP_STEPS + self._steps:
            self._stop()

    def _stop(self) -> None:
        if self._is_on:
            self._profile.stop()
        self._is_on = False


def check_trace_file(file: Path) -> None:
    """Raise ConfigError unless `file` is a name that trace viewers open."""
    if not file.name.endswith(SUFFIXES) or file.is_dir():
        raise ConfigError(f"--profile: must be a file whose name ends in {' or '.join(SUFFIXES)}, got {file}")


def _activities() -> list[ProfilerActivity]:
    return [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
