"""What a fault is: a mistake that others made, and the test that sees it here."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """A mistake, and who sees it.

    Attributes:
        words: What is wrong then.
        file: Where, under src/vqkit.
        swaps: Pairs of a text that the file holds once, and what stands there with the fault.
        test: The test that fails with it, under tests: the file, ``::``, and the name.
    """

    words: str
    file: str
    swaps: tuple[tuple[str, str], ...]
    test: str
