import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from cpsc import checkpoint
from cpsc.errors import CheckpointError

PAYLOAD = {"version": 1, "weights": {"a": torch.arange(6.0).reshape(2, 3)}, "names": ("x", "y"), "score": 0.5, "none": None}


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_what_is_saved_is_read_back_with_its_types(tmp_path: Path) -> None:
    checkpoint.save(PAYLOAD, tmp_path / "run.pt")
    loaded = checkpoint.load(tmp_path / "run.pt", kind="run")
    assert torch.equal(loaded["weights"].pop("a"), PAYLOAD["weights"]["a"])
    assert loaded == PAYLOAD | {"weights": {}}


def test_missing_folders_are_made_and_results_are_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "run.pt"
    checkpoint.save(PAYLOAD, path)
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_a_failing_write_leaves_the_old_file_whole_and_no_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    checkpoint.save(PAYLOAD, path)
    old = path.read_bytes()
    with pytest.raises((pickle.PicklingError, AttributeError)):
        checkpoint.save({"weights": torch.zeros(1000), "unpicklable": lambda: None}, path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_block_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted(path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), checkpoint.atomic_path(tmp_path / "run.pt") as temporary:
        interrupted(temporary)
    assert list(tmp_path.iterdir()) == []


def test_the_old_file_is_there_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    path.write_bytes(b"old")
    with checkpoint.atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".pt"
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_a_full_disk_is_one_line_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    path.write_bytes(b"old")
    with (
        pytest.raises(CheckpointError, match=r"run.pt: writing failed \(No space left on device\), the previous file is intact"),
        checkpoint.atomic_path(path),
    ):
        raise OSError(28, "No space left on device")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"cannot be written .* choose a writable folder"):
        checkpoint.save(PAYLOAD, tmp_path / "file" / "run.pt")


def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    path, marker = tmp_path / "evil.pt", tmp_path / "marker"
    torch.save({"version": 1, "state": Touch(marker)}, path)
    with pytest.raises(CheckpointError, match="not a readable teacher file"):
        checkpoint.load(path, kind="teacher")
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the file is as dangerous as it claims
    assert marker.exists()


@pytest.mark.parametrize("kept", [0, 1, 10, 100, 0.3, 0.6, 0.9, 0.99])
def test_a_truncated_file_is_refused_in_one_line(kept: float, tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    checkpoint.save(PAYLOAD, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(
        CheckpointError, match=r"run.pt: not a readable run file \(truncated, corrupt or of another kind\)"
    ) as caught:
        checkpoint.load(path, kind="run")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"hello, this is text", b"\x00" * 64, pickle.dumps({"a": 1}, protocol=2)])
def test_a_file_of_another_kind_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"not a (readable )?run file"):
        checkpoint.load(path, kind="run")


@pytest.mark.parametrize("bit", [0, 5])
@pytest.mark.slow
def test_a_turned_bit_is_refused_or_without_effect(bit: int, tmp_path: Path) -> None:
    """In what the file holds it is refused; in what the archive says about itself it may be of no consequence."""
    path = tmp_path / "run.pt"
    checkpoint.save(PAYLOAD, path)
    whole, refused = path.read_bytes(), 0
    for position in range(0, len(whole), 3):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << bit]) + whole[position + 1 :])
        try:
            loaded = checkpoint.load(path, kind="run")
        except CheckpointError:
            refused += 1
        else:
            assert torch.equal(loaded["weights"]["a"], PAYLOAD["weights"]["a"])
            assert {**loaded, "weights": None} == {**PAYLOAD, "weights": None}
    assert refused > 100


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    """It could unpack to more than the machine holds."""
    checkpoint.save(PAYLOAD, tmp_path / "whole.pt")
    with (
        zipfile.ZipFile(tmp_path / "whole.pt") as whole,
        zipfile.ZipFile(tmp_path / "small.pt", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for entry in whole.infolist():
            small.writestr(entry.filename, whole.read(entry))
    with pytest.raises(CheckpointError, match="not a readable run file"):
        checkpoint.load(tmp_path / "small.pt", kind="run")


def test_a_file_without_what_is_needed_is_refused_by_its_name(tmp_path: Path) -> None:
    checkpoint.save(PAYLOAD, tmp_path / "run.pt")
    checkpoint.load(tmp_path / "run.pt", kind="run", needs=("weights", "none"))
    with pytest.raises(CheckpointError, match="not a run file, 'student' is missing"):
        checkpoint.load(tmp_path / "run.pt", kind="run", needs=("weights", "student"))


def test_a_file_that_holds_no_dict_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    torch.save(torch.zeros(2), tmp_path / "tensor.pt")
    with pytest.raises(CheckpointError, match="not a run file, it holds a Tensor"):
        checkpoint.load(tmp_path / "tensor.pt", kind="run")


@pytest.mark.parametrize("name", ["absent.pt", "."])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such probe set file"):
        checkpoint.load(tmp_path / name, kind="probe set")


@pytest.mark.parametrize("payload", [{"version": 2}, {}])
def test_another_format_is_refused_with_both_versions(payload: dict[str, int]) -> None:
    with pytest.raises(CheckpointError, match=f"run.pt: run has format {payload.get('version')}, but this version reads format 1"):
        checkpoint.check_version(payload, 1, path="run.pt", kind="run")
    checkpoint.check_version({"version": 1}, 1, path="run.pt", kind="run")


@pytest.mark.parametrize(
    ("version", "shown"), [(True, "True"), (1.0, "a float"), (torch.ones(2), "a Tensor"), (((),) * 3, "a tuple")]
)
def test_a_version_that_is_no_number_is_refused(version: object, shown: str) -> None:
    with pytest.raises(CheckpointError, match=f"run has format {shown}, but this version reads format 1"):
        checkpoint.check_version({"version": version}, 1, path="run.pt", kind="run")


@pytest.mark.parametrize("content", [b"a: 1\nb: 2\n", b"Readme first", b"Gold", b"Jo"])
def test_a_text_file_that_looks_like_pickle_operations_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a readable run file"):
        checkpoint.load(path, kind="run")
