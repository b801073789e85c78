"""Watches codebooks during training, and says in words what is wrong and what to try."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vqkit.evaluation.codebook import CodebookStats

HITS_PER_ENTRY = 8
"""A window of this many vectors per entry: under even use, one entry in 3,000 is missed by it."""
LOW_USAGE = 0.5
LOW_PERPLEXITY = 0.1
MANY_DEAD = 0.02
GROWTH = 4.0
NUM_REFERENCES = 3


@dataclass(frozen=True, slots=True)
class Norms:
    """Mean lengths of the vectors of one level.

    Attributes:
        z_e: Of the encoder's outputs.
        entries: Of the entries; None for a quantizer without a table.
    """

    z_e: float
    entries: float | None


class Health:
    """Follows use and norms over windows long enough to judge by, and speaks once of each trouble.

    Args:
        state: What ``state`` gave, to go on from there.
        windows: What ``windows`` held.
    """

    def __init__(
        self, state: Mapping[str, Any] | None = None, windows: Mapping[str, Tensor] | None = None
    ) -> None:
        state = state or {}
        self.said: set[str] = set(state.get("said", ()))
        self.norms: dict[str, list[float]] = {k: list(v) for k, v in state.get("norms", {}).items()}
        self.windows: dict[str, Tensor] = dict(windows or {})

    def state(self) -> dict[str, Any]:
        """All but the windows, as JSON values."""
        return {"said": sorted(self.said), "norms": self.norms}

    def follow(self, stats: Mapping[str, CodebookStats], norms: Mapping[str, Norms]) -> list[str]:
        """Takes in an interval of training.

        Args:
            stats: Use of each codebook in the interval, by name.
            norms: Of each level, by name.

        Returns:
            What there is to say now and was not said before, one line each.
        """
        found: dict[str, str] = {}
        for name, new in stats.items():
            window = self.windows.get(name)
            counts = new.counts if window is None else window + new.counts
            self.windows[name] = counts
            total = CodebookStats(new.size, counts)
            if total.num_vectors >= HITS_PER_ENTRY * new.size:
                found |= judge_usage(name, total)
                del self.windows[name]
        for name, norm in norms.items():
            history = self.norms.setdefault(name, [])
            history.append(norm.z_e)
            found |= judge_norms(name, history, norm.entries)
            # The first ones are the reference, the last ones show the direction.
            self.norms[name] = history[:NUM_REFERENCES] + history[NUM_REFERENCES:][-NUM_REFERENCES:]
        new_ones = [key for key in found if key not in self.said]
        self.said |= set(new_ones)
        return [found[key] for key in new_ones]


def judge_usage(name: str, stats: CodebookStats) -> dict[str, str]:
    """What is wrong with the use of a codebook, by kind: at most one line."""
    over = f"over {stats.num_vectors:,} training vectors"
    if stats.usage < LOW_USAGE or stats.perplexity < LOW_PERPLEXITY * stats.size:
        return {
            f"collapse/{name}": f"{name} collapses: {stats.num_used} of {stats.size} entries are "
            f"used, perplexity {stats.perplexity:.1f} (KL to uniform "
            f"{stats.kl_to_uniform_nats:.2f} nats) {over}. Try revive=true, quantizer.type=ema, "
            "a lower learning_rate, a smaller codebook_size or dim, or normalised encoder outputs "
            "(quantizer.type=normalized)"
        }
    if stats.dead > MANY_DEAD * stats.size:
        return {
            f"dead/{name}": f"{name} has {stats.dead} dead entries of {stats.size} {over}. Try "
            "revive=true, a smaller codebook_size, or more data"
        }
    return {}


def judge_norms(name: str, history: list[float], entries: float | None) -> dict[str, str]:
    """What is wrong with the lengths of the encoder's outputs, by kind: at most one line.

    Args:
        name: Of the level.
        history: Mean lengths, the first ones and the last ones, in order.
        entries: Mean length of the entries.
    """
    last = history[-NUM_REFERENCES:]
    if len(history) < 2 * NUM_REFERENCES or last != sorted(last):
        return {}
    start = sum(history[:NUM_REFERENCES]) / NUM_REFERENCES
    if last[-1] < GROWTH * max(start, 1e-12):
        return {}
    beside = "" if entries is None else f", that of the entries is {entries:.3g}"
    return {
        f"growth/{name}": f"{name}: the norm of the encoder's outputs grows without bound: it was "
        f"{start:.3g} and is {last[-1]:.3g}{beside}. Try a larger commitment (0.25 is usual), "
        "normalised encoder outputs (quantizer.type=normalized), or a lower learning_rate"
    }
