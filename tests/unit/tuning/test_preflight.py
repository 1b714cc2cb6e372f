"""Nodes that cannot take trials are told from those that can, before one is lost there."""

from dataclasses import replace
from pathlib import Path

import pytest

from tuning.cluster.preflight import MeetingPoint, UnfitNodeError, versions
from tuning.storage import Storage


@pytest.fixture
def point(tmp_path: Path) -> MeetingPoint:
    return MeetingPoint.open(Storage(str(tmp_path / "shared")), "launch")


def test_a_node_like_the_driver_passes_and_leaves_nothing(point: MeetingPoint, tmp_path: Path) -> None:
    point.receive(point.visit())
    point.close()
    assert not any((tmp_path / "shared" / "launch").iterdir())


def test_another_version_is_named(point: MeetingPoint) -> None:
    other = replace(point, versions=versions() | {"torch": "1.0"})
    with pytest.raises(UnfitNodeError, match=rf"has torch {versions()['torch']}, the driver 1.0; install the same"):
        other.visit()


def test_a_folder_of_the_nodes_own_is_noticed_from_either_side(point: MeetingPoint, tmp_path: Path) -> None:
    private = Storage(str(tmp_path / "private"))
    with pytest.raises(UnfitNodeError, match="every node must reach the same storage"):
        replace(point, storage=private).visit()
    strangers = replace(point, storage=private, token=b"other")
    private.write_token(f"{point.folder}/driver", b"other")
    with pytest.raises(UnfitNodeError, match="here it is not"):
        point.receive(strangers.visit())
    with pytest.raises(UnfitNodeError, match="holds other files there"):
        replace(point, storage=private).visit()
