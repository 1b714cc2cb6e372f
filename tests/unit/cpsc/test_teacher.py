import hashlib
import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from cpsc import checkpoint
from cpsc.data.dataset import Normalisation, Split
from cpsc.digests import recipe_digest
from cpsc.errors import CheckpointError, ConfigError, DataError
from cpsc.metrics import predict
from cpsc.models import build_model
from cpsc.rng import seeded_init
from cpsc.teacher import Teacher, TeacherRecipe, measure, train_teacher

CPU = torch.device("cpu")


def recipe(**changes) -> TeacherRecipe:
    return TeacherRecipe(**{"arch": "wrn_10_1", "epochs": 4, "batch_size": 16, "lr": 0.05, "warmup_epochs": 1} | changes)


def tampered(path: Path, **changes: object) -> None:
    checkpoint.save(checkpoint.load(path, kind="teacher") | changes, path)


# Training


def test_training_is_reproducible_whatever_the_global_generator_holds(shapes) -> None:
    digests = set()
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        digests.add(train_teacher(recipe(epochs=2), shapes, CPU).digest)
    assert len(digests) == 1


def test_training_learns_and_reports_its_falling_loss(shapes) -> None:
    reports: list[tuple[int, float]] = []
    teacher = train_teacher(recipe(epochs=8), shapes, CPU, on_epoch=lambda epoch, loss: reports.append((epoch, loss)))
    assert [epoch for epoch, _ in reports] == list(range(1, 9))
    assert reports[-1][1] < 0.5 * reports[0][1]
    assert teacher.test_accuracy > 0.9
    assert measure(teacher.build(CPU), shapes, CPU) == teacher.test_accuracy


def test_another_seed_trains_another_teacher(shapes) -> None:
    first, second = (train_teacher(recipe(epochs=1, seed=seed), shapes, CPU) for seed in (0, 1))
    assert first.digest != second.digest


def test_a_trained_teacher_knows_its_dataset(shapes) -> None:
    teacher = train_teacher(recipe(epochs=1), shapes, CPU)
    assert (teacher.class_names, teacher.channels, teacher.image_size) == (shapes.class_names, 1, 8)
    assert (teacher.normalisation, teacher.dataset, teacher.arch) == (shapes.normalisation, "shapes", "wrn_10_1")


def test_a_last_batch_of_a_single_image_is_left_out(shapes) -> None:
    seventeen = replace(shapes, train=Split(shapes.train.images[:17], shapes.train.labels[:17]))
    teacher = train_teacher(recipe(epochs=2, batch_size=16), seventeen, CPU)
    assert teacher.state["bn1.num_batches_tracked"].item() == 2
    teacher = train_teacher(recipe(epochs=2, batch_size=15), seventeen, CPU)
    assert teacher.state["bn1.num_batches_tracked"].item() == 4


# Recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": "vgg"}, "arch 'vgg': unknown network"),
        ({"epochs": 0, "warmup_epochs": 0}, "epochs must be >= 1, got 0"),
        ({"batch_size": 1}, "batch_size must be >= 2, got 1"),
        ({"batch_size": 10**12}, "batch_size must be <= 65536, got 1000000000000"),
        ({"epochs": 10**7}, "epochs must be <= 1000000, got 10000000"),
        ({"warmup_epochs": 5}, r"warmup_epochs must be <= epochs \(4\), got 5"),
        ({"lr": 0.0}, r"lr must be > 0, got 0\.0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1\.0"),
        ({"weight_decay": -1.0}, r"weight_decay must be >= 0, got -1\.0"),
    ],
)
def test_a_broken_rule_of_the_recipe_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe(**changes)


@pytest.mark.parametrize("changes", [{"lr": 0.0}, {"momentum": 1.0}, {"weight_decay": -1.0}, {"warmup_epochs": -1}])
def test_a_broken_rule_of_the_recipe_is_named_by_the_recipes_own_path(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=rf"^{next(iter(changes))} must be"):
        recipe(**changes)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^seed must be >= 0, got -1"):
        recipe(seed=-1)


def test_a_recipes_digest_changes_with_every_field() -> None:
    varied = [
        recipe(),
        recipe(arch="wrn_10_2"),
        recipe(epochs=5),
        recipe(batch_size=8),
        recipe(lr=0.1),
        recipe(momentum=0.8),
        recipe(optimizer="adamw"),
        recipe(weight_decay=0.0),
        recipe(warmup_epochs=0),
        recipe(seed=1),
    ]
    assert len({each.digest for each in varied}) == len(varied)
    assert recipe().digest == recipe().digest


def test_a_recipe_of_sgd_keeps_the_digest_that_it_had_when_there_was_no_other() -> None:
    earlier = {name: value for name, value in asdict(recipe()).items() if name != "optimizer"}
    assert recipe().digest == recipe_digest(earlier)


@pytest.mark.parametrize("arch", ["wrn_10_1_gn", "vit_tiny"])
def test_a_teacher_without_batch_norm_learns_by_adamw_and_reads_back(shapes, arch: str, tmp_path: Path) -> None:
    losses: list[float] = []
    made = recipe(arch=arch, epochs=6, optimizer="adamw", lr=3e-3, weight_decay=0.05)
    teacher = train_teacher(made, shapes, CPU, on_epoch=lambda _, loss: losses.append(loss))
    assert losses[-1] < 0.7 * losses[0]
    teacher.save(tmp_path / "teacher.pt")
    assert Teacher.load(tmp_path / "teacher.pt").digest == teacher.digest


def test_the_weight_decay_of_adamw_is_no_part_of_its_gradient(shapes) -> None:
    # Of one step from the same weights: decoupled, a decay of so much shrinks each of them by lr times it.
    few = replace(shapes, train=Split(shapes.train.images[:16], shapes.train.labels[:16]))
    one_step = recipe(epochs=1, warmup_epochs=0, optimizer="adamw", lr=0.01, weight_decay=0.0)
    free, decayed = (train_teacher(replace(one_step, weight_decay=decay), few, CPU).state for decay in (0.0, 10.0))
    with seeded_init(0, "teacher"):
        start = build_model("wrn_10_1", num_classes=shapes.num_classes, channels=1).state_dict()
    torch.testing.assert_close(free["fc.weight"] - decayed["fc.weight"], 0.1 * start["fc.weight"])


# Bundle


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


def test_a_dataset_of_one_image_trains_no_teacher(shapes) -> None:
    one = replace(shapes, train=Split(shapes.train.images[:1], shapes.train.labels[:1]))
    with pytest.raises(DataError, match="a teacher cannot be trained on one image"):
        train_teacher(recipe(), one, CPU)


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


def test_a_teacher_learns_in_bf16_as_well_and_fp16_is_refused(shapes) -> None:
    recipe = TeacherRecipe(arch="wrn_10_1", epochs=6, batch_size=16, lr=0.05, warmup_epochs=1, precision="bf16")
    teacher = train_teacher(recipe, shapes, torch.device("cpu"))
    assert teacher.test_accuracy is not None
    assert teacher.test_accuracy > 0.9
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in teacher.state.values())
    with pytest.raises(ConfigError, match="precision 'fp16'"):
        train_teacher(replace(recipe, precision="fp16"), shapes, torch.device("cpu"))
