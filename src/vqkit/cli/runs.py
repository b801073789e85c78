"""Run folders, as the commands begin and open them."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqkit.autoencoder import VQVAE
    from vqkit.config import PriorRunConfig, RunConfig
    from vqkit.modalities.image import ImageExamples

CONFIG = "config.yaml"
BEFORE = (CONFIG, "index.json", "index-evaluation.json")
OWN = (*BEFORE, "checkpoints", "metrics.jsonl", ".lock", "tokenizer")


def begin(folder: Path, config: "RunConfig | PriorRunConfig") -> bool:
    """Makes sure that a run may be trained in a folder.

    Args:
        folder: The run folder, there or not.
        config: Of the run.

    Returns:
        Whether the run was begun before.

    Raises:
        ValueError: If the folder holds something else, or the run of another config.
    """
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; choose another folder with -o")
    if begun(folder):
        check_same(folder / CONFIG, config)
        return True
    others = sorted(path.name for path in folder.iterdir() if path.name not in OWN)
    if others:
        raise ValueError(f"{folder} is no run, it holds {others[0]}; choose another folder with -o")
    for name in BEFORE:  # of a start that failed before the first step
        (folder / name).unlink(missing_ok=True)
    return False


def begun(folder: Path) -> bool:
    """Whether a folder holds a checkpoint or a trained model."""
    checkpoints = folder / "checkpoints"
    saved = checkpoints.is_dir() and any(checkpoints.glob("step-*"))
    return saved or (folder / "model.safetensors").is_file()


def check_same(path: Path, config: "RunConfig | PriorRunConfig") -> None:
    """Raises ValueError unless the run that was begun had the same config, as far as it matters."""
    from vqkit.config import load_config, load_prior_config, plain
    from vqkit.config import RunConfig
    from vqkit.training import CHANGEABLE

    if not path.is_file():
        raise ValueError(f"{path.parent} has no {CONFIG}; choose another folder with -o")
    load = load_config if isinstance(config, RunConfig) else load_prior_config
    before, now = flat(plain(load(path))), flat(plain(config))
    free = {f"train.{key}" for key in CHANGEABLE} | {"data.cache_mb"}
    for key in sorted(before.keys() | now.keys()):
        if key not in free and before.get(key) != now.get(key):
            raise ValueError(
                f"{path}: {key} is {before.get(key)}, you asked for {now.get(key)}; "
                "set it back, or choose another folder with -o"
            )


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    if not isinstance(values, dict):
        return {prefix: values}
    items = [flat(value, f"{prefix}.{key}" if prefix else key) for key, value in values.items()]
    return {key: value for part in items for key, value in part.items()}


def config_of(folder: Path) -> "RunConfig":
    """The config of a tokenizer's run.

    Raises:
        FileNotFoundError: If the folder is no run of the command line.
    """
    from vqkit.config import load_config

    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no run folder; give what `vqkit train` was given -o")
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"{folder} has no {CONFIG}; give the folder of a run")
    return load_config(folder / CONFIG)


def open_tokenizer(folder: Path, device: str) -> "VQVAE":
    """The trained tokenizer of a run."""
    from vqkit.autoencoder import VQVAE

    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no run folder; give what `vqkit train` was given -o")
    if begun(folder) and not (folder / "model.safetensors").is_file():
        raise FileNotFoundError(f"{folder} is not trained to its end; run its `vqkit train` again")
    return VQVAE.from_pretrained(folder, device=choose_device(device))


def held_out(folder: Path, data: str | None) -> "ImageExamples":
    """The images a run is judged by: those it held out, or all of a data set that is named."""
    config = config_of(folder).data
    if data is not None:
        return all_images(config, data)
    from vqkit.modalities.image import open_images

    return open_images(config, folder=folder).evaluation


def choose_device(name: str) -> str:
    """The name of a device for torch.

    Raises:
        ValueError: If this machine has no such device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cpu" and not (name.startswith("cuda") and torch.cuda.is_available()):
        raise ValueError(f"--device {name} is not on this machine; give auto or cpu")
    return name
