"""Files and folders that are whole or not there: filled under another name, then renamed."""

import errno
import fcntl
import glob
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNKNOWN = (errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # no locks of folders here
NEW, OLD = ".part", ".old.part"  # what is being written, and what gives way to it


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A name to write to, that takes the place of ``path`` once all is on disk, or is removed.

    Args:
        path: The file to make or to replace; its folder must exist.
    """
    part = part_of(path)
    with naming(part, path):
        try:
            yield part
            sync(part)
            part.replace(path)
            sync(path.parent)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Lets one process after another read and replace files of a folder; the others wait.

    It leaves no file behind. Folders of some network drives know no locks: nobody waits there.

    Args:
        folder: It must exist.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in UNKNOWN:
                raise
        yield
    finally:
        os.close(handle)


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder to fill, that is renamed to ``path`` once all is on disk, or is removed.

    Args:
        path: The folder to make.
        replace: Whether a folder that is there gives way to it; an empty one always does.

    Raises:
        FileExistsError: If there is something at ``path`` that is not to be replaced.
    """
    taken = FileExistsError(f"{path} exists already; remove it or choose another name")
    if not replace and path.exists() and not is_empty(path):
        raise taken
    with filled(path) as part:
        yield part
        sync_below(part)
        while not put(part, path, replace=replace):
            if not replace:
                raise taken  # by another process
        sync(path.parent)


def put(part: Path, path: Path, *, replace: bool) -> bool:
    """Renames a folder, in the place of nothing or of an empty one, or of any; or returns False.

    One that gives way is put aside and removed at the end: at each moment a whole one is there,
    but for the moment between two renamings.
    """
    aside = part_of(path, OLD)
    if replace:
        with suppress(FileNotFoundError):
            path.rename(aside)
    try:
        part.rename(path)
    except OSError as error:
        if aside.exists() and not path.exists():
            aside.rename(path)
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            return False
        raise
    finally:
        if path.exists():
            for old in (aside, *parts_like(path, OLD)):
                shutil.rmtree(old, ignore_errors=True)
    return True


@contextmanager
def atomic_files(folder: Path) -> Iterator[Path]:
    """A folder to fill, whose files take their places below ``folder`` once all are on disk.

    Args:
        folder: Made when missing; files of the same names are replaced, others stay.
    """
    with filled(folder / "files", folder) as part:
        yield part
        sync_below(part)
        for file in sorted(path for path in part.rglob("*") if path.is_file()):
            place = folder / file.relative_to(part)
            place.parent.mkdir(exist_ok=True)
            file.replace(place)
            sync(place.parent)


@contextmanager
def filled(path: Path, called: Path | None = None) -> Iterator[Path]:
    """An empty folder for what is to be at ``path``, gone afterwards.

    Errors speak of ``path``, or of what it shall be ``called``.
    """
    part = part_of(path)
    with naming(part, called or path):
        for left in parts_like(path):
            shutil.rmtree(left, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)


def part_of(path: Path, end: str = NEW) -> Path:
    """The name under which this process writes what is to be at ``path``, or puts it aside."""
    return path.with_name(f".{path.name}.{os.getpid()}{end}")


def parts_like(path: Path, end: str = NEW) -> list[Path]:
    """What this process, or ones that were killed, wrote for the same place and did not finish."""
    found, stem = [], f".{path.name}."
    for each in path.parent.glob(f"{glob.escape(stem)}*{end}"):
        if is_left(each.name.removeprefix(stem).removesuffix(end)):
            found.append(each)
    return found


def remove_left(parts: Iterable[Path]) -> None:
    """Removes files of unfinished parts, but those that another process is still writing."""
    for part in parts:
        if is_left(part.name.removesuffix(NEW).rpartition(".")[2]):
            part.unlink(missing_ok=True)


def is_left(owner: str) -> bool:
    """Whether a part belongs to this process, or to one that does not run any more."""
    return owner.isdecimal() and (int(owner) == os.getpid() or not is_running(int(owner)))


def is_running(process: int) -> bool:
    """Whether there is a process of that number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # somebody else's, or no number of a process
        return True
    return True


@contextmanager
def naming(part: Path, path: Path) -> Iterator[None]:
    """Lets errors of the system speak of ``path``, where they spoke of ``part`` or of no file."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            name = Path(part if error.filename is None else str(error.filename))
            if name.is_relative_to(part):
                error.filename = str(path / name.relative_to(part))
        raise


def is_empty(path: Path) -> bool:
    """Whether it is a folder with nothing in it."""
    return path.is_dir() and not any(path.iterdir())


def sync_below(folder: Path) -> None:
    """Waits until all files below a folder are on disk."""
    for file in folder.rglob("*"):
        if file.is_file():
            sync(file)


def sync(path: Path) -> None:
    """Waits until a file or a folder is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
