"""Checks settings against what a method has: a setting that the method would ignore is refused."""

from collections.abc import Iterable

from cpsc.config import DistillConfig, LossWeights
from cpsc.errors import ConfigError
from cpsc.methods.base import AbstractMethod
from cpsc.methods.declared import foreign_sections
from cpsc.rules import changed_fields

Method = type[AbstractMethod]


def check(method: Method, config: DistillConfig) -> None:
    """Raise ConfigError if `config` sets something that `method` does not have, or leaves a phase with nothing to minimise."""
    _check_owned(method, config)
    method.check(config)
    _check_temperatures(method, config)
    _check_trained(method, config)
    method.SYNTHESIS.check(config)
    _check_replay(config)
    _check_family(method, config)


def _check_owned(method: Method, config: DistillConfig) -> None:
    name = config.method
    for term, weight in vars(config.weights).items():
        if weight and term not in method.TERMS:
            raise ConfigError(f"weights.{term} must be 0 for method {name}, which has no such term, got {weight!r}")
    for section in foreign_sections(method, config):
        for field, value in changed_fields(getattr(config, section)).items():
            raise ConfigError(f"{section}.{field} must be left out for method {name}, which does not have it, got {value!r}")
    for field, value in changed_fields(config.switches).items():
        if field not in method.SWITCHES:
            raise ConfigError(f"switches.{field} must be left out for method {name}, which does not have it, got {value!r}")


def _check_temperatures(method: Method, config: DistillConfig) -> None:
    defaults = DistillConfig()
    for name, term in (("distillation_temperature", "kl"), ("contrast_temperature", "contrast")):
        value = getattr(config, name)
        if term not in method.TERMS and value != getattr(defaults, name):
            raise ConfigError(f"{name} must be left out for method {config.method}, which has no term {term}, got {value!r}")


def _check_trained(method: Method, config: DistillConfig) -> None:
    """Raise ConfigError if a phase has nothing to minimise."""
    if not _counts(config.weights, method.STUDENT_TERMS):
        term = method.STUDENT_TERMS[0] if method.STUDENT_TERMS else "kl"
        raise ConfigError(f"weights.{term} must be > 0 for method {config.method}: the student would learn nothing")
    if not _counts(config.weights, method.GENERATOR_TERMS):
        known = ", ".join(method.GENERATOR_TERMS)
        raise ConfigError(f"weights: one of {known} must be > 0 for method {config.method}: the generator would learn nothing")
    peaceful = [term for term in method.GENERATOR_TERMS if term not in method.ADVERSARIAL]
    if config.schedule.generator_warmup_epochs and not _counts(config.weights, peaceful):
        raise ConfigError(
            f"schedule.generator_warmup_epochs must be 0 if the generator learns from {_named(method.ADVERSARIAL)} only, "
            f"got {config.schedule.generator_warmup_epochs!r}"
        )


def _check_replay(config: DistillConfig) -> None:
    if config.replay.answers == "kept" and config.weights.attention:
        raise ConfigError("replay.answers must be 'asked' with weights.attention, because its maps are not kept, got 'kept'")


def _check_family(method: Method, config: DistillConfig) -> None:
    family, changed = config.generator.family, changed_fields(config.generator)
    if family != "pre" and (form := changed.get("spectral_norm")) is not None:
        raise ConfigError(f"generator.spectral_norm must be left out for generator.family {family}, which has none, got {form!r}")
    if family != "conditional" and (embedding := changed.get("embedding")) is not None:
        raise ConfigError(f"generator.embedding must be left out for generator.family {family}, which has none, got {embedding!r}")
    if not method.SYNTHESIS.is_told_classes(config) and _counts(config.weights, method.LABEL_TERMS):
        raise ConfigError(
            f"generator.family must be 'conditional' for method {config.method} with labels ({_named(method.LABEL_TERMS)}), "
            f"got {family!r}"
        )


def _counts(weights: LossWeights, terms: Iterable[str]) -> bool:
    return any(weights[term] for term in terms)


def _named(terms: Iterable[str]) -> str:
    return ", ".join(f"weights.{term}" for term in terms)
