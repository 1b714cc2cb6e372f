from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from cpsc.data.dataset import Split
from cpsc.digests import recipe_digest
from cpsc.errors import CheckpointError, ConfigError, DataError
from cpsc.models import build_model
from cpsc.rng import seeded_init
from cpsc.teacher import Teacher, measure
from cpsc.teacher_training import TeacherRecipe, UnfinishedTeacher, train_teacher
from tests.support.interrupted import interrupting

CPU = torch.device("cpu")


def recipe(**changes) -> TeacherRecipe:
    return TeacherRecipe(**{"arch": "wrn_10_1", "epochs": 4, "batch_size": 16, "lr": 0.05, "warmup_epochs": 1} | changes)


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


def test_a_dataset_of_one_image_trains_no_teacher(shapes) -> None:
    one = replace(shapes, train=Split(shapes.train.images[:1], shapes.train.labels[:1]))
    with pytest.raises(DataError, match="a teacher cannot be trained on one image"):
        train_teacher(recipe(), one, CPU)


def test_a_teacher_learns_in_bf16_as_well_and_fp16_is_refused(shapes) -> None:
    recipe = TeacherRecipe(arch="wrn_10_1", epochs=6, batch_size=16, lr=0.05, warmup_epochs=1, precision="bf16")
    teacher = train_teacher(recipe, shapes, torch.device("cpu"))
    assert teacher.test_accuracy is not None
    assert teacher.test_accuracy > 0.9
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in teacher.state.values())
    with pytest.raises(ConfigError, match="precision 'fp16'"):
        train_teacher(replace(recipe, precision="fp16"), shapes, torch.device("cpu"))


# Interruption


def stopped_after(batches: int, made: TeacherRecipe, dataset, path: Path) -> None:
    """A training that was interrupted after so many batches; `path` has its state."""
    with pytest.raises(KeyboardInterrupt):
        train_teacher(made, dataset, CPU, keep=interrupting(batches - 1, path))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("batches", [1, 3, 4, 7, 12])
def test_one_that_was_interrupted_goes_on_to_the_same_weights_bit_for_bit(
    batches: int, optimizer: str, shapes, tmp_path: Path
) -> None:
    """In the middle of the first epoch, at its end, in the second, and after the last batch."""
    few = replace(shapes, train=Split(shapes.train.images[:50], shapes.train.labels[:50]), crop_padding=1, flip=True)
    made, losses = recipe(epochs=3, optimizer=optimizer, lr=0.01), dict[int, float]()
    whole = train_teacher(made, few, CPU, on_epoch=losses.__setitem__)
    stopped_after(batches, made, few, tmp_path / "unfinished.pt")
    begun = UnfinishedTeacher.load(tmp_path / "unfinished.pt", made, few, CPU)
    assert begun.epochs == batches / 4
    told, done = dict[int, float](), list[float]()
    after = train_teacher(made, few, CPU, begun=begun, on_epoch=told.__setitem__, on_batch=done.append)
    assert after.digest == whole.digest
    assert after.test_accuracy == whole.test_accuracy
    assert done == [batch / 4 for batch in range(batches + 1, 13) if batch % 4]
    assert told == {epoch: losses[epoch] for epoch in range((batches + 3) // 4, 4)}


def test_what_another_recipe_or_other_images_have_begun_is_not_gone_on_with(shapes, tmp_path: Path) -> None:
    path = tmp_path / "unfinished.pt"
    stopped_after(1, recipe(), shapes, path)
    fewer = replace(shapes, train=Split(shapes.train.images[:50], shapes.train.labels[:50]))
    for other in ((recipe(lr=0.1), shapes), (recipe(), fewer), (recipe(), replace(shapes, treatment="grey"))):
        with pytest.raises(CheckpointError, match="made by another recipe, from other images"):
            UnfinishedTeacher.load(path, *other, CPU)


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
