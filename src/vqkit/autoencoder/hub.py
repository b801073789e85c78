"""The model hub, and the extra that it needs."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from vqkit import storage


def download(repo_id: str) -> Path:
    """The local copy of a saved model, fetched when it is not there or is old.

    Args:
        repo_id: ``owner/name``.

    Raises:
        ImportError: If huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ImportError('the hub needs an extra: pip install "vqkit[hub]"') from error
    return Path(snapshot_download(repo_id, allow_patterns=[storage.CONFIG, storage.WEIGHTS]))


def upload(save: Callable[[Path], None], repo_id: str, *, private: bool) -> None:
    """Puts what ``save`` writes into a folder on the hub, as one commit.

    Args:
        save: Writes the files into the folder that it is given.
        repo_id: ``owner/name``; made when missing.
        private: Whether a new repository is private.

    Raises:
        ImportError: If huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise ImportError('the hub needs an extra: pip install "vqkit[hub]"') from error
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        HfApi().create_repo(repo_id, private=private, exist_ok=True)
        HfApi().upload_folder(repo_id=repo_id, folder_path=folder)
