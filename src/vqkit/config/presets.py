"""Named runs: the YAML files of the folder ``presets``."""

from pathlib import Path

from vqkit.config.document import ConfigError

FOLDER = Path(__file__).parents[1] / "presets"


def preset_names() -> list[str]:
    """The names of all presets, in the order of the alphabet."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def preset_path(name: str) -> Path:
    """The file of a preset.

    Raises:
        ConfigError: If there is none of that name.
    """
    if name not in preset_names():
        raise ConfigError(f"{name}: there is no such preset; there are {', '.join(preset_names())}")
    return FOLDER / f"{name}.yaml"


def preset_summary(name: str) -> str:
    """The first line of a preset, a comment that says what it is for."""
    return preset_path(name).read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
