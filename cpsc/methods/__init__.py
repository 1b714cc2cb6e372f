"""Table of methods by name, and what the choice of a method means for a run's settings."""

import functools
import inspect
from dataclasses import asdict
from typing import Any

from cpsc.config import DistillConfig
from cpsc.errors import ConfigError
from cpsc.import_path import import_object, is_import_path
from cpsc.methods import checks, declared
from cpsc.methods.adi import Adi
from cpsc.methods.base import AbstractMethod, BatchOutputs, Settings, Terms, feature_dim, num_input_channels, stages
from cpsc.methods.cmi import Cmi
from cpsc.methods.cpsc import Cpsc
from cpsc.methods.dafl import Dafl
from cpsc.methods.dfad import Dfad
from cpsc.methods.dfq import Dfq
from cpsc.methods.fast_dfkd import FastDfkd
from cpsc.methods.nayer import Nayer
from cpsc.methods.pre_dfkd import PreDfkd
from cpsc.methods.published_settings import NO_TERMS
from cpsc.methods.zskt import Zskt

__all__ = [
    "METHODS",
    "NO_TERMS",
    "AbstractMethod",
    "BatchOutputs",
    "Settings",
    "Terms",
    "check_method",
    "config_class",
    "effective_settings",
    "feature_dim",
    "method_class",
    "num_input_channels",
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
    "nayer": Nayer,
    "fast_dfkd": FastDfkd,
}
"""A method consists of its file and its row here; all other code asks its class."""


def method_class(name: str) -> type[AbstractMethod]:
    """The class of a method in `METHODS`, or of a user's own, ``package.module:Class``, which is imported.

    Importing runs the user's code, so such a name must come from a person. ConfigError if there is no such method.
    """
    if name in METHODS:
        return METHODS[name]
    if not is_import_path(name):
        raise ConfigError(f"method {name!r}: unknown, use one of {', '.join(METHODS)}, or your own as package.module:Class")
    found = import_object(name, noun="method", kind="Class")
    if not (isinstance(found, type) and issubclass(found, AbstractMethod)):
        kind = "another class" if isinstance(found, type) else f"a {type(found).__name__}"
        raise ConfigError(f"method {name}: must be a class derived from cpsc.methods.AbstractMethod, got {kind}")
    if inspect.isabstract(found):
        raise ConfigError(f"method {name}: lacks {', '.join(sorted(found.__abstractmethods__))}")
    try:
        declared.check(found)
    except ConfigError as error:
        raise ConfigError(f"method {name}: {error}") from error
    return found


def config_class(name: str) -> type[DistillConfig]:
    """`DistillConfig` extended by the terms and sections of the methods in `METHODS` and of method `name`."""
    return _ours() if name in METHODS else _with_users(method_class(name))


@functools.cache
def _ours() -> type[DistillConfig]:
    return declared.extended(DistillConfig, *METHODS.values(), reduce=_reduced)


@functools.cache
def _with_users(method: type[AbstractMethod]) -> type[DistillConfig]:
    return declared.extended(_ours(), method, reduce=_reduced)


def _reduced(config: DistillConfig) -> tuple[Any, ...]:
    return _rebuilt, (config.method, vars(config) | {"weights": vars(config.weights)})


def _rebuilt(method: str, values: dict[str, Any]) -> DistillConfig:
    kind = config_class(method)
    weights = type(kind().weights)(**values["weights"])
    return kind(**values | {"weights": weights})


def effective_settings(config: DistillConfig) -> dict[str, Any]:
    """`config` as nested keys, without the settings that its method does not have: a description of the run."""
    method = method_class(config.method)
    nested = asdict(config)
    foreign = declared.foreign_sections(method, config)
    own = {key: value for key, value in nested.items() if key not in foreign}
    own["weights"] = {term: weight for term, weight in nested["weights"].items() if term in method.TERMS}
    own["switches"] = {name: value for name, value in nested["switches"].items() if name in method.SWITCHES}
    return own


def check_method(config: DistillConfig) -> None:
    """Raise ConfigError if `config` sets something that its method does not have: it would be ignored, and searched in vain."""
    checks.check(method_class(config.method), config)
