"""Every mistake of a user is one line naming what, where and the rule, with exit status 2, before Ray starts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cpsc.data import DatasetConfig, load_dataset
from cpsc.teacher import Teacher, TeacherRecipe, train_teacher
from tests.conftest import run_cli, tiny_study, write_study
from tuning import cli

Change = Callable[[dict[str, Any], Path], None]


def _set(*path: str, value: Any) -> Change:
    def change(study: dict[str, Any], folder: Path) -> None:
        for key in path[:-1]:
            study = study.setdefault(key, {})
        study[path[-1]] = value

    return change


def _missing_teacher(study: dict[str, Any], folder: Path) -> None:
    study["config"]["teacher"] = {"path": str(folder / "absent.pt")}


def _corrupt_teacher(study: dict[str, Any], folder: Path) -> None:
    (folder / "teacher.pt").write_bytes(b"PK\x03\x04 not a bundle")
    study["config"]["teacher"] = {"path": str(folder / "teacher.pt")}


def _teacher_of_other_classes(study: dict[str, Any], folder: Path) -> None:
    digits = load_dataset(DatasetConfig(name="digits"))
    teacher = train_teacher(TeacherRecipe(arch="wrn_10_1", epochs=1, warmup_epochs=0, batch_size=512), digits, torch.device("cpu"))
    state = {name: tensor[:7] if name.startswith("fc.") else tensor for name, tensor in teacher.state.items()}
    fields = {**vars(teacher), "class_names": teacher.class_names[:7], "state": state}
    Teacher(**fields).save(folder / "seven.pt")
    study["config"]["teacher"] = {"path": str(folder / "seven.pt")}


def _weak_teacher(study: dict[str, Any], folder: Path) -> None:
    study["config"]["teacher"]["min_accuracy"] = 0.999


def _corrupt_parquet(study: dict[str, Any], folder: Path) -> None:
    for part in ("train", "test"):
        (folder / f"{part}-00000.parquet").write_bytes(b"PAR1 and then nothing")
    study["config"]["dataset"] = {"name": "cifar10", "path": str(folder)}


def _parquet_without_labels(study: dict[str, Any], folder: Path) -> None:
    for part in ("train", "test"):
        pq.write_table(pa.table({"img": [{"bytes": b"", "path": ""}]}), folder / f"{part}-00000.parquet")
    study["config"]["dataset"] = {"name": "cifar10", "path": str(folder)}


def _storage_below_a_file(study: dict[str, Any], folder: Path) -> None:
    (folder / "file").write_text("")
    study["storage"] = str(folder / "file" / "runs")


MISTAKES: dict[str, tuple[Change, str]] = {
    "unknown parameter": (
        _set("space", "weights.contrst", value={"uniform": [0, 1]}),
        "space.weights.contrst: unknown parameter, did you mean weights.contrast?",
    ),
    "range upside down": (
        _set("space", "weights.l2", value={"loguniform": [10, 0.1]}),
        "space.weights.l2.loguniform: lower must be below upper",
    ),
    "unknown sampling function": (_set("space", "weights.l2", value={"logunifrm": [0.1, 1]}), "did you mean loguniform?"),
    "range that leaves the rules": (
        _set("space", "student.momentum", value={"uniform": [0.5, 1.5]}),
        "student.momentum must be in [0, 1), got 1.5",
    ),
    "unknown key": (_set("config", "sede", value=1), "config.sede: unknown key, did you mean seed?"),
    "unknown section": (_set("serach", value={}), "study.serach: unknown key, did you mean search?"),
    "wrong type": (_set("config", "epochs", value="many"), "config.epochs: "),
    "unknown network": (_set("config", "student", "arch", value="wrn_17_2"), "wrn_17_2"),
    "unknown dataset": (_set("config", "dataset", value="mnist"), "config.dataset.name"),
    "missing dataset": (_set("config", "dataset", value={"name": "cifar10", "path": "absent"}), "absent is no folder"),
    "start outside the range": (_set("start", value=[{"weights.l2": 100}]), "start[0].weights.l2: 100 lies outside"),
    "name with a path in it": (_set("name", value="../elsewhere"), "name: must be letters"),
    "a GPU where there is none": (_set("resources", "gpus", value=64), "resources.gpus: 64 asked for"),
    "more processors than there are": (_set("resources", "cpus", value=4096), "resources.cpus: 4096 asked for"),
    "missing teacher": (_missing_teacher, "no such teacher file"),
    "corrupt teacher": (_corrupt_teacher, "not a readable teacher file"),
    "teacher of other classes": (_teacher_of_other_classes, "teacher was trained on 7 classes"),
    "teacher below the stated accuracy": (_weak_teacher, "below min_accuracy 99.90 %"),
    "corrupt Parquet": (_corrupt_parquet, "not a readable Parquet file"),
    "Parquet without labels": (_parquet_without_labels, "needs a column label"),
    "storage that cannot be written": (_storage_below_a_file, "cannot be written"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_status_2(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    change, expected = MISTAKES[mistake]
    study = tiny_study()
    study["storage"] = str(tmp_path / "runs")
    change(study, tmp_path)
    path = write_study(tmp_path / "study.yaml", study)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["cpsc-tune", "sweep", str(path), "--quiet"])
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("Ray must not start on a mistake"))
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    output = capfd.readouterr()
    assert stopped.value.code == 2
    assert output.out == ""
    assert len(output.err.strip().splitlines()) == 1, output.err
    assert output.err.startswith("error: ")
    assert expected in output.err
    assert not list(tmp_path.glob("runs/tiny*")), "a study that cannot run leaves no folder behind"
    assert not [file for file in tmp_path.rglob(".*") if file.is_file()], "no half-written file stays"


def test_a_weak_teacher_is_used_when_forced(tmp_path: Path) -> None:
    study = tiny_study()
    study["config"]["teacher"]["min_accuracy"] = 0.999
    done = run_cli("teacher", write_study(tmp_path / "study.yaml", study), "--force", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_process_itself_exits_with_2_and_no_traceback(tmp_path: Path) -> None:
    done = run_cli("sweep", tmp_path / "absent.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [f"error: {tmp_path / 'absent.yaml'}: cannot be read (No such file or directory)"]
    assert not any(tmp_path.iterdir())


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = run_cli("--debug", "sweep", tmp_path / "absent.yaml", cwd=tmp_path)
    assert "Traceback" in done.stderr


def test_a_dry_run_starts_and_writes_nothing(tmp_path: Path) -> None:
    path = write_study(tmp_path / "study.yaml", tiny_study())
    done = run_cli("sweep", path, "--dry-run", "--set", "weights.label=0.25", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "label: 0.25" in done.stdout
    assert "4 trials of up to 3 epochs" in done.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["study.yaml"]


def test_report_and_ui_say_that_there_is_nothing_yet(tmp_path: Path) -> None:
    path = write_study(tmp_path / "study.yaml", tiny_study())
    for verb in ("report", "ui"):
        done = run_cli(verb, path, cwd=tmp_path)
        assert done.returncode == 2
        assert "holds no MLflow store yet" in done.stderr
