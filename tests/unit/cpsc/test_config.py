import math
from dataclasses import FrozenInstanceError

import pytest

from cpsc.config import (
    DistillConfig,
    GeneratorConfig,
    LossWeights,
    ScheduleConfig,
    StudentConfig,
    SwitchesConfig,
)
from cpsc.data import DatasetConfig
from cpsc.data.dataset import Normalisation
from cpsc.errors import ConfigError
from cpsc.methods.cpsc import CpscConfig
from cpsc.probe import ProbeConfig
from cpsc.published import PublishedConfig
from cpsc.teacher_training import TeacherRecipe

BROKEN = [
    (lambda: LossWeights(kl=-1.0), "weights.kl must be >= 0, got -1.0"),
    (lambda: LossWeights(l2=math.nan), "weights.l2 must be >= 0, got nan"),
    (lambda: LossWeights(adversarial=math.inf), "weights.adversarial must be >= 0, got inf"),
    (lambda: LossWeights(batch_statistics=-0.5), "weights.batch_statistics must be >= 0, got -0.5"),
    (lambda: LossWeights(contrast=-1e-9), "weights.contrast must be >= 0, got -1e-09"),
    (lambda: LossWeights(label=-2), "weights.label must be >= 0, got -2"),
    (lambda: LossWeights(kl=0.0, l2=0.0), "weights.kl and weights.l2 must be not both 0: the student would learn nothing, got 0.0"),
    (lambda: StudentConfig(lr=0.0), "student.lr must be > 0, got 0.0"),
    (lambda: StudentConfig(lr=math.inf), "student.lr must be > 0, got inf"),
    (lambda: StudentConfig(momentum=1.0), "student.momentum must be in [0, 1), got 1.0"),
    (lambda: StudentConfig(momentum=-0.1), "student.momentum must be in [0, 1), got -0.1"),
    (lambda: StudentConfig(weight_decay=-1.0), "student.weight_decay must be >= 0, got -1.0"),
    (lambda: StudentConfig(warmup_epochs=-1), "student.warmup_epochs must be >= 0, got -1"),
    (lambda: StudentConfig(final_lr_fraction=1.5), "student.final_lr_fraction must be in [0, 1], got 1.5"),
    (lambda: StudentConfig(final_lr_fraction=-0.5), "student.final_lr_fraction must be in [0, 1], got -0.5"),
    (lambda: GeneratorConfig(latent_dim=0), "generator.latent_dim must be > 0, got 0"),
    (lambda: GeneratorConfig(width=7), "generator.width must be even and >= 2, got 7"),
    (lambda: GeneratorConfig(width=0), "generator.width must be even and >= 2, got 0"),
    (lambda: GeneratorConfig(lr=-1e-3), "generator.lr must be > 0, got -0.001"),
    (lambda: GeneratorConfig(beta1=1.0), "generator.beta1 must be in [0, 1), got 1.0"),
    (lambda: GeneratorConfig(beta2=-0.1), "generator.beta2 must be in [0, 1), got -0.1"),
    (lambda: GeneratorConfig(milestones=(150, 50)), "generator.milestones must be rising positive epochs, got [150, 50]"),
    (lambda: GeneratorConfig(milestones=(50, 50)), "generator.milestones must be rising positive epochs, got [50, 50]"),
    (lambda: GeneratorConfig(milestones=(0, 50)), "generator.milestones must be rising positive epochs, got [0, 50]"),
    (lambda: GeneratorConfig(decay=0.0), "generator.decay must be in (0, 1], got 0.0"),
    (lambda: GeneratorConfig(decay=1.1), "generator.decay must be in (0, 1], got 1.1"),
    (lambda: CpscConfig(contrast_base_temperature=0.0), "cpsc.contrast_base_temperature must be > 0, got 0.0"),
    (lambda: ScheduleConfig(iterations=0), "schedule.iterations must be > 0, got 0"),
    (lambda: ScheduleConfig(generator_steps=0), "schedule.generator_steps must be > 0, got 0"),
    (lambda: ScheduleConfig(student_steps=-1), "schedule.student_steps must be > 0, got -1"),
    (lambda: ScheduleConfig(batch_size=1), "schedule.batch_size must be >= 2 (batch norm), got 1"),
    (lambda: DistillConfig(epochs=0), "epochs must be > 0, got 0"),
    (lambda: DistillConfig(seed=-1), "seed must be >= 0, got -1"),
    (lambda: DistillConfig(distillation_temperature=0.0), "distillation_temperature must be > 0, got 0.0"),
    (lambda: DistillConfig(contrast_temperature=math.nan), "contrast_temperature must be > 0, got nan"),
    (lambda: DistillConfig(diverged_above=0.0), "diverged_above must be > 0, got 0.0"),
    (lambda: DistillConfig(diverged_above=math.nan), "diverged_above must be > 0, got nan"),
    (lambda: DistillConfig(diverged_above=math.inf), "diverged_above must be > 0, got inf"),
    (lambda: DistillConfig(epochs=10**7), "epochs must be <= 1000000, got 10000000"),
    (lambda: ScheduleConfig(batch_size=100_000), "schedule.batch_size must be <= 65536, got 100000"),
    (lambda: ScheduleConfig(iterations=10**7), "schedule.iterations must be <= 1000000, got 10000000"),
    (lambda: GeneratorConfig(latent_dim=10**6), "generator.latent_dim must be <= 65536, got 1000000"),
    (lambda: GeneratorConfig(width=10**4), "generator.width must be <= 4096, got 10000"),
    (lambda: DistillConfig(epochs=5), "student.warmup_epochs must be <= epochs (5), got 10"),
]


@pytest.mark.parametrize(("build", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_a_broken_rule_is_named_with_its_path_and_value_in_one_line(build, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "build",
    [
        lambda: LossWeights(kl=0.0),
        lambda: LossWeights(l2=0.0),
        lambda: StudentConfig(momentum=0.0, weight_decay=0.0, warmup_epochs=0, final_lr_fraction=1.0),
        lambda: GeneratorConfig(width=2, beta1=0.0, beta2=0.0, milestones=(), decay=1.0),
        lambda: ScheduleConfig(iterations=1, generator_steps=1, student_steps=1, batch_size=2),
        lambda: DistillConfig(epochs=10, seed=0),
    ],
)
def test_values_on_the_right_side_of_the_rules_are_accepted(build) -> None:
    assert build() == build()


WRONG_KINDS = [
    (lambda: LossWeights(kl=True), "weights.kl must be a number, got True"),
    (lambda: LossWeights(kl="1"), "weights.kl must be a number, got '1'"),
    (lambda: StudentConfig(nesterov=1), "student.nesterov must be True or False, got 1"),
    (lambda: StudentConfig(optimizer="sdg"), "student.optimizer must be one of sgd, adam, got 'sdg'"),
    (lambda: StudentConfig(milestones=(1, True)), "student.milestones must be a list, each a whole number, got (1, True)"),
    (lambda: StudentConfig(clip_norm="1"), "student.clip_norm must be a number or None, got '1'"),
    (lambda: StudentConfig(arch=18), "student.arch must be text, got 18"),
    (lambda: SwitchesConfig(balance_base=10), "switches.balance_base must be one of e, 10, got 10"),
    (lambda: DistillConfig(epochs=20.0), "epochs must be a whole number, got 20.0"),
    (lambda: DistillConfig(seed=False), "seed must be a whole number, got False"),
    (lambda: DistillConfig(weights={"kl": 1}), "weights must be a LossWeights, got {'kl': 1}"),
    (lambda: Normalisation((True,), (1.0,)), "normalisation.mean must be a list, each a number, got (True,)"),
    (lambda: ProbeConfig(steps=True), "probe.steps must be a whole number, got True"),
    (lambda: TeacherRecipe(arch="wrn_10_1", lr="0.1"), "lr must be a number, got '0.1'"),
    (lambda: DatasetConfig(name="digits", flip=1), "dataset.flip must be True or False or None, got 1"),
    (lambda: PublishedConfig(channels=True), "channels must be a whole number or None, got True"),
]


@pytest.mark.parametrize(("build", "message"), WRONG_KINDS, ids=[message for _, message in WRONG_KINDS])
def test_no_value_is_taken_for_one_of_another_kind(build, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value) == message


def test_a_whole_number_is_a_number_and_a_list_does_for_a_tuple() -> None:
    assert LossWeights(kl=1).kl == 1
    assert StudentConfig(milestones=[2, 4]).milestones == [2, 4]


def test_defaults_are_the_papers() -> None:
    config = DistillConfig()
    weights = {"kl": 1, "l2": 5, "adversarial": 1, "batch_statistics": 1, "contrast": 0.7, "label": 0.7}
    assert {name: value for name, value in vars(config.weights).items() if value} == weights
    schedule = {"iterations": 50, "generator_steps": 6, "student_steps": 5, "batch_size": 512}
    assert vars(config.schedule).items() >= schedule.items()
    assert config.replay.kind == "none"
    assert (config.epochs, config.distillation_temperature, config.contrast_temperature) == (600, 1.0, 0.07)
    assert (config.student.lr, config.student.momentum, config.student.weight_decay) == (0.1, 0.9, 5e-4)
    assert (config.generator.lr, config.generator.beta1, config.generator.beta2) == (1e-3, 0.5, 0.999)
    assert (config.generator.milestones, config.generator.decay, config.generator.latent_dim) == ((50, 150), 0.1, 256)
    assert config.student.train_mode_in_generator_phase
    assert config.diverged_above == 1e6


def test_a_config_cannot_be_changed_after_its_check() -> None:
    with pytest.raises(FrozenInstanceError):
        DistillConfig().epochs = -1
