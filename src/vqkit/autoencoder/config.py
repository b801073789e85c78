"""The configs of all autoencoders."""

from typing import Annotated

from pydantic import Field, TypeAdapter

from vqkit.modalities.audio.model import AudioModelConfig
from vqkit.modalities.image.model import ImageModelConfig
from vqkit.modalities.text.model import TextModelConfig
from vqkit.modalities.vector.model import VectorModelConfig
from vqkit.modalities.video.model import VideoModelConfig

ModelConfig = Annotated[
    AudioModelConfig | ImageModelConfig | TextModelConfig | VectorModelConfig | VideoModelConfig,
    Field(discriminator="type"),
]
"""The autoencoder of one modality, chosen by ``type``."""

ADAPTER: TypeAdapter[ModelConfig] = TypeAdapter(ModelConfig)
