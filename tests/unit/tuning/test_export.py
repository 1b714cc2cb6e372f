"""An export: every file answers as the checkpoint's student, opens without this package, and is whole or absent."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cpsc.data.dataset import Normalisation
from cpsc.errors import CheckpointError, ConfigError
from cpsc.models import build_model
from cpsc.probe import ProbeSet
from cpsc.published import NORMALISATIONS
from cpsc.rng import seeded_init
from cpsc.teacher import Teacher
from tests.support.bare import FOREIGN, run_bare
from tests.support.records import recorded_trial
from tuning.display import Display
from tuning.export import formats as exported
from tuning.export import parse_formats
from tuning.export.export import StudentExport, check_folder, compare
from tuning.export.formats import FORMATS, ONNX, PROGRAM, SAFETENSORS, WEIGHTS, network_source
from tuning.trial import Assets

pytestmark = pytest.mark.slow  # every network is traced and exported, in seconds each
ARCHS = (
    *("wrn_10_1", "wrn_16_2", "resnet18", "resnet20", "resnet8x4", "vgg11", "vgg11_bn", "mobilenet_v2", "shufflenet_v2"),
    *("wrn_10_1_gn", "vit_tiny"),
)
SLOWEST_TO_ONNX = ("mobilenet_v2", "shufflenet_v2")


def student(arch: str = "wrn_10_1", *, channels: int = 2, size: int = 8) -> dict[str, torch.Tensor]:
    """Weights, running statistics other than at the start."""
    with seeded_init(1, "student"):
        network = build_model(arch, num_classes=3, channels=channels)
        network(torch.randn(16, channels, size, size))
    return dict(network.state_dict())


def export(assets: Assets, output: Path, *, arch: str = "wrn_10_1", formats: list[str] | None = None, **changes: Any) -> list[str]:
    state = student(arch, channels=assets.teacher.channels, size=assets.teacher.image_size)
    return StudentExport(recorded_trial(**changes), arch, state, assets, output, Display(quiet=True)).write(formats)


def has_onnx() -> bool:
    try:
        FORMATS[ONNX].check()
    except ConfigError:
        return False
    return True


needs_onnx = pytest.mark.skipif(not has_onnx(), reason="the extra onnx is not installed")


@pytest.mark.parametrize("arch", ARCHS)
def test_every_network_is_exported_and_answers_as_its_checkpoint(arch: str, assets: Assets, tmp_path: Path) -> None:
    lines = export(assets, tmp_path, arch=arch, formats=[WEIGHTS, PROGRAM])
    assert lines[0] == "student.pt: logits bit-equal to the checkpoint's on 20 probe images"
    assert re.fullmatch(
        r"student\.pt2: logits within \S+ of the checkpoint's \(allowed \S+\), same class on 20 probe images", lines[1]
    )
    assert {file.name for file in tmp_path.iterdir()} == {"student.pt", "student.pt2", "network.py", "student.json", "README.md"}


@needs_onnx
@pytest.mark.parametrize(
    "arch", [pytest.param(arch, marks=pytest.mark.long) if arch in SLOWEST_TO_ONNX else arch for arch in ARCHS]
)
def test_every_network_is_exported_to_onnx(arch: str, assets: Assets, tmp_path: Path) -> None:
    (line, _) = export(assets, tmp_path, arch=arch, formats=[ONNX])
    assert re.fullmatch(r"student\.onnx: logits within \S+ of .*, same class on 20 probe images", line)
    assert {file.name for file in tmp_path.iterdir()} == {"student.onnx", "student.json", "README.md"}


def grey(size: int) -> Assets:
    """One channel, and three classes; of images that a LeNet takes."""
    with seeded_init(0, "teacher"):
        state = build_model("lenet5", num_classes=3, channels=1).state_dict()
    teacher = Teacher(
        arch="lenet5",
        class_names=("0", "1", "2"),
        channels=1,
        image_size=size,
        normalisation=NORMALISATIONS["mnist"],
        dataset="none",
        test_accuracy=None,
        state=state,
    )
    images = torch.randint(0, 256, (20, 1, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    probe = ProbeSet(images=images, labels=torch.arange(20) % 3, teacher_digest=teacher.digest, teacher_accuracy=1.0)
    return Assets(teacher, probe, None)


@pytest.mark.parametrize(("arch", "size"), [("lenet5", 28), ("lenet5_half-smooth", 32)])
def test_a_lenet_of_grey_images_is_exported_in_every_form(arch: str, size: int, tmp_path: Path) -> None:
    formats = [WEIGHTS, PROGRAM, SAFETENSORS, *([ONNX] if has_onnx() else [])]
    lines = export(grey(size), tmp_path, arch=arch, formats=formats)
    assert [line.partition(":")[0] for line in lines[: len(formats)]] == [FORMATS[name].file for name in formats]
    assert json.loads((tmp_path / "student.json").read_text())["input"]["pixels"] == f"float32 [N, 1, {size}, {size}] in [0, 1]"
    snippets = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), flags=re.DOTALL)
    assert all(f"rand(4, 1, {size}, {size})" in snippet for snippet in snippets)


def test_every_snippet_of_the_folders_readme_runs_without_this_package(assets: Assets, tmp_path: Path) -> None:
    export(assets, tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), flags=re.DOTALL)
    assert len(snippets) == (4 if has_onnx() else 3)
    for snippet in snippets:
        done = run_bare(snippet, tmp_path)
        assert done.returncode == 0, done.stderr
        classes = json.loads(done.stdout)
        assert len(classes) == 4
        assert set(classes) <= {0, 1, 2}


def test_what_a_bare_process_cannot_import_is_really_out_of_reach(tmp_path: Path) -> None:
    for name in FOREIGN:
        assert run_bare(f"import {name}", tmp_path).returncode != 0


def test_the_json_holds_what_a_user_needs_and_where_it_comes_from(assets: Assets, tmp_path: Path) -> None:
    export(assets, tmp_path, formats=[WEIGHTS])
    facts = json.loads((tmp_path / "student.json").read_text())
    assert facts["classes"] == ["a", "b", "c"]
    assert facts["arch"] == "wrn_10_1"
    assert facts["input"]["normalisation"] == {"mean": [0.3, 0.6], "std": [0.2, 0.5]}
    assert facts["input"]["pixels"] == "float32 [N, 2, 8, 8] in [0, 1]"
    made = facts["provenance"]
    assert (made["launch"], made["trial"], made["run_id"], made["epoch"]) == ("small-2", 4, "0123456789abcdef", 2)
    assert made["metrics"] == {"probe_agreement": 0.75, "probe_kl": 0.4}
    assert made["teacher"]["digest"] == assets.teacher.digest
    assert facts["config"] == {"weights.contrast": 0.5, "epochs": 9}
    assert facts["verified"]["probe_images"] == 20


def test_the_weights_are_plain_and_those_of_the_checkpoint(assets: Assets, tmp_path: Path) -> None:
    export(assets, tmp_path, formats=[WEIGHTS])
    saved = torch.load(tmp_path / "student.pt", weights_only=True)
    assert saved.keys() == student().keys()
    assert all(torch.equal(saved[name], tensor) for name, tensor in student().items())


def test_safetensors_are_those_of_the_checkpoint_with_the_network_beside_them(assets: Assets, tmp_path: Path) -> None:
    lines = export(assets, tmp_path, formats=[SAFETENSORS])
    assert lines[0] == "student.safetensors: logits bit-equal to the checkpoint's on 20 probe images"
    assert {file.name for file in tmp_path.iterdir()} == {"student.safetensors", "network.py", "student.json", "README.md"}
    saved = load_file(tmp_path / "student.safetensors")
    assert saved.keys() == student().keys()
    assert all(torch.equal(saved[name], tensor) for name, tensor in student().items())


def broken(name: str) -> exported.Format:
    """The format `name`, whose files answer a little off."""
    kind = FORMATS[name]

    def off(*arguments: Any) -> exported.Answer:
        answer = kind.open(*arguments)
        return lambda pixels: answer(pixels) + 0.01

    return kind._replace(open=off)


@pytest.mark.parametrize("name", [WEIGHTS, PROGRAM])
def test_a_file_that_answers_otherwise_is_not_kept_and_nothing_is_replaced(
    name: str, assets: Assets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(assets, tmp_path, formats=[WEIGHTS, PROGRAM])
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    monkeypatch.setattr("tuning.export.export.FORMATS", FORMATS | {name: broken(name)})
    with pytest.raises(CheckpointError, match=r"student\.\w+: .* it is not kept"):
        export(assets, tmp_path, formats=[WEIGHTS, PROGRAM], number=5)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_files_of_an_earlier_export_do_not_stay_beside_another_student(assets: Assets, tmp_path: Path) -> None:
    export(assets, tmp_path, formats=[WEIGHTS, PROGRAM])
    (tmp_path / "mine.txt").write_text("a user's own")
    export(assets, tmp_path, formats=[PROGRAM])
    assert {file.name for file in tmp_path.iterdir()} == {"student.pt2", "student.json", "README.md", "mine.txt"}


def test_a_users_own_file_is_not_replaced(tmp_path: Path) -> None:
    check_folder(tmp_path)
    check_folder(tmp_path / "new")
    (tmp_path / "README.md").write_text("a user's own")
    with pytest.raises(ConfigError, match=r"--output: .* has a README\.md that no export wrote; name another folder"):
        check_folder(tmp_path)
    (tmp_path / "student.json").write_text("{}")
    check_folder(tmp_path)
    with pytest.raises(ConfigError, match="is a file; name a folder"):
        check_folder(tmp_path / "README.md")


def test_a_format_that_cannot_be_written_is_left_out_only_where_nobody_asked_for_it(
    assets: Assets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise ConfigError("--formats onnx: the student has an operator that ONNX lacks (aten::odd); use program")

    impossible = FORMATS[ONNX]._replace(check=lambda: None, write=refuse)
    monkeypatch.setattr("tuning.export.export.FORMATS", FORMATS | {ONNX: impossible})
    lines = export(assets, tmp_path)
    assert [line.partition(":")[0] for line in lines[:2]] == ["student.pt", "student.pt2"]
    assert not (tmp_path / "student.onnx").exists()
    with pytest.raises(ConfigError, match="has an operator that ONNX lacks"):
        export(assets, tmp_path, formats=[ONNX])


def test_onnx_without_its_packages_is_told_with_the_way_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exported, "ONNX_PACKAGES", ("onnx_that_is_not_there",))
    with pytest.raises(ConfigError, match=r"needs onnx_that_is_not_there, install with: pip install 'cpsc-tune\[onnx\]'"):
        FORMATS[ONNX].check()


@pytest.mark.parametrize("arch", [*ARCHS, "resnet34", "resnet50-stride_in_1x1", "resnet20-zeros_behind", "lenet5"])
def test_the_networks_source_names_nothing_of_this_package(arch: str) -> None:
    source = network_source(arch, num_classes=3, channels=2)
    assert "cpsc" not in source
    names: dict[str, Any] = {"__name__": "network"}
    exec(compile(source, "network.py", "exec"), names)
    built = names["build_network"]()
    assert not built.training
    assert {name: tensor.shape for name, tensor in built.state_dict().items()} == {
        name: tensor.shape for name, tensor in build_model(arch, num_classes=3, channels=2).state_dict().items()
    }


def test_logits_are_compared_to_the_bit_or_within_the_tolerance() -> None:
    expected = torch.tensor([[0.0, 10.0], [5.0, 4.9999]])
    near = expected + 1e-5
    assert "bit-equal" in compare(expected.clone(), expected, file="x", is_exact=True)
    with pytest.raises(CheckpointError, match="bit by bit"):
        compare(near, expected, file="x", is_exact=True)
    assert "same class on 2 probe images" in compare(near, expected, file="x", is_exact=False)
    with pytest.raises(CheckpointError, match=r"off by 0\.1, allowed is 0\.001"):
        compare(expected + 0.1, expected, file="x", is_exact=False)
    with pytest.raises(CheckpointError, match="another class than the checkpoint for 1 of 2 probe images"):
        compare(expected + torch.tensor([[0.0, 0.0], [0.0, 0.0005]]), expected, file="x", is_exact=False)
    with pytest.raises(CheckpointError, match="off by nan"):
        compare(expected * torch.nan, expected, file="x", is_exact=False)
    with pytest.raises(CheckpointError, match=r"logits of shape \(1, 2\), not \(2, 2\)"):
        compare(expected[:1], expected, file="x", is_exact=False)


def test_weights_that_do_not_fit_their_network_are_refused(assets: Assets, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="do not fit its network"):
        StudentExport(recorded_trial(), "wrn_16_1", student("wrn_10_1"), assets, tmp_path, Display(quiet=True))


def test_formats_are_named_with_commas() -> None:
    assert parse_formats(None) is None
    assert parse_formats("weights, onnx,weights") == ["weights", "onnx"]
    with pytest.raises(ConfigError, match=r"--formats: must be some of weights, program, safetensors, onnx, .*, got 'pt'"):
        parse_formats("weights,pt")


def test_a_teacher_with_other_constants_gives_another_program(assets: Assets, tmp_path: Path) -> None:
    """The normalisation is inside: the same weights for another teacher's images are another function of pixels."""
    export(assets, tmp_path / "one", formats=[PROGRAM])
    other = replace(assets.teacher, normalisation=Normalisation(mean=(0.0, 0.0), std=(1.0, 1.0)))
    export(replace(assets, teacher=other), tmp_path / "other", formats=[PROGRAM])
    pixels = assets.probe.images[:3].float().div(255.0)
    first, second = (torch.export.load(tmp_path / name / "student.pt2").module()(pixels) for name in ("one", "other"))
    assert not torch.allclose(first, second)
