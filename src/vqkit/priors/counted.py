"""Priors that are made by counting, in one pass over the codes."""

from abc import abstractmethod

from vqkit.codes import Codes
from vqkit.priors.autoregressive import AutoregressivePrior
from vqkit.priors.conditioning import Conditioning


class CountedPrior(AutoregressivePrior):
    """A prior without parameters to optimise: ``fit`` shows it all codes once.

    Attributes:
        counts_labels: Whether labels make a difference.
    """

    counts_labels = False

    @abstractmethod
    def start_counting(self) -> None:
        """Forgets what was counted before."""

    @abstractmethod
    def count(self, codes: Codes, given: Conditioning | None = None) -> None:
        """Takes in codes.

        Args:
            codes: Of the levels of ``specs``. With several processes, every rank calls this
                equally often, with an empty batch where it has no more.
            given: What is known of the items.

        Raises:
            ValueError: If codes or conditioning do not fit.
        """

    def end_counting(self) -> None:
        """Makes the distribution of all that was counted; every rank calls it."""
