"""What is measured after an epoch: agreement with the teacher on probe and test images, and distances of the images."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cpsc import measurement
from cpsc.distiller import Distiller
from cpsc.frechet import InceptionFid
from cpsc.measurement import InceptionReference, Measurement
from tests.unit.cpsc.test_distiller import without_timings

CPU = torch.device("cpu")


def measure(teacher, **images) -> Measurement:
    return Measurement(teacher, CPU, **images)


def test_the_teacher_agrees_with_itself_on_all_images_and_is_right_where_it_is_right(teacher, probe, real_images) -> None:
    found = measure(teacher, probe=probe, test=real_images).of_student(teacher.build(CPU)).metrics
    assert (found["probe_agreement"], found["test_agreement"]) == (1.0, 1.0)
    logits = teacher.build(CPU)(teacher.normalisation.normalise(real_images.images)).logits
    assert found["test_accuracy"] == pytest.approx((logits.argmax(1) == real_images.labels).float().mean().item())


def test_without_images_nothing_is_measured(teacher) -> None:
    nothing = measure(teacher)
    assert nothing.of_student(teacher.build(CPU)) == ({}, None)
    assert nothing.num_wanted_images == 0
    assert nothing.of_images(torch.zeros(4, 1, 8, 8, dtype=torch.uint8)) == {}


def test_real_images_are_at_no_distance_from_themselves_and_noise_is_far(teacher, real_images) -> None:
    found = measure(teacher, test=real_images)
    assert found.num_wanted_images == len(real_images.images)
    same = found.of_images(real_images.images)["teacher_frechet_distance"]
    noise = torch.randint(0, 256, real_images.images.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert same == pytest.approx(0.0, abs=1e-6)
    assert found.of_images(noise)["teacher_frechet_distance"] > 1e-3


def test_an_fid_compares_with_the_images_it_is_given_and_says_with_how_many(teacher, shapes, monkeypatch) -> None:
    def counted(real, synthetic, weights, *, device) -> InceptionFid:
        assert weights == Path("inception.pth")
        return InceptionFid(7.5, len(real), len(synthetic))

    monkeypatch.setattr(measurement, "inception_fid", counted)
    found = measure(teacher, test=shapes.test, inception=InceptionReference(Path("inception.pth"), shapes.train.images))
    assert found.num_wanted_images == len(shapes.train.images) == 64
    metrics = found.of_images(shapes.test.images)
    assert (metrics["fid"], metrics["fid_num_images"]) == (7.5, 32.0)


def test_images_are_measured_in_the_last_epoch_alone(config, teacher, probe, real_images) -> None:
    distiller = Distiller(config, teacher, probe=probe, test=real_images)
    epochs = [distiller.run_epoch() for _ in range(config.epochs)]
    assert ["teacher_frechet_distance" in metrics for metrics in epochs] == [False, False, False, True]
    assert "teacher_frechet_distance" not in Distiller(config, teacher, probe=probe).run_epoch()


def test_runs_that_share_a_measurement_give_the_numbers_of_runs_that_do_not(config, teacher, probe, real_images) -> None:
    shared = measure(teacher, probe=probe, test=real_images)
    for seed in (1, 2):
        alone = Distiller(replace(config, seed=seed), teacher, probe=probe, test=real_images)
        beside = Distiller(replace(config, seed=seed), teacher, measurement=shared)
        assert beside.teacher is shared.network
        for _ in range(2):
            assert without_timings(beside.run_epoch()) == without_timings(alone.run_epoch())


@pytest.mark.parametrize("arch", ["resnet18", "wrn_10_1", "mobilenet_v2"])
def test_weights_that_are_cast_once_give_the_numbers_of_weights_that_are_cast_at_every_pass(arch, make_teacher) -> None:
    measured = measure(make_teacher(arch))
    cast = measured.network_in("bf16")
    assert (measured.network_in("bf16") is cast, measured.network_in("fp32") is measured.network) == (True, True)
    assert measured.recorder_in("bf16") is measured.recorder_in("bf16") is not measured.recorder_in("fp32")
    assert sum(parameter.dtype == torch.bfloat16 for parameter in cast.parameters()) > 5
    size = measured.teacher.image_size
    images = torch.randn(4, measured.teacher.channels, size, size, generator=torch.Generator().manual_seed(1))
    found = []
    for network in (measured.network, cast):
        x = images.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(x).logits
        (gradient,) = torch.autograd.grad(logits.float().square().sum(), x)
        found.append((logits, gradient))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_a_users_own_network_is_asked_as_it_is(teacher) -> None:
    measured = measure(teacher)
    measured.teacher = replace(teacher, arch="package.module:factory")
    assert measured.network_in("bf16") is measured.network
