"""Methods by name, and which settings each of them has."""

from dataclasses import asdict
from typing import Any

from cpsc.config import DistillConfig, LossWeights
from cpsc.errors import ConfigError
from cpsc.methods.adi import Adi
from cpsc.methods.base import AbstractMethod, Terms, View, changed_fields, feature_dim, num_input_channels, stages
from cpsc.methods.cmi import Cmi
from cpsc.methods.cpsc import Cpsc
from cpsc.methods.dafl import Dafl
from cpsc.methods.dfad import Dfad
from cpsc.methods.dfq import Dfq
from cpsc.methods.pre_dfkd import AGREEMENTS as PRE_DFKD_AGREEMENTS
from cpsc.methods.pre_dfkd import PreDfkd
from cpsc.methods.zskt import Zskt

__all__ = [
    "METHODS",
    "AbstractMethod",
    "Terms",
    "View",
    "check_method",
    "feature_dim",
    "num_input_channels",
    "own_settings",
    "stages",
]

METHODS: dict[str, type[AbstractMethod]] = {
    "cpsc": Cpsc,
    "pre_dfkd": PreDfkd,
    "dafl": Dafl,
    "zskt": Zskt,
    "dfad": Dfad,
    "adi": Adi,
    "dfq": Dfq,
    "cmi": Cmi,
}
OPTIONAL_SECTIONS = ("cpsc", "replay", "inversion", "cmi")
PIXEL_FAMILIES = ("small", "large")
ADI_ONLY = {"jitter", "flip", "clip", "clip_noise"}
"""Of `inversion`, what CMI, whose views are crops, has not."""


def own_settings(config: DistillConfig) -> dict[str, Any]:
    """`config` as nested keys without what its method does not have: what there is to say of a run."""
    method = METHODS[config.method]
    nested = asdict(config)
    foreign = [section for section in OPTIONAL_SECTIONS if section not in method.SECTIONS]
    own = {key: value for key, value in nested.items() if key not in foreign}
    own["weights"] = {term: weight for term, weight in nested["weights"].items() if term in method.TERMS}
    own["switches"] = {name: value for name, value in nested["switches"].items() if name in method.SWITCHES}
    return own


def check_method(config: DistillConfig) -> None:
    """Raise ConfigError where `config` sets what its method does not have: it would be ignored, and searched in vain."""
    name, method = config.method, METHODS[config.method]
    for term, weight in vars(config.weights).items():
        if weight and term not in method.TERMS:
            raise ConfigError(f"weights.{term} must be 0 for method {name}, which has no such term, got {weight!r}")
    for section in OPTIONAL_SECTIONS:
        changed = {} if section in method.SECTIONS else changed_fields(config, section)
        for field, value in changed.items():
            raise ConfigError(f"{section}.{field} must be left out for method {name}, which does not have it, got {value!r}")
    for field, value in changed_fields(config, "switches").items():
        if field not in method.SWITCHES:
            raise ConfigError(f"switches.{field} must be left out for method {name}, which does not have it, got {value!r}")
    form = config.switches.disagreement
    if config.method == "pre_dfkd" and form not in PRE_DFKD_AGREEMENTS:
        known = ", ".join(PRE_DFKD_AGREEMENTS)
        raise ConfigError(f"switches.disagreement must be one of {known} for method pre_dfkd, got {form!r}")
    _check_temperatures(config)
    _check_trained(config)
    _check_generator(config)


def _check_temperatures(config: DistillConfig) -> None:
    terms, defaults = METHODS[config.method].TERMS, DistillConfig()
    for name, term in (("distillation_temperature", "kl"), ("contrast_temperature", "contrast")):
        value = getattr(config, name)
        if term not in terms and value != getattr(defaults, name):
            raise ConfigError(f"{name} must be left out for method {config.method}, which has no term {term}, got {value!r}")


def _check_trained(config: DistillConfig) -> None:
    """Each phase must have something to minimise, of what its method has."""
    terms, weights = METHODS[config.method].TERMS, config.weights
    student = [term for term in ("kl", "l2", "l1") if term in terms]
    if not any(getattr(weights, term) for term in student):
        raise ConfigError(f"weights.{student[0]} must be > 0 for method {config.method}: the student would learn nothing")
    generator = [term for term in vars(LossWeights()) if term in terms - {"kl", "l2", "l1", "attention"}]
    if not any(getattr(weights, term) for term in generator):
        raise ConfigError(
            f"weights: of {', '.join(generator)} one must be > 0 for method {config.method}: the generator would learn nothing"
        )
    if config.schedule.generator_warmup_epochs and not any(getattr(weights, term) for term in generator if term != "adversarial"):
        raise ConfigError(
            "schedule.generator_warmup_epochs must be 0 where weights.adversarial is all that the generator learns from, "
            f"got {config.schedule.generator_warmup_epochs!r}"
        )


def _check_generator(config: DistillConfig) -> None:
    family, method = config.generator.family, METHODS[config.method]
    if config.method == "cmi" and family not in PIXEL_FAMILIES:
        raise ConfigError(f"generator.family must be one of {', '.join(PIXEL_FAMILIES)} for method cmi, got {family!r}")
    is_inversion = "inversion" in method.SECTIONS
    if not is_inversion and (size := config.schedule.student_batch_size) is not None:
        rule = f"must be left out for method {config.method}, which keeps no pool"
        raise ConfigError(f"schedule.student_batch_size {rule}, got {size}")
    if config.method == "cmi" and (unused := changed_fields(config, "inversion").keys() & ADI_ONLY):
        raise ConfigError(f"inversion.{min(unused)} must be left out for method cmi, whose views are crops")
    if family != "pre" and (form := changed_fields(config, "generator").get("spectral_norm")) is not None:
        raise ConfigError(f"generator.spectral_norm must be left out for generator.family {family}, which has none, got {form!r}")
    if family != "conditional" and (embedding := changed_fields(config, "generator").get("embedding")) is not None:
        raise ConfigError(f"generator.embedding must be left out for generator.family {family}, which has none, got {embedding!r}")
    if method.USES_LABELS and not is_inversion and family != "conditional" and (config.weights.label or config.weights.contrast):
        raise ConfigError(
            f"generator.family must be 'conditional' for method {config.method} with labels (weights.label, weights.contrast), "
            f"got {family!r}"
        )
    if is_inversion and (config.schedule.student_images, config.schedule.order) != ("fresh", "generator_first"):
        raise ConfigError(f"schedule.student_images and schedule.order must be left out for method {config.method}")
    if is_inversion and config.generator.optimizer != "persistent":
        raise ConfigError(f"generator.optimizer must be left out for method {config.method}")
