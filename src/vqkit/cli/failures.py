"""What a failure looks like: one line on standard error and an exit code, never a traceback."""

import errno
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import typer

PACKAGE = Path(__file__).parents[1]
FAILED, USAGE, BUG, INTERRUPTED = 1, 2, 70, 130
DEBUG = "VQKIT_DEBUG"
RIGHTS = "change its rights or those of its folder, or choose another place"
ROOM = "free some space, then run the same command again"
FIXES = {
    errno.EACCES: RIGHTS,
    errno.EPERM: RIGHTS,
    errno.EROFS: RIGHTS,
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), then run the same command again",
    errno.EMFILE: "raise the limit of open files (ulimit -n), then run the same command again",
    errno.ENOTDIR: "a part of it is a file; choose another folder",
    errno.EEXIST: "choose another name",
    errno.EISDIR: "name a file",
    errno.ENOENT: "check the name",
    errno.ENAMETOOLONG: "choose a shorter name",
}
"""What to do about an error of the system."""


def guarded(command: Callable[[Sequence[str]], int | None], words: Sequence[str]) -> int:
    """Runs the command line, and turns what it raises into one line and an exit code.

    Args:
        command: Runs words, and returns an exit code or None.
        words: What was written after ``vqkit``.

    Returns:
        The exit code: 0 done, 1 failed, 2 used wrongly, 70 a bug of vqkit, 130 interrupted.
    """
    try:
        code = command(words)
        sys.stdout.flush()
        if code == INTERRUPTED:  # typer makes that of a KeyboardInterrupt
            return _say("interrupted", INTERRUPTED)
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader of the output has gone: nothing more to say, also not at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except typer.TyperException as error:
        shown = error.format_message()  # none where the help was shown instead
        return _say(_usage(error), error.exit_code) if shown else error.exit_code
    except Exception as error:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        if is_users(error):
            return _say(message(error), FAILED)
        where = f"set {DEBUG}=1 to see where"
        return _say(f"a bug in vqkit: {type(error).__name__}: {message(error)}; {where}", BUG)
    return code or 0


def is_users(error: Exception) -> bool:
    """Whether an error tells of files, input or the machine, and not of a fault in vqkit.

    vqkit checks what it is given and raises with a message; the same types raised deep inside
    another library were not foreseen.
    """
    if isinstance(error, OSError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, ImportError):
        return not (error.name or "").startswith("vqkit")
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    raised_here = frame and Path(frame.tb_frame.f_code.co_filename).is_relative_to(PACKAGE)
    kinds = (ValueError, TypeError, ArithmeticError, RuntimeError)
    return bool(raised_here) and isinstance(error, kinds)


def message(error: Exception) -> str:
    """What an error says, on one line."""
    text = _of_system(error) if isinstance(error, OSError) and error.errno else str(error)
    return " ".join(text.split()) or type(error).__name__


def _of_system(error: OSError) -> str:
    """The file, what the system said of it, and the fix."""
    said, fix = error.strerror or "", FIXES.get(error.errno or 0)
    if ";" in said:  # vqkit said what to do where it was raised
        return said
    if fix is not None:  # libraries add words of their own
        said = f"{os.strerror(error.errno or 0)}; {fix}"
    return said if error.filename is None else f"{error.filename}: {said}"


def _usage(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    text = " ".join(error.format_message().split()).rstrip(".")
    return f"{text} (see {context.command_path if context else 'vqkit'} --help)"


def _say(text: str, code: int) -> int:
    """Prints the one line; under torchrun with the number of the process."""
    rank = os.environ.get("RANK", "0")
    who = "vqkit" if rank == "0" else f"vqkit (process {rank})"
    sys.stderr.write(f"{who}: {text}\n")  # in one piece, for others write there, too
    return code
