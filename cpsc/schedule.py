"""Learning rates as pure functions of the epoch (counted from 1): nothing to save, nothing to step."""

import math

from cpsc.config import GeneratorConfig, StudentConfig


def student_lr(config: StudentConfig, *, epoch: int, epochs: int) -> float:
    """Linear warm-up to `lr` over the first `warmup_epochs`, then a cosine to `final_lr_fraction` of it at `epochs`.

    CPSC-DFKD sec. 4.1: epoch e of the warm-up uses lr * e / warmup_epochs.
    """
    if epoch <= config.warmup_epochs:
        return config.lr * epoch / config.warmup_epochs
    progress = (epoch - config.warmup_epochs) / max(1, epochs - config.warmup_epochs)
    cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
    return config.lr * (config.final_lr_fraction + (1.0 - config.final_lr_fraction) * cosine)


def generator_lr(config: GeneratorConfig, *, epoch: int) -> float:
    """`lr`, multiplied by `decay` for each milestone that has been passed."""
    if not config.decay_lr:
        return config.lr
    return float(config.lr * config.decay ** sum(epoch > milestone for milestone in config.milestones))
