"""How commands speak: counts, and words that a shell reads back."""

import shlex


def counted(num: int, noun: str) -> str:
    """A number of things, such as ``1 image`` and ``2 images``."""
    return f"{num} {noun}" if num == 1 else f"{num} {noun}s"


def command(*words: object) -> str:
    """A command of vqkit, as one types it into a shell."""
    return shlex.join(["vqkit", *map(str, words)])
