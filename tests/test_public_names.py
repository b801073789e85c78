"""Every package says what is public, all of it, and all of it is documented."""

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import vqkit


def packages() -> list[str]:
    """All packages of vqkit that export names; a package of modules alone exports none."""
    found = pkgutil.walk_packages(vqkit.__path__, "vqkit.")
    return sorted(info.name for info in found if info.ispkg and info.name != "vqkit.modalities")


def exported(package: ModuleType) -> set[str]:
    """The names that a package holds, but for its own modules."""
    names = {name for name in vars(package) if not name.startswith("_")}
    return {
        name
        for name in names
        if not isinstance(vars(package)[name], ModuleType)
        and getattr(vars(package)[name], "__module__", "vqkit").startswith("vqkit")
    }


@pytest.mark.parametrize("name", packages())
def test_every_public_name_is_there_and_none_is_missing(name: str):
    package = importlib.import_module(name)
    public = package.__all__
    assert len(set(public)) == len(public)
    assert all(hasattr(package, each) for each in public)
    if name != "vqkit.cli":  # its commands are reached by words, not by imports
        assert exported(package) <= set(public)


@pytest.mark.parametrize("name", packages())
def test_every_public_name_is_documented(name: str):
    package = importlib.import_module(name)
    assert package.__doc__
    for each in package.__all__:
        value = getattr(package, each)
        if inspect.isclass(value) or inspect.isfunction(value):
            # The text that a dataclass makes of its own signature tells nothing.
            assert value.__doc__, f"{name}.{each} has no docstring"
            assert not value.__doc__.startswith(f"{each}("), f"{name}.{each} has no docstring"


def test_importing_vqkit_imports_nothing_heavy():
    source = inspect.getsource(vqkit)
    assert "import torch" not in source
    assert vqkit.__version__
