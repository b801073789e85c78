"""How codes are drawn from a prior: what a caller may choose. Needs no torch."""

import math
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How integers are drawn from what a prior says of them.

    Attributes:
        temperature: Divides the logits; greater than 0: below 1 more typical, above 1 more varied.
        top_k: Only the k most probable are left; None for all.
        top_p: Of those, only the fewest most probable whose sum is at least p; 0 for the most
            probable alone, None for all.
        guidance: How much more than without it the conditioning counts: 1 as it was trained, more
            to hold closer to it, 0 to leave it out.
        steps: In how many steps all integers are drawn, for priors that draw many at once; None
            for the prior's own choice.

    Raises:
        ValueError: If one is out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    guidance: float = 1.0
    steps: int | None = None

    def __post_init__(self) -> None:
        for name, value in self.settings().items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
                raise TypeError(f"{name} is {value!r}; give a number")
        check_choice(self.temperature, self.top_k, self.top_p)
        if not math.isfinite(self.guidance) or self.guidance < 0:
            raise ValueError(
                f"guidance is {self.guidance}; give 1 for the class as trained, more to hold "
                "closer to it, 0 to leave it out"
            )
        if self.steps is not None and (self.steps < 1 or self.steps != int(self.steps)):
            raise ValueError(f"steps is {self.steps}; give an integer of at least 1")

    def settings(self) -> dict[str, Any]:
        """All of these by name, as JSON values."""
        return {each.name: getattr(self, each.name) for each in fields(Drawing)}


def changed(settings: dict[str, Any]) -> str:
    """Those settings that differ from the plain ones, such as "top_p 0.9, guidance 2"; or ""."""
    usual = PLAIN.settings()
    return ", ".join(
        f"{name} {value:g}" for name, value in settings.items() if value != usual[name]
    )


def check_choice(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raises ValueError unless an integer can be chosen in such a way."""
    if not 0 < temperature < math.inf:
        raise ValueError(
            f"temperature is {temperature}; give a number greater than 0 (top_p 0 draws the most "
            "probable alone)"
        )
    if top_k is not None and not (top_k >= 1 and top_k == top_k // 1):
        raise ValueError(
            f"top_k is {top_k}; give an integer of at least 1, or leave it out to keep all"
        )
    if top_p is not None and not 0 <= top_p <= 1:
        raise ValueError(
            f"top_p is {top_p}; give 0 (the most probable alone) to 1 (all), or leave it out"
        )


PLAIN = Drawing()
"""As the prior was trained."""
