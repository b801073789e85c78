"""What decoders of clips are trained for: that of images, in every frame."""

from vqkit.modalities.image.gaussian import Gaussian, GaussianConfig, GaussianObjective
from vqkit.modalities.video.modality import VideoModality

__all__ = ["Gaussian", "GaussianConfig", "VideoObjective"]


class VideoObjective(GaussianObjective):
    """Squared error over the variance of the data, and a Gaussian over grey levels fitted after.

    Bits per dimension are those of all values of all frames.

    Args:
        modality: Of the clips.
    """

    def __init__(self, modality: VideoModality) -> None:
        super().__init__()
        self.modality = modality  # pyright: ignore[reportIncompatibleVariableOverride]
