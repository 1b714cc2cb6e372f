"""How close the published values are assumed to be to the best ones."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator

DEVIATIONS = {"low": 0.5, "medium": 0.25, "high": 0.125}
"""Standard deviations by confidence, as a share of a parameter's range; from PriorBand (Mallik et al. 2023, arXiv:2306.12370)."""
NARROWEST = 0.01


class PriorConfig(BaseModel):
    """Settings of sampler `prior`. `confidence`: low, medium, high, or the standard deviation itself, as a share of each range."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    confidence: Literal["low", "medium", "high"] | float = "medium"

    @property
    def deviation(self) -> float:
        """The standard deviation, as a share of each range."""
        return DEVIATIONS[self.confidence] if isinstance(self.confidence, str) else self.confidence

    @field_validator("confidence", mode="plain")
    @classmethod
    def _check_confidence(cls, value: Any) -> Any:
        """One rule in one message; pydantic would report a failure for each of the two types."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if (isinstance(value, str) and value in DEVIATIONS) or (is_number and NARROWEST <= value <= 1):
            return value
        raise ValueError(f"must be {', '.join(DEVIATIONS)}, or a standard deviation in [{NARROWEST}, 1], as a share of each range")
