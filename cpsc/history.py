"""History of a run: the metrics of its epochs, and the student of the best one."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from cpsc.curves import curve_statistics
from cpsc.errors import CheckpointError
from cpsc.measurement import Metrics
from cpsc.selection import CURVES, best_epoch


class RunHistory:
    """The metrics of a run's epochs so far, and the student's weights at the best epoch by `objective`."""

    def __init__(self, objective: str) -> None:
        self._objective = objective
        self.epochs: list[Metrics] = []
        self._best_student: dict[str, Tensor] | None = None
        self._since = 0

    @property
    def best_student(self) -> dict[str, Tensor]:
        """Weights of the student at the best epoch, the run's result."""
        if self._best_student is None:
            raise CheckpointError("no epoch is complete yet: there is no best student")
        return self._best_student

    @property
    def best_epoch(self) -> int:
        """Counted from 1; the last epoch if the objective is not measured; 0 before the first epoch is complete."""
        if len(self.epochs) == self._since or self._objective not in self.epochs[-1]:
            return len(self.epochs)
        return best_epoch(self._curve(self._objective), self._curve("probe_kl"))

    @property
    def best_metrics(self) -> Metrics:
        """What was measured at the best epoch; empty before the first epoch is complete."""
        return self.epochs[self.best_epoch - 1] if self.epochs else {}

    def add(self, metrics: Metrics, student: nn.Module) -> Metrics:
        """Add an epoch's `metrics`, and keep its `student` if it is the best so far -> running best and curve statistics."""
        self.epochs.append({name: metrics[name] for name in (*CURVES, "probe_kl") if name in metrics})
        best = self.best_epoch
        if best == len(self.epochs):
            self._best_student = {name: tensor.detach().clone() for name, tensor in student.state_dict().items()}
        running: Metrics = {"best_epoch": best}
        if self._objective in metrics:
            running[f"best_{self._objective}"] = self.epochs[best - 1][self._objective]
        for name in CURVES:
            if name in metrics:
                curve = curve_statistics([epoch[name] for epoch in self.epochs])
                running |= {f"{name}_mean": curve.mean, f"{name}_std": curve.std, f"{name}_max": curve.best}
                running |= {f"{name}_late_mean": curve.second_half_mean, f"{name}_late_std": curve.second_half_std}
        return running

    def begin_anew(self) -> None:
        """Exclude the epochs so far from the choice of the best one: they belong to the run that this one continues."""
        self._since = len(self.epochs)

    def state_dict(self) -> dict[str, Any]:
        epochs = [dict(metrics) for metrics in self.epochs]
        return {"history": epochs, "chosen_after": self._since, "best_student": self._best_student}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epochs = [dict(metrics) for metrics in state["history"]]
        self._since = state.get("chosen_after", 0)  # absent in states of earlier versions
        self._best_student = state["best_student"]

    def _curve(self, name: str) -> dict[int, float]:
        """The values of `name` by epoch, for the epochs that may be chosen."""
        own = enumerate(self.epochs[self._since :], start=self._since + 1)
        return {number: epoch[name] for number, epoch in own if name in epoch}
