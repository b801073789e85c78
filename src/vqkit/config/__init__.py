"""A run as typed values: YAML over the defaults, then key=value words."""

from vqkit.config.describe import Key, keys
from vqkit.config.document import ConfigError
from vqkit.config.merge import plain
from vqkit.config.presets import preset_names, preset_path, preset_summary
from vqkit.config.run import (
    PriorRunConfig,
    RunConfig,
    TokenDataConfig,
    build,
    is_prior,
    load_config,
    load_prior_config,
    resolve,
    save_config,
    written,
)

__all__ = [
    "ConfigError",
    "Key",
    "PriorRunConfig",
    "RunConfig",
    "TokenDataConfig",
    "build",
    "is_prior",
    "keys",
    "load_config",
    "load_prior_config",
    "plain",
    "preset_names",
    "preset_path",
    "preset_summary",
    "resolve",
    "save_config",
    "written",
]
