"""Every prior over every small space that it can be of."""

import pytest
from tests.priors.spaces import CLASSES, EXACT, FAITHFUL, PRIORS, SPACES, Pair, make, pairs

from vqkit.codes import LevelSpec
from vqkit.priors import Prior, PriorConfig


@pytest.fixture(params=pairs(PRIORS, SPACES))
def pair(request: pytest.FixtureRequest) -> Pair:
    return request.param


@pytest.fixture
def config(pair: Pair) -> PriorConfig:
    return pair[0]


@pytest.fixture
def specs(pair: Pair) -> tuple[LevelSpec, ...]:
    return pair[1]


@pytest.fixture(params=pairs(EXACT, SPACES))
def exact_prior(request: pytest.FixtureRequest) -> Prior:
    made = make(*request.param, CLASSES)
    assert made.exact
    return made


DEMANDING = {name: SPACES[name] for name in ("one level", "two levels")}
OTHERS = {name: specs for name, specs in SPACES.items() if name not in DEMANDING}


@pytest.fixture(
    params=[
        *pairs(FAITHFUL, DEMANDING),
        *(
            pytest.param(*each.values, id=each.id, marks=pytest.mark.slow)
            for each in pairs(FAITHFUL, OTHERS)
        ),
    ]
)
def faithful_prior(request: pytest.FixtureRequest) -> Prior:
    return make(*request.param, CLASSES)


@pytest.fixture
def prior(config: PriorConfig, specs: tuple[LevelSpec, ...]) -> Prior:
    return make(config, specs, CLASSES)
