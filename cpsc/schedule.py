"""Learning rates and other schedules as pure functions of the epoch (counted from 1), so there is no state to save or step."""

import math

from cpsc.config import GeneratorConfig, InversionConfig, StudentConfig


def student_lr(config: StudentConfig, *, epoch: int, epochs: int) -> float:
    """Linear warm-up to `lr` over the first `warmup_epochs`, then a cosine to `final_lr_fraction` of it at `epochs`, or milestones.

    CPSC-DFKD sec. 4.1: epoch e of the warm-up uses lr * e / warmup_epochs. Without a warm-up the first epoch uses `lr` itself, and
    the cosine ends after the last epoch, as in the code of the other methods.
    """
    if epoch <= config.warmup_epochs:
        return config.lr * epoch / config.warmup_epochs
    if config.annealing == "milestones":
        return float(config.lr * config.decay ** _num_passed(config.milestones, epoch))
    first = max(1, config.warmup_epochs)
    progress = (epoch - first) / max(1, epochs - config.warmup_epochs)
    return config.lr * (config.final_lr_fraction + (1.0 - config.final_lr_fraction) * _cosine(progress))


def generator_lr(config: GeneratorConfig, *, epoch: int, epochs: int) -> float:
    """`lr`, multiplied by `decay` for each milestone passed; or a cosine that reaches 0 after the last of `epochs`."""
    if not config.decay_lr:
        return config.lr
    if config.annealing == "cosine":
        return config.lr * _cosine((epoch - 1) / epochs)
    return float(config.lr * config.decay ** _num_passed(config.milestones, epoch))


def importance_exponent(config: InversionConfig, *, epoch: int, epochs: int) -> float:
    """Linear from `importance_exponent` in the first epoch to 1 in the last. Schaul et al. 2016, sec. 3.4, beta."""
    first = config.importance_exponent
    return first + (1.0 - first) * (epoch - 1) / max(1, epochs - 1)


def annealed(lr: float, step: int, steps: int) -> float:
    """Learning rate at `step`, counted from 0, of the `steps` that make a batch: half a cosine, as in DeepInversion's own code.

    The loss has settled at the end. At a constant rate it keeps falling, with jumps, for several times as many steps.
    """
    return lr * _cosine(step / steps)


def _cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _num_passed(milestones: tuple[int, ...], epoch: int) -> int:
    return sum(epoch > milestone for milestone in milestones)
