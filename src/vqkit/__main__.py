"""The entry point ``vqkit``, and ``python -m vqkit``."""

import os
import signal
from types import FrameType

IMPORTING = "<frozen importlib"  # how the files of Python's import system are called
INTERRUPTED = 130


def main() -> None:
    """Runs the command line; Ctrl-C ends it cleanly from the first import on."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored
        signal.signal(signal.SIGINT, interrupt)
    from vqkit.cli import main

    main()


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raises KeyboardInterrupt, but ends the process at once in the middle of an import.

    Libraries that are half imported do not survive an exception: it is swallowed, or comes out as
    something else, or kills the process on its way out.
    """
    inner = frame
    while inner is not None:
        if inner.f_code.co_filename.startswith(IMPORTING):
            os.write(2, b"vqkit: interrupted\n")
            os._exit(INTERRUPTED)
        inner = inner.f_back
    signal.default_int_handler(number, frame)


if __name__ == "__main__":
    main()
