"""Priors that are made by counting, in one pass over the codes."""

from abc import abstractmethod

from vqkit.codes import Codes
from vqkit.priors.autoregressive import AutoregressivePrior


class CountedPrior(AutoregressivePrior):
    """A prior without parameters to optimise: ``fit`` shows it all codes once."""

    @abstractmethod
    def start_counting(self) -> None:
        """Forgets what was counted before."""

    @abstractmethod
    def count(self, codes: Codes) -> None:
        """Takes in codes.

        Args:
            codes: Of the levels of ``specs``. With several processes, every rank calls this
                equally often, with an empty batch where it has no more.

        Raises:
            ValueError: If the codes do not fit.
        """

    def end_counting(self) -> None:
        """Makes the distribution of all that was counted; every rank calls it."""
