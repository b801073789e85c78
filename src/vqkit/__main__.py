"""The entry point ``vqkit``, and ``python -m vqkit``."""

import os
import signal
from types import FrameType

IMPORTING = "<frozen importlib"  # how the files of Python's import system are called
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


def main() -> None:
    """Runs the command line; Ctrl-C and SIGTERM end it cleanly from the first import on."""
    for number in WORDS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, interrupt)  # not where it is ignored
    from vqkit.cli import main

    main()


def interrupt(number: int, frame: FrameType | None) -> None:
    """Says so and raises SystemExit, but ends the process at once in the middle of an import.

    Libraries that are half imported do not survive an exception: it is swallowed, or comes out as
    something else, or kills the process on its way out.
    """
    rank = os.environ.get("RANK", "0")
    who = "vqkit" if rank == "0" else f"vqkit (process {rank})"
    os.write(2, f"{who}: {WORDS[signal.Signals(number)]}\n".encode())
    inner = frame
    while inner is not None:
        if inner.f_code.co_filename.startswith(IMPORTING):
            os._exit(128 + number)
        inner = inner.f_back
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
