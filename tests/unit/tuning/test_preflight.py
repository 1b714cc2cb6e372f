"""Nodes that cannot take trials are told from those that can, before one is lost there."""

from dataclasses import replace
from pathlib import Path

import pytest

from tuning.storage import Storage
from tuning.trial.handshake import StorageHandshake, UnfitNodeError, versions


@pytest.fixture
def handshake(tmp_path: Path) -> StorageHandshake:
    return StorageHandshake.open(Storage(str(tmp_path / "shared")), "launch")


def test_a_node_like_the_driver_passes_and_leaves_nothing(handshake: StorageHandshake, tmp_path: Path) -> None:
    handshake.confirm(handshake.check_in())
    handshake.close()
    assert not any((tmp_path / "shared" / "launch").iterdir())


def test_another_version_is_named(handshake: StorageHandshake) -> None:
    other = replace(handshake, versions=versions() | {"torch": "1.0"})
    with pytest.raises(UnfitNodeError, match=rf"has torch {versions()['torch']}, but the driver has 1.0; install the same version"):
        other.check_in()


def test_a_folder_of_the_nodes_own_is_noticed_from_either_side(handshake: StorageHandshake, tmp_path: Path) -> None:
    private = Storage(str(tmp_path / "private"))
    with pytest.raises(UnfitNodeError, match="every node must reach the same storage"):
        replace(handshake, storage=private).check_in()
    strangers = replace(handshake, storage=private, token=b"other")
    private.write_token(f"{handshake.folder}/driver", b"other")
    with pytest.raises(UnfitNodeError, match="the driver does not find it there"):
        handshake.confirm(strangers.check_in())
    with pytest.raises(UnfitNodeError, match="holds other files there"):
        replace(handshake, storage=private).check_in()
