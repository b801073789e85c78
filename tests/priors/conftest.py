"""Every prior over every small space."""

import pytest
from tests.priors.spaces import CLASSES, PRIORS, SPACES, fits, make

from vqkit.codes import LevelSpec
from vqkit.priors import Prior, PriorConfig


@pytest.fixture(params=PRIORS.values(), ids=PRIORS.keys())
def config(request: pytest.FixtureRequest, specs: tuple[LevelSpec, ...]) -> PriorConfig:
    if not fits(request.param, specs):
        pytest.skip("a prior of one level")
    return request.param


@pytest.fixture(params=SPACES.values(), ids=SPACES.keys())
def specs(request: pytest.FixtureRequest) -> tuple[LevelSpec, ...]:
    return request.param


@pytest.fixture
def prior(config: PriorConfig, specs: tuple[LevelSpec, ...]) -> Prior:
    return make(config, specs, CLASSES)
