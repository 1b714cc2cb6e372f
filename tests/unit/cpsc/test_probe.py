import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cpsc import checkpoint
from cpsc import probe as probe_module
from cpsc.errors import CheckpointError, ConfigError
from cpsc.metrics import accuracy, predict
from cpsc.models import Output
from cpsc.probe import ProbeConfig, ProbeSet, UnfinishedProbe, synthesise
from cpsc.rng import RandomStreams, derive_seed
from cpsc.teacher_training import TeacherRecipe, train_teacher
from tests.support.interrupted import interrupting

CPU = torch.device("cpu")
SMALL = ProbeConfig(num_images=16, batch_size=8, steps=5)


def test_synthesis_is_reproducible_and_another_seed_gives_other_images(teacher) -> None:
    torch.manual_seed(0)
    first = synthesise(teacher, SMALL, CPU)
    torch.manual_seed(1)
    second, third = synthesise(teacher, SMALL, CPU), synthesise(teacher, replace(SMALL, seed=1), CPU)
    assert torch.equal(first.images, second.images)
    assert not torch.equal(first.images, third.images)


def test_a_probe_set_has_balanced_labels_and_images_of_the_teachers_shape(teacher) -> None:
    probe = synthesise(teacher, SMALL, CPU)
    assert probe.images.shape == (16, 1, 8, 8)
    assert probe.images.dtype == torch.uint8
    assert probe.labels.bincount().tolist() == [4, 4, 4, 4]
    assert all(labels.bincount().tolist() == [2, 2, 2, 2] for labels in probe.labels.split(8))
    assert probe.teacher_digest == teacher.digest


def test_the_teachers_accuracy_is_that_on_the_stored_pixels(teacher) -> None:
    probe = synthesise(teacher, SMALL, CPU)
    logits = predict(teacher.build(CPU), teacher.normalisation.normalise(probe.images))
    assert probe.teacher_accuracy == accuracy(logits, probe.labels)


@pytest.mark.parametrize("step", [0, 3, 5, 7, 9])
def test_one_that_was_interrupted_goes_on_to_the_same_images_bit_for_bit(step: int, teacher, tmp_path: Path) -> None:
    """In the middle of the first batch, between the two, in the middle of the second."""
    path, whole = tmp_path / "unfinished.pt", synthesise(teacher, SMALL, CPU)
    with pytest.raises(KeyboardInterrupt):
        synthesise(teacher, SMALL, CPU, keep=interrupting(step, path))
    told: list[int] = []
    begun = UnfinishedProbe.load(path, teacher, SMALL, CPU)
    after = synthesise(teacher, SMALL, CPU, begun=begun, on_step=lambda done, total: told.append(done))
    assert told == list(range(step + 1, 11))
    assert torch.equal(after.images, whole.images)
    assert torch.equal(after.labels, whole.labels)
    assert after.teacher_accuracy == whole.teacher_accuracy


def test_what_another_has_begun_is_not_gone_on_with(teacher, tmp_path: Path) -> None:
    path = tmp_path / "unfinished.pt"
    synthesise(teacher, SMALL, CPU, keep=lambda state: None if path.exists() else state().save(path))
    with pytest.raises(CheckpointError, match="made with another teacher, recipe or device"):
        UnfinishedProbe.load(path, teacher, replace(SMALL, seed=1), CPU)


@pytest.mark.slow
def test_inversion_makes_the_teacher_see_the_wanted_classes(shapes) -> None:
    recipe = TeacherRecipe(arch="wrn_10_1", epochs=8, batch_size=16, lr=0.05, warmup_epochs=1)
    teacher = train_teacher(recipe, shapes, CPU)
    # The patterns of this dataset have fixed places, which jitter would blur.
    config = replace(SMALL, jitter=0, batch_statistics=0.1)
    start, end = (synthesise(teacher, replace(config, steps=steps), CPU) for steps in (1, 40))
    assert end.teacher_accuracy > 0.8 > start.teacher_accuracy


def test_the_pixels_kept_are_those_of_the_best_loss_and_not_of_the_step_after(teacher) -> None:
    config = replace(SMALL, num_images=8, steps=1)
    rng = RandomStreams(derive_seed(config.seed, "probe"), CPU).latents
    noise = torch.empty(8, 1, 8, 8).contiguous(memory_format=torch.channels_last).normal_(generator=rng)
    # With one step the best pixels are the noise it was taken from; a kept alias would show the step.
    expected = teacher.normalisation.to_pixels(noise)
    assert torch.equal(synthesise(teacher, config, CPU).images, expected)


def test_a_step_that_makes_it_worse_is_not_kept(teacher) -> None:
    # So large a rate throws every pixel to black or white, where the total variation is larger than that of the noise.
    config = replace(SMALL, num_images=8, lr=1e6, total_variation=100.0)
    one, many = (synthesise(teacher, replace(config, steps=steps), CPU) for steps in (1, 4))
    assert torch.equal(one.images, many.images)


def test_progress_counts_every_step_of_every_batch(teacher) -> None:
    calls: list[tuple[int, int]] = []
    synthesise(teacher, SMALL, CPU, on_step=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 10) for done in range(1, 11)]


def test_synthesis_leaves_the_teacher_as_it_was(teacher) -> None:
    digest = teacher.digest
    synthesise(teacher, SMALL, CPU)
    assert teacher.digest == digest


@pytest.mark.parametrize(
    "change", [{"batch_statistics": 0.0}, {"jitter": 0}, {"label": 0.0}, {"total_variation": 1.0}, {"lr": 0.01}]
)
def test_every_setting_changes_the_images(change, teacher) -> None:
    assert not torch.equal(synthesise(teacher, replace(SMALL, **change), CPU).images, synthesise(teacher, SMALL, CPU).images)


class Grouped(nn.Module):
    """A classifier whose norm keeps no statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.score = nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Output:
        features = self.norm(self.conv(x)).relu().mean(dim=(2, 3))
        return Output(features, self.score(features))


def test_a_teacher_without_batch_norm_is_inverted_once_the_probes_own_weight_is_0(teacher, monkeypatch) -> None:
    torch.manual_seed(0)
    network = Grouped().eval().requires_grad_(False)
    monkeypatch.setattr(type(teacher), "build", lambda self, device, **named: network)
    with pytest.raises(ConfigError, match=r"teacher has no BatchNorm2d layer .*: probe\.batch_statistics must be 0 for it"):
        synthesise(teacher, SMALL, CPU)
    losses = []
    for steps in (1, 12):
        probe = synthesise(teacher, replace(SMALL, batch_statistics=0.0, total_variation=0.0, steps=steps), CPU)
        logits = predict(network, teacher.normalisation.normalise(probe.images))
        losses.append(nn.functional.cross_entropy(logits, probe.labels).item())
    assert losses[1] < losses[0]


def test_a_probe_set_reads_back_for_its_own_teacher(teacher, probe, tmp_path: Path) -> None:
    probe.save(tmp_path / "probe.pt")
    loaded = ProbeSet.load(tmp_path / "probe.pt", teacher=teacher)
    assert torch.equal(loaded.images, probe.images)
    assert torch.equal(loaded.labels, probe.labels)
    assert (loaded.teacher_digest, loaded.teacher_accuracy) == (teacher.digest, 0.5)


def test_a_probe_set_of_another_teacher_is_refused_with_the_way_out(probe, make_teacher, tmp_path: Path) -> None:
    probe.save(tmp_path / "probe.pt")
    with pytest.raises(CheckpointError, match=r"made from teacher .* delete it to make a new one"):
        ProbeSet.load(tmp_path / "probe.pt", teacher=make_teacher(seed=1))


def test_a_probe_set_of_another_version_or_without_images_is_refused(teacher, probe, tmp_path: Path) -> None:
    path = tmp_path / "probe.pt"
    checkpoint.save({"version": 9, **vars(probe)}, path)
    with pytest.raises(CheckpointError, match="probe set has format 9, but this version reads format 1"):
        ProbeSet.load(path, teacher=teacher)
    checkpoint.save({"version": 1, **{name: value for name, value in vars(probe).items() if name != "images"}}, path)
    with pytest.raises(CheckpointError, match=r"not a probe set file, 'images' is missing; delete it to make a new one"):
        ProbeSet.load(path, teacher=teacher)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("images", torch.zeros(24, 1, 4, 4, dtype=torch.uint8)),
        ("images", torch.zeros(24, 1, 8, 8)),
        ("images", torch.zeros(0, 1, 8, 8, dtype=torch.uint8)),
        ("images", "none"),
        ("labels", torch.zeros(23, dtype=torch.int64)),
        ("labels", torch.full((24,), 4)),
        ("labels", torch.full((24,), -1)),
        ("labels", torch.zeros(24)),
        ("teacher_accuracy", math.nan),
        ("teacher_accuracy", 2.0),
        ("teacher_accuracy", None),
    ],
)
def test_a_probe_set_whose_parts_are_not_what_the_teacher_takes_is_refused(
    field: str, value: object, teacher, probe, tmp_path: Path
) -> None:
    path = tmp_path / "probe.pt"
    checkpoint.save({"version": 1, **vars(probe), field: value}, path)
    with pytest.raises(CheckpointError, match=rf"{field} is not valid for this teacher; delete it to make a new one"):
        ProbeSet.load(path, teacher=teacher)


def test_images_by_class_are_rows_of_one_class_each(probe) -> None:
    grid = probe.by_class(columns=3)
    assert grid.shape == (4, 3, 1, 8, 8)
    for label in range(4):
        assert torch.equal(grid[label], probe.images[probe.labels == label][:3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_images": 0}, "probe.num_images must be > 0, got 0"),
        ({"batch_size": 0}, "probe.batch_size must be > 0, got 0"),
        ({"steps": 0}, "probe.steps must be > 0, got 0"),
        ({"lr": 0.0}, "probe.lr must be > 0, got 0.0"),
        ({"batch_statistics": -1.0}, "probe.batch_statistics must be >= 0, got -1.0"),
        ({"total_variation": -1.0}, "probe.total_variation must be >= 0, got -1.0"),
        ({"image_norm": -1.0}, "probe.image_norm must be >= 0, got -1.0"),
        ({"label": -1.0}, "probe.label must be >= 0, got -1.0"),
        ({"jitter": -1}, "probe.jitter must be >= 0, got -1"),
        ({"seed": -1}, "probe.seed must be >= 0, got -1"),
        ({"lr": math.inf}, "probe.lr must be > 0, got inf"),
        ({"label": math.nan}, "probe.label must be >= 0, got nan"),
        ({"num_images": 10**9, "batch_size": 10**9}, "probe.num_images must be <= 1000000, got 1000000000"),
        ({"steps": 10**9}, "probe.steps must be <= 1000000"),
        ({"jitter": 10**30}, "probe.jitter must be <= 1024"),
        ({"num_images": 100, "batch_size": 30}, "probe.num_images must be a multiple of probe.batch_size (30)"),
    ],
)
def test_a_broken_rule_is_named_with_its_path(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ProbeConfig(**changes)
    assert str(caught.value).startswith(message)


def test_the_digest_identifies_the_recipe() -> None:
    digests = {
        ProbeConfig(**change).digest for change in ({}, {"seed": 1}, {"steps": 1}, {"jitter": 0}, {"lr": 0.2}, {"label": 2.0})
    }
    assert len(digests) == 6
    assert ProbeConfig().digest == ProbeConfig().digest


def test_the_rate_falls_from_the_whole_to_almost_nothing_for_each_batch(teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    class Watched(probe_module.InvertedBatches):
        def on_loss(self, loss: Tensor) -> Tensor | None:
            rates.append(self._optimizer.param_groups[0]["lr"])
            return super().on_loss(loss)

    monkeypatch.setattr(probe_module, "InvertedBatches", Watched)
    synthesise(teacher, SMALL, CPU)
    taken = [SMALL.lr * (1 + math.cos(math.pi * step / 5)) / 2 for step in range(4)]  # a step's rate is seen in the next one
    assert rates == pytest.approx([SMALL.lr, *taken] * 2)


def test_in_half_precision_the_images_differ_a_little_and_are_as_good(teacher) -> None:
    config = replace(SMALL, num_images=8, steps=30)
    full, half = (synthesise(teacher, replace(config, precision=precision), CPU) for precision in ("fp32", "bf16"))
    assert not torch.equal(full.images, half.images)
    difference = (full.images.float() - half.images.float()).abs().mean()
    assert difference < 40


def test_the_recipe_of_earlier_versions_has_another_name_and_keeps_it() -> None:
    assert ProbeConfig().earlier_digest == "2f02047a4d92"
    assert ProbeConfig().digest != ProbeConfig().earlier_digest
    assert ProbeConfig(precision="fp32").digest != ProbeConfig().digest
    assert ProbeConfig(precision="fp32").earlier_digest == ProbeConfig().earlier_digest
