"""What Ray Tune is kept from doing by itself."""

from typing import Any

import pytest
from ray.air._internal import usage
from ray.tune import Callback
from ray.tune.execution.tune_controller import TuneController

from tuning.cluster.ray_compat import callbacks_not_counted, without_snapshots


def test_ray_takes_no_snapshot_but_the_one_that_it_reads_back(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[dict[str, Any]] = []

    def snapshot(controller: TuneController, **options: Any) -> None:
        taken.append(options)

    monkeypatch.setattr(TuneController, "checkpoint", snapshot)
    controller = TuneController.__new__(TuneController)
    with without_snapshots():
        controller.checkpoint()
        controller.checkpoint(force=True, wait=True)
    assert taken == [{"force": True, "wait": True}]
    assert TuneController.checkpoint is snapshot


def test_ray_takes_its_snapshots_again_after_a_sweep_that_failed() -> None:
    before = TuneController.checkpoint
    with pytest.raises(KeyError), without_snapshots():
        raise KeyError
    assert TuneController.checkpoint is before


def test_no_tracker_is_imported_to_count_callbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[Any] = []
    monkeypatch.setattr(usage, "_count_callbacks", counted.append)
    with callbacks_not_counted():
        usage.tag_callbacks([Callback()])
    assert counted == []
    usage.tag_callbacks([Callback()])
    assert len(counted) == 1, "Ray counts as before after a sweep"
