"""Priors in folders: saved and opened."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from vqkit import storage
from vqkit.codes import LevelSpec
from vqkit.priors.conditioning import ConditioningSpec
from vqkit.priors.lengths import Lengths

if TYPE_CHECKING:
    from vqkit.priors.base import Prior

KIND = "prior"
SPECS = TypeAdapter(tuple[LevelSpec, ...])
CONDITIONING = TypeAdapter(ConditioningSpec)
LENGTHS = TypeAdapter(Lengths | None)


def describe(prior: "Prior") -> dict[str, Any]:
    """What builds the prior anew, as JSON values."""
    from vqkit.priors import PriorConfig

    return {
        "prior": TypeAdapter(PriorConfig).dump_python(prior.config, mode="json"),
        "specs": SPECS.dump_python(prior.specs, mode="json"),
        "conditioning": CONDITIONING.dump_python(prior.conditioning, mode="json"),
        "lengths": LENGTHS.dump_python(prior.lengths, mode="json"),
    }


def save(prior: "Prior", folder: Path | str) -> None:
    """Writes weights and config into a folder, made when missing."""
    storage.save_model(Path(folder), prior, {"kind": KIND, **describe(prior)})


def load(folder: Path | str) -> "Prior":
    """Opens what ``save`` wrote.

    Raises:
        FileNotFoundError: If the folder does not hold a saved model.
        ValueError: If it holds another kind of model, or was damaged.
    """
    from vqkit.priors import PriorConfig

    stored = storage.load_config(Path(folder))
    if stored.get("kind") != KIND:
        kind = stored.get("kind")
        raise ValueError(f"{folder} holds a model of kind {kind}; give the folder of a prior")
    try:
        config = TypeAdapter(PriorConfig).validate_python(stored.get("prior"))
        prior = config.build(
            SPECS.validate_python(stored.get("specs")),
            CONDITIONING.validate_python(stored.get("conditioning")),
            LENGTHS.validate_python(stored.get("lengths")),
        )
    except (ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{folder}: the config is damaged ({reason}); save it anew") from None
    prior.resize(storage.saved_shapes(Path(folder)))
    storage.load_weights(Path(folder), prior)
    return prior
