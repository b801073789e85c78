"""The configs of whole runs, and reading and writing them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from vqkit.autoencoder import ModelConfig
from vqkit.config.document import (
    COMMAND,
    PRESET,
    ConfigError,
    Document,
    Keys,
    read,
    read_file,
    read_words,
    write,
)
from vqkit.config.errors import did_you_mean, explain, wrong_text
from vqkit.config.merge import defaults, merged, plain
from vqkit.config.presets import preset_names, preset_path
from vqkit.modalities.audio.data import AudioDataConfig
from vqkit.modalities.image.data import ImageDataConfig
from vqkit.modalities.image.model import ImageModelConfig
from vqkit.modalities.text.data import TextDataConfig
from vqkit.modalities.vector.data import VectorDataConfig
from vqkit.modalities.video.data import VideoDataConfig
from vqkit.priors import PriorConfig, TransformerConfig
from vqkit.schema import STRICT, Seed
from vqkit.storage import write_text
from vqkit.training import TrainConfig

Run = TypeVar("Run")

DataConfig = Annotated[
    AudioDataConfig | ImageDataConfig | TextDataConfig | VectorDataConfig | VideoDataConfig,
    Field(discriminator="type"),
]
"""The data of one modality, chosen by ``type``."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RunConfig:
    """The training of a tokenizer: its data, its model, and how it is trained."""

    data: DataConfig
    """What it is trained on."""
    model: ModelConfig = ImageModelConfig()
    """The autoencoder."""
    train: TrainConfig = TrainConfig()
    """How it is trained."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.data.type != self.model.type:
            both = f"data.type is {self.data.type}, model.type {self.model.type}"
            raise ValueError(f"{both}; make them equal")
        self.model.check_data(self.data)
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TokenDataConfig:
    """The tokens that a prior is trained on, and those that are kept from it."""

    path: str
    """The token data set that ``vqkit encode`` wrote."""
    eval_path: str | None = None
    """Another token data set, for evaluation. null: a part of the first is held out."""
    eval_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The part of the token data set that is held out when there is no other."""
    split_seed: Seed = 0
    """Which items are held out."""
    labels: bool = True
    """Whether the prior is told the labels, where the tokens have any."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PriorRunConfig:
    """The training of a prior: its tokens, its model, and how it is trained."""

    tokens: TokenDataConfig
    """What it is trained on."""
    prior: PriorConfig = TransformerConfig()
    """The model of the codes."""
    train: TrainConfig = TrainConfig()
    """How it is trained."""


def load_config(source: str | Path, words: Sequence[str] = ()) -> RunConfig:
    """The run of a tokenizer.

    Args:
        source: The name of a preset, or a YAML file; its key ``preset`` names one to start from.
        words: ``key=value``, which count more than the file.

    Raises:
        ConfigError: If something is wrong; it names the place, the key and the fix.
    """
    documents = written(source, words)
    if is_prior(documents):
        raise ConfigError(f"{source} is for a prior; use it with vqkit train-prior")
    return build(RunConfig, documents)


def load_prior_config(source: str | Path | None, words: Sequence[str] = ()) -> PriorRunConfig:
    """The run of a prior, as ``load_config``; without a source from the defaults alone."""
    documents = written(source, words)
    if any({"data", "model"} & document.values.keys() for document in documents[:-1]):
        raise ConfigError(f"{source} is for a tokenizer; use it with vqkit train")
    return build(PriorRunConfig, documents)


def save_config(config: RunConfig | PriorRunConfig, path: Path) -> None:
    """Writes a run with every key; ``load_config`` gives back an equal one."""
    write_text(path, write(plain(config)))


def written(source: str | Path | None, words: Sequence[str] = ()) -> Sequence[Document]:
    """What was written for a run, what counts least first: a preset, a file, the words."""
    return [*([] if source is None else _sources(source)), read_words(words)]


def is_prior(documents: Sequence[Document]) -> bool:
    """Whether the documents write the run of a prior, and not that of a tokenizer."""
    keys = {key for document in documents for key in document.values}
    return bool(keys & {"prior", "tokens"}) and not keys & {"data", "model"}


def resolve(kind: type, documents: Sequence[Document]) -> dict[str, Any]:
    """The plain values of a run: what was written, over all defaults; not yet checked."""
    values = defaults(kind)
    if kind is RunConfig:
        values = merged(kind, values, types_of(documents))
    for document in documents:
        values = merged(kind, values, document.values)
    return values


def types_of(documents: Sequence[Document]) -> dict[str, Any]:
    """The modality of the data and of the model: what counts most says both where one is silent."""
    found: dict[str, str] = {}
    for document in reversed(documents):
        for part in ("data", "model"):
            section = document.values.get(part)
            if isinstance(section, dict) and isinstance(section.get("type"), str):
                found.setdefault(part, section["type"])
    either = next(iter(found.values()), ImageDataConfig.type)
    return {part: {"type": found.get(part, either)} for part in ("data", "model")}


def build(kind: type[Run], documents: Sequence[Document]) -> Run:
    """The checked run.

    Raises:
        ConfigError: If a key is unknown or missing, or a value is wrong.
    """
    values = resolve(kind, documents)
    places = {keys: place for document in documents for keys, place in document.places.items()}
    joined = Document(values, places, next((d.name for d in documents), COMMAND))
    adapter = TypeAdapter(kind)
    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        for keys in wrong_text(error, values, joined):
            _put(values, keys, places[keys].text)
    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        raise ConfigError(explain(error, kind, values, joined)) from None


def _sources(source: str | Path) -> list[Document]:
    """A preset, or a file and the preset that it starts from."""
    path = Path(source)
    if str(source) in preset_names():
        text = preset_path(str(source)).read_text(encoding="utf-8")
        return [read(text, f"{PRESET}{source}")]
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; give the file {path / 'config.yaml'}, or a preset")
    if not path.is_file() and path.suffix not in (".yaml", ".yml"):
        hint = did_you_mean(str(source), preset_names())
        raise ConfigError(f"{source}: there is no such preset or file; {hint}")
    document = read_file(path)
    base = document.values.pop("preset", None)
    if base is None:
        return [document]
    if base not in preset_names():
        where, hint = document.place(("preset",)).where, did_you_mean(str(base), preset_names())
        raise ConfigError(
            f"{where}: preset: must be the name of a preset (you wrote {base}); {hint}"
        )
    return [*_sources(base), document]


def _put(values: Any, keys: Keys, value: str) -> None:
    for key in keys[:-1]:
        values = values[key]
    values[keys[-1]] = value
