"""Every prior over every small space."""

import pytest
from tests.priors.spaces import CLASSES, PRIORS, SPACES, make

from vqkit.codes import LevelSpec
from vqkit.priors import Prior, PriorConfig


@pytest.fixture(params=PRIORS.values(), ids=PRIORS.keys())
def config(request: pytest.FixtureRequest) -> PriorConfig:
    return request.param


@pytest.fixture(params=SPACES.values(), ids=SPACES.keys())
def specs(request: pytest.FixtureRequest) -> tuple[LevelSpec, ...]:
    return request.param


@pytest.fixture
def prior(config: PriorConfig, specs: tuple[LevelSpec, ...]) -> Prior:
    return make(config, specs, CLASSES)
