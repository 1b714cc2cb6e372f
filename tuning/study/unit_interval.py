"""Ranges as the unit interval: positions of values in their range and back, on the scale that values are drawn on."""

import math

from tuning.study.distributions import INTEGER_SAMPLERS, Distribution


def position_of(domain: Distribution, value: float) -> float:
    """Position of `value` in `domain`, which must not be a choice: in [0, 1]. Values beyond an end count as the end."""
    lower, upper = domain.edges
    low, high = _ends(domain)
    return (_scaled(domain, min(max(value, lower), upper)) - low) / (high - low)


def value_at(domain: Distribution, position: float) -> float:
    """The value of `domain` at `position` in [0, 1], rounded to the nearest value that can be drawn."""
    lower, upper = domain.edges
    low, high = _ends(domain)
    value = low + position * (high - low)
    value = math.exp(value) if _is_logarithmic(domain) else value
    if step := _step(domain):
        value = lower + step * round((value - lower) / step)
    value = min(max(value, lower), upper)
    return int(value) if domain.sampler in INTEGER_SAMPLERS else float(value)


def _ends(domain: Distribution) -> tuple[float, float]:
    """Ends of the interval; with steps, half a step beyond the first and last value, so that each value gets an equal part."""
    lower, upper = domain.edges
    half = _step(domain) / 2
    return _scaled(domain, lower - half), _scaled(domain, upper + half)


def _scaled(domain: Distribution, value: float) -> float:
    return math.log(value) if _is_logarithmic(domain) else value


def _is_logarithmic(domain: Distribution) -> bool:
    return domain.sampler.startswith("log")


def _step(domain: Distribution) -> float:
    """Distance between two neighbouring values; 0 if the domain is continuous."""
    if domain.sampler.startswith("q"):
        return float(domain.arguments[2])
    return 1.0 if domain.sampler in INTEGER_SAMPLERS else 0.0
