"""Compiled networks compute what plain ones do, once for all trials of a process, and resume as exactly."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from cpsc import checkpoint
from cpsc.config import DistillConfig, GeneratorConfig, LossWeights, ScheduleConfig, StudentConfig
from cpsc.device import cast_copies, resolve_device
from cpsc.distiller import Distiller
from cpsc.errors import ConfigError
from cpsc.execution import PLAIN, compiled
from cpsc.measurement import Measurement
from cpsc.models import Output, build_model
from cpsc.statistics import StatisticsRecorder
from tests.support.trials import make_teacher
from tests.unit.cpsc.test_distiller import copy_of, differences, without_timings

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
"""Dynamo looks at it behind warnings' back; made an error, the warning would stop it."""

CONFIG = DistillConfig(
    epochs=4,
    compile=True,
    precision="fp32",
    student=StudentConfig(arch="wrn_10_1", warmup_epochs=0),
    generator=GeneratorConfig(width=8, latent_dim=8),
    schedule=ScheduleConfig(iterations=1, generator_steps=2, student_steps=2, batch_size=10),
)


@pytest.fixture(scope="module")
def measurement() -> Measurement:
    torch.set_num_threads(1)
    return Measurement(make_teacher(), resolve_device("cpu"))


def run(config: DistillConfig, measurement: Measurement) -> Distiller:
    return Distiller(config, measurement.teacher, measurement=measurement)


def num_compiled() -> int:
    return counters["stats"]["unique_graphs"]


@pytest.mark.long  # a minute: the first graphs of a process are compiled
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"method": "zskt", "weights": LossWeights(l2=0, label=0, contrast=0, batch_statistics=0, attention=50.0)},
    ],
    ids=["cpsc", "attention"],
)
def test_the_first_epoch_is_that_of_plain_networks_but_for_rounding(changes, measurement: Measurement) -> None:
    config = replace(CONFIG, **changes)
    fused = run(config, measurement).run_epoch()
    plain = run(replace(config, compile=False), measurement).run_epoch()
    terms = [name for name in plain if "/" in name]
    assert terms
    for name in terms:
        assert math.isclose(fused[name], plain[name], rel_tol=1e-2, abs_tol=1e-3), name


def test_a_network_answers_with_other_weights_compiled_as_it_does_plain() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        student = build_model("wrn_10_1", num_classes=3, channels=1).eval().requires_grad_(False)
        images = torch.randn(4, 1, 8, 8)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        weights = cast_copies(student, torch.bfloat16)
        fused = compiled().forward_with(student, weights, images).logits
        plain = PLAIN.forward_with(student, weights, images).logits
        other = compiled().forward_with(student, {name: 2 * weight for name, weight in weights.items()}, images).logits
    torch.testing.assert_close(fused, plain, rtol=0.05, atol=0.05)
    assert (other - plain).abs().max() > 0.2


@pytest.mark.long
def test_a_second_trial_of_the_same_shapes_compiles_nothing(measurement: Measurement) -> None:
    first = without_timings(run(CONFIG, measurement).run_epoch())
    known = num_compiled()
    assert known > 0
    again = without_timings(run(CONFIG, measurement).run_epoch())
    run(replace(CONFIG, seed=1, weights=LossWeights(l2=2.0)), measurement).run_epoch()
    assert num_compiled() == known
    assert again == first


@pytest.mark.long
def test_two_epochs_and_two_more_after_a_file_equal_four_bit_for_bit(measurement: Measurement, tmp_path) -> None:
    whole, first, second = (run(CONFIG, measurement) for _ in range(3))
    expected = [without_timings(whole.run_epoch()) for _ in range(4)]
    found = [without_timings(first.run_epoch()) for _ in range(2)]
    checkpoint.save(copy_of(first.state_dict()), tmp_path / "state.pt")
    second.load_state_dict(checkpoint.load(tmp_path / "state.pt", kind="run"))
    found += [without_timings(second.run_epoch()) for _ in range(2)]
    assert found == expected
    assert differences(second.state_dict(), whole.state_dict()) == []


class Unordered(nn.Module):
    """Batch norms declared in another order than they run in; one runs twice, one not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.idle, self.first = (nn.BatchNorm2d(2) for _ in range(3))

    def forward(self, x: Tensor) -> Output:
        x = self.first(2.0 * x + 1.0).relu()
        x = self.last(x) - self.last(5.0 * x)
        return Output(x.mean(dim=(2, 3)), x.mean(dim=(2, 3)))


def test_statistics_are_of_their_layers_in_a_compiled_pass_too() -> None:
    network = Unordered().eval().requires_grad_(False)
    recorder = StatisticsRecorder(network)
    images = torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    _, fused = compiled().forward_recorded(network, recorder, images)
    _, plain = PLAIN.forward_recorded(network, recorder, images)
    assert [seen is None for seen in fused] == [False, True, False]
    torch.testing.assert_close([seen for seen in fused if seen], [seen for seen in plain if seen])
    torch.testing.assert_close(fused[2].mean, (2.0 * images + 1.0).mean(dim=(0, 2, 3)))


def test_without_a_compiler_the_setting_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch, measurement: Measurement) -> None:
    compiled.cache_clear()
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match=r"^compile: .* no-such-compiler is not on PATH"):
        run(CONFIG, measurement)
