"""Ranges as the unit interval: where in its range a value lies, and which value lies where, on the scale that it is drawn on."""

import math

from tuning.study.distributions import INTEGER_SAMPLERS, Distribution


def position_of(domain: Distribution, value: float) -> float:
    """Where `value` lies between the ends of `domain`, which is no choice: in [0, 1]. What lies beyond an end counts as the end."""
    lower, upper = domain.edges
    low, high = _ends(domain)
    return (_scaled(domain, min(max(value, lower), upper)) - low) / (high - low)


def value_at(domain: Distribution, position: float) -> float:
    """The value of `domain` that lies at `position` in [0, 1]; where only some can be drawn, the nearest of them."""
    lower, upper = domain.edges
    low, high = _ends(domain)
    value = low + position * (high - low)
    value = math.exp(value) if _is_logarithmic(domain) else value
    if step := _step(domain):
        value = lower + step * round((value - lower) / step)
    value = min(max(value, lower), upper)
    return int(value) if domain.sampler in INTEGER_SAMPLERS else float(value)


def _ends(domain: Distribution) -> tuple[float, float]:
    """Those of the interval; half a step beyond the first and the last value, where there are steps: each has as much of it."""
    lower, upper = domain.edges
    half = _step(domain) / 2
    return _scaled(domain, lower - half), _scaled(domain, upper + half)


def _scaled(domain: Distribution, value: float) -> float:
    return math.log(value) if _is_logarithmic(domain) else value


def _is_logarithmic(domain: Distribution) -> bool:
    return domain.sampler.startswith("log")


def _step(domain: Distribution) -> float:
    """Between two values; 0 where there is one between any two."""
    if domain.sampler.startswith("q"):
        return float(domain.arguments[2])
    return 1.0 if domain.sampler in INTEGER_SAMPLERS else 0.0
