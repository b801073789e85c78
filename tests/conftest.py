"""What every test starts from."""

import signal

import pytest
import torch

# A shell ignores SIGINT for what it starts in the background, and so would the runs of the tests.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> None:
    torch.manual_seed(0)
