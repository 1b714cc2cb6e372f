import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cpsc import checkpoint
from cpsc.data.dataset import Normalisation, Split
from cpsc.errors import CheckpointError, ConfigError
from cpsc.metrics import predict
from cpsc.teacher import Teacher

CPU = torch.device("cpu")


def tampered(path: Path, **changes: object) -> None:
    checkpoint.save(checkpoint.load(path, kind="teacher") | changes, path)


def test_a_bundle_reads_back_as_the_same_teacher(teacher, tmp_path: Path) -> None:
    teacher.save(tmp_path / "teacher.pt")
    loaded = Teacher.load(tmp_path / "teacher.pt")
    assert replace(loaded, state={}) == replace(teacher, state={})
    assert loaded.state.keys() == teacher.state.keys()
    assert all(torch.equal(loaded.state[name], tensor) for name, tensor in teacher.state.items())
    assert loaded.digest == teacher.digest
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(predict(loaded.build(CPU), x), predict(teacher.build(CPU), x))


def test_the_digest_tells_weights_architecture_and_input_space_apart_but_not_names(teacher) -> None:
    state = {name: tensor.clone() for name, tensor in teacher.state.items()}
    state["fc.bias"][0] += 1e-6
    for other in (
        replace(teacher, state=state),
        replace(teacher, arch="wrn_16_1"),
        replace(teacher, image_size=16),
        replace(teacher, normalisation=Normalisation(mean=(0.4,), std=(0.31,))),
    ):
        assert other.digest != teacher.digest
    assert replace(teacher, test_accuracy=0.9, class_names=("a", "b", "c", "d")).digest == teacher.digest


def test_the_digest_is_of_the_bytes_of_the_weights_whatever_their_type(teacher) -> None:
    expected = hashlib.sha256()
    expected.update(json.dumps([teacher.arch, 1, 8, {"mean": [0.4], "std": [0.3]}]).encode())
    for name, tensor in sorted(teacher.state.items()):
        expected.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    assert teacher.digest == expected.hexdigest()
    brief = {name: tensor.bfloat16() for name, tensor in teacher.state.items()}
    assert replace(teacher, state=brief).digest != replace(teacher, state=brief | {"fc.bias": -brief["fc.bias"]}).digest


def test_a_teacher_of_unknown_accuracy_reads_back_as_one(teacher, tmp_path: Path) -> None:
    replace(teacher, test_accuracy=None).save(tmp_path / "teacher.pt")
    assert Teacher.load(tmp_path / "teacher.pt").test_accuracy is None


@pytest.mark.parametrize("arch", ["vgg11", "mobilenet_v2", "resnet18"])
@pytest.mark.slow
def test_a_teacher_of_any_network_reads_back_as_the_same(arch: str, make_teacher, tmp_path: Path) -> None:
    teacher = make_teacher(arch)
    teacher.save(tmp_path / "teacher.pt")
    assert Teacher.load(tmp_path / "teacher.pt").digest == teacher.digest


def test_a_bundle_has_nothing_imported_that_the_user_has_not_named(teacher, tmp_path: Path) -> None:
    replace(teacher, arch="not_there.at_all:make").save(tmp_path / "teacher.pt")
    for factory, named in ((None, "set it as the teacher's factory if"), ("mine:make", "factory, not mine:make if")):
        with pytest.raises(
            CheckpointError, match=r"made by 'not_there\.at_all:make', which is imported only if you name it"
        ) as caught:
            Teacher.load(tmp_path / "teacher.pt", factory=factory)
        assert named in str(caught.value)
    with pytest.raises(ConfigError, match=r"factory not_there\.at_all:make: there is no module not_there"):
        Teacher.load(tmp_path / "teacher.pt", factory="not_there.at_all:make")


def test_a_factory_for_a_bundle_of_one_of_our_networks_has_no_effect(teacher, tmp_path: Path) -> None:
    teacher.save(tmp_path / "teacher.pt")
    with pytest.raises(CheckpointError, match=r"factory mine:make would have no effect, this bundle's network is wrn_10_1"):
        Teacher.load(tmp_path / "teacher.pt", factory="mine:make")


def test_altered_weights_are_refused_by_the_digest(teacher, tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    teacher.save(path)
    state = dict(checkpoint.load(path, kind="teacher")["state"])
    state["fc.bias"] = state["fc.bias"] + 1e-3
    tampered(path, state=state)
    with pytest.raises(CheckpointError, match="weights do not match the bundle's digest, the file was altered"):
        Teacher.load(path)


def test_an_altered_input_space_is_refused_by_the_digest(teacher, tmp_path: Path) -> None:
    teacher.save(tmp_path / "teacher.pt")
    tampered(tmp_path / "teacher.pt", normalisation={"mean": (0.5,), "std": (0.3,)})
    with pytest.raises(CheckpointError, match="digest"):
        Teacher.load(tmp_path / "teacher.pt")


def test_a_bundle_of_another_version_is_refused(teacher, tmp_path: Path) -> None:
    teacher.save(tmp_path / "teacher.pt")
    tampered(tmp_path / "teacher.pt", version=2)
    with pytest.raises(CheckpointError, match="teacher bundle has format 2, but this version reads format 1"):
        Teacher.load(tmp_path / "teacher.pt")


@pytest.mark.parametrize("change", [{"state": None}, {"normalisation": 3}, {"normalisation": {"mean": (0.5,)}}])
def test_a_bundle_of_another_shape_is_refused(change, teacher, tmp_path: Path) -> None:
    teacher.save(tmp_path / "teacher.pt")
    tampered(tmp_path / "teacher.pt", **change)
    with pytest.raises(CheckpointError, match="not a teacher bundle"):
        Teacher.load(tmp_path / "teacher.pt")


def test_a_file_that_lacks_a_field_is_refused_by_the_fields_name(tmp_path: Path) -> None:
    checkpoint.save({"version": 1}, tmp_path / "teacher.pt")
    with pytest.raises(CheckpointError, match=r"not a teacher bundle \('arch'\)"):
        Teacher.load(tmp_path / "teacher.pt")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"arch": "vgg"}, "arch 'vgg'"),
        ({"arch": "wrn_9994_999"}, "depth must be 6n"),
        ({"arch": "os.system('x'):y"}, "factory must have the form package.module:function"),
        ({"class_names": ("a",)}, "class_names"),
        ({"class_names": (1, 2, 3, 4)}, "class_names"),
        ({"channels": 0}, "channels"),
        ({"channels": 10**9}, "channels"),
        ({"image_size": 10}, "image_size"),
        ({"image_size": -8}, "image_size"),
        ({"image_size": 10**9}, "image_size"),
        ({"dataset": 3}, "dataset"),
        ({"test_accuracy": 1.5}, "test_accuracy"),
        ({"test_accuracy": math.nan}, "test_accuracy"),
        ({"normalisation": {"mean": (0.5,), "std": (0.0,)}}, "normalisation"),
        ({"normalisation": {"mean": (0.5, 0.5), "std": (0.5, 0.5)}}, "normalisation"),
        ({"normalisation": {"mean": (math.nan,), "std": (0.5,)}}, "normalisation"),
    ],
)
def test_a_field_that_is_not_what_a_bundle_holds_is_named(changes: dict[str, object], field: str, teacher, tmp_path: Path) -> None:
    teacher.save(tmp_path / "teacher.pt")
    tampered(tmp_path / "teacher.pt", **changes)
    with pytest.raises(CheckpointError, match=rf"not a teacher bundle \(.*{field}"):
        Teacher.load(tmp_path / "teacher.pt")


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("fc.bias", torch.zeros(5), r"fc\.bias must be torch\.float32 \(4,\)"),
        ("fc.bias", torch.zeros(4).double(), r"fc\.bias must be torch\.float32 \(4,\)"),
        ("fc.bias", torch.zeros(4).to_sparse(), r"fc\.bias must be torch\.float32 \(4,\)"),
        ("fc.bias", 1.0, r"fc\.bias must be torch\.float32 \(4,\)"),
        ("fc.offset", torch.zeros(4), r"fc\.offset is not one of its weights"),
        ("fc.bias", torch.full((4,), math.nan), r"fc\.bias holds NaN or infinity"),
        ("bn1.running_var", -torch.ones(64), "compute NaN or infinity"),
    ],
)
def test_weights_of_no_use_are_refused_although_their_digest_is_right(
    name: str, tensor: object, message: str, teacher, tmp_path: Path
) -> None:
    path = tmp_path / "teacher.pt"
    other = replace(teacher, state={**teacher.state, name: tensor})
    teacher.save(path)
    digest = other.digest if isinstance(tensor, torch.Tensor) and not tensor.is_sparse else "none"
    tampered(path, state=dict(other.state), digest=digest)
    with pytest.raises(CheckpointError, match=message):
        Teacher.load(path)


def test_weights_that_do_not_fit_the_architecture_are_refused(teacher) -> None:
    with pytest.raises(CheckpointError, match="teacher weights do not fit wrn_16_1") as caught:
        replace(teacher, arch="wrn_16_1").build(CPU)
    assert "\n" not in str(caught.value)


def test_a_built_teacher_is_frozen_and_shares_no_memory_with_the_bundle(teacher) -> None:
    network = teacher.build(CPU)
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    before = teacher.state["fc.bias"].clone()
    with torch.no_grad():
        network.fc.bias.add_(1.0)
    assert torch.equal(teacher.state["fc.bias"], before)


def test_a_dataset_of_other_classes_or_images_is_refused(teacher, shapes) -> None:
    teacher.check_dataset(shapes)
    with pytest.raises(ConfigError, match="4 classes of 1x8x8 images, dataset shapes has 5 classes of 1x8x8: use the teacher's"):
        teacher.check_dataset(replace(shapes, class_names=(*shapes.class_names, "star")))
    large = Split(torch.zeros(4, 1, 16, 16, dtype=torch.uint8), torch.arange(4))
    with pytest.raises(ConfigError, match="has 4 classes of 1x16x16"):
        teacher.check_dataset(replace(shapes, train=large, test=large))
    coloured = Split(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4))
    with pytest.raises(ConfigError, match=r"has 4 classes of 3x8x8: use .*, or read it with dataset.channels: 1"):
        teacher.check_dataset(replace(shapes, train=coloured, test=coloured))
