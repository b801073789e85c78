"""Watches codebooks during training, and says in words what is wrong and what to try."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vqkit.evaluation.codebook import CodebookStats
from vqkit.evaluation.levels import findings, idle_levels
from vqkit.quantizers.selective import KEPT

HITS_PER_ENTRY = 8
"""A window has as many vectors per entry: even use misses one entry in 3,000 by chance."""
PATIENCE = 3
"""A trouble is named when it was found as many times running."""
FIRST_STEP = 500
"""Nothing is judged before: untrained networks change fast, and dead entries are still revived."""
LOW_USAGE, LOW_PERPLEXITY, MANY_DEAD = 0.5, 0.1, 0.02
EXCHANGED = "exchanged_mse"
"""The name of the error of each level where its codes were exchanged between items."""
QUANTIZER = "model.quantizer"
AGAINST_COLLAPSE = (
    f"{QUANTIZER}.revive=true",
    f"{QUANTIZER}.type=ema",
    "a lower train.learning_rate",
    f"a smaller {QUANTIZER}.codebook_size",
    f"normalised encoder outputs ({QUANTIZER}.type=normalized)",
)
AGAINST_DEAD = (
    f"{QUANTIZER}.revive=true",
    f"a smaller {QUANTIZER}.codebook_size",
    "more data",
)
DOUBLING = 1.5
"""Growth of a norm between half of the time and now, from which on it is not settling."""


@dataclass(frozen=True, slots=True)
class Norms:
    """Mean norms of the vectors of one level.

    Attributes:
        z_e: Of the encoder's outputs.
        entries: Of the entries; None for a quantizer without a table.
    """

    z_e: float
    entries: float | None


@dataclass(frozen=True, slots=True)
class Settings:
    """What is set of a quantizer, which is not advised again, and where.

    Attributes:
        values: By the names of its keys; none where that is not known.
        key: Where they are in the config.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    key: str = QUANTIZER


class Health:
    """Follows use and norms over windows long enough to judge by, and speaks once of each trouble.

    Args:
        state: What ``state`` gave, to go on from there.
        windows: What ``windows`` held.
        settings: What is set of each codebook's quantizer, and each level's, where that is known.
    """

    def __init__(
        self,
        state: Mapping[str, Any] | None = None,
        windows: Mapping[str, Tensor] | None = None,
        settings: Mapping[str, Settings] | None = None,
    ) -> None:
        state = state or {}
        self.settings = settings or {}
        self.said: set[str] = set(state.get("said", ()))
        self.streaks: dict[str, int] = dict(state.get("streaks", {}))
        self.norms: dict[str, list[tuple[int, float]]] = {
            name: [(step, norm) for step, norm in history]
            for name, history in state.get("norms", {}).items()
        }
        self.windows: dict[str, Tensor] = dict(windows or {})

    def state(self) -> dict[str, Any]:
        """All but the windows, as JSON values."""
        norms = {name: [list(pair) for pair in history] for name, history in self.norms.items()}
        return {"said": sorted(self.said), "streaks": self.streaks, "norms": norms}

    def follow(
        self, step: int, stats: Mapping[str, CodebookStats], norms: Mapping[str, Norms]
    ) -> list[str]:
        """Takes in an interval of training.

        Args:
            step: Number of steps taken.
            stats: Use of each codebook in the interval, by name.
            norms: Of each level, by name.

        Returns:
            What there is to say now and was not said before, one line each.
        """
        judged: dict[str, str | None] = {}
        for name, new in stats.items():
            window = self._window(name, new)
            if window is not None:
                judged |= judge_usage(name, window, self._settings(name))
        for name, norm in norms.items():
            history = thinned([*self.norms.get(name, []), (step, norm.z_e)])
            self.norms[name] = history
            line = judge_growth(name, history, norm.entries, self._settings(name))
            judged[f"growth/{name}"] = line
        return self._news(step, judged)

    def follow_levels(self, step: int, values: Mapping[str, Any]) -> list[str]:
        """Takes in an evaluation on held-out examples; what there is to say as in ``follow``.

        Args:
            step: Number of steps taken.
            values: ``mse``, and of several levels ``EXCHANGED``, a list; others are passed over.
        """
        mse, each = values.get("mse"), values.get(EXCHANGED)
        if not each or not mse:
            return []
        rises = [{"mse_rise": value / mse - 1} for value in each]
        lines = dict(zip(idle_levels(rises), findings(rises), strict=True))
        return self._news(step, {f"idle/level {n}": lines.get(n) for n in range(len(rises))})

    def _settings(self, name: str) -> Settings:
        return self.settings.get(name, Settings())

    def _window(self, name: str, new: CodebookStats) -> CodebookStats | None:
        """The window of a codebook, if it is full now."""
        counts = new.counts + self.windows.pop(name, 0)
        total = CodebookStats(new.size, counts)
        if total.num_vectors >= HITS_PER_ENTRY * new.size:
            return total
        self.windows[name] = counts
        return None

    def _news(self, step: int, judged: Mapping[str, str | None]) -> list[str]:
        """The troubles that have just lasted for long enough."""
        lines = []
        for key, line in judged.items():
            bad = line is not None and step >= FIRST_STEP
            self.streaks[key] = self.streaks.get(key, 0) + 1 if bad else 0
            if line is not None and self.streaks[key] >= PATIENCE and key not in self.said:
                self.said.add(key)
                lines.append(line)
        return lines


def judge_usage(
    name: str, stats: CodebookStats, settings: Settings | None = None
) -> dict[str, str | None]:
    """What is wrong with the use of a codebook over a window, by kind of trouble.

    Args:
        name: Of the codebook.
        stats: Its use.
        settings: What is set of its quantizer; None when that is not known.
    """
    if name.endswith(KEPT):  # flags, as uneven as ``keep`` asks for
        return {}
    over = f"over {stats.num_vectors:,} vectors"
    collapse = dead = None
    if stats.usage < LOW_USAGE or stats.perplexity < LOW_PERPLEXITY * stats.size:
        collapse = (
            f"{name} collapses: {stats.num_used} of {stats.size} entries are used, perplexity "
            f"{stats.perplexity:.1f}, KL to uniform {stats.kl_to_uniform_nats:.2f} nats {over}. "
            + advice(AGAINST_COLLAPSE, settings or Settings())
        )
    elif stats.dead > MANY_DEAD * stats.size:
        dead = f"{name} has {stats.dead} dead entries of {stats.size} {over}. " + advice(
            AGAINST_DEAD, settings or Settings()
        )
    return {f"collapse/{name}": collapse, f"dead/{name}": dead}


def advice(tips: Sequence[str], settings: Settings) -> str:
    """What to try, but for what is set."""
    done = [f"{QUANTIZER}.{key}={str(value).lower()}" for key, value in settings.values.items()]
    *others, last = (tip for tip in tips if not any(words in tip for words in done))
    text = f"Try {', '.join(others)}, or {last}" if others else f"Try {last}"
    return text.replace(QUANTIZER, settings.key)


def judge_growth(
    name: str,
    history: list[tuple[int, float]],
    entries: float | None,
    settings: Settings | None = None,
) -> str | None:
    """What is wrong with the norm of the encoder's outputs.

    Training makes norms grow, and commitment makes them settle: what tells the two apart is whether
    the norm still grows by half while the time doubles, and did so in the doubling before.

    Args:
        name: Of the level.
        history: Steps and mean norms.
        entries: Mean norm of the entries.
        settings: What is set of the quantizer; None when that is not known.
    """
    step, now = history[-1]
    half, quarter = (min(history, key=lambda p, t=step / n: abs(p[0] - t))[1] for n in (2, 4))
    if now < DOUBLING * half or half < DOUBLING * quarter:
        return None
    key = (settings or Settings()).key
    beside = "" if entries is None else f", that of the entries is {entries:.3g}"
    return (
        f"{name}: the norm of the encoder's outputs grows without bound: {quarter:.3g}, {half:.3g} "
        f"and {now:.3g} at a quarter, a half and all of the {step} steps{beside}. Try a larger "
        f"{key}.commitment (0.25 is usual), normalised encoder outputs ({key}.type=normalized), "
        "or a lower train.learning_rate"
    )


def thinned(history: list[tuple[int, float]], most: int = 64) -> list[tuple[int, float]]:
    """A history, with every other element of its older part left out when it is too long."""
    return history[:-1:2] + history[-1:] if len(history) > most else history
