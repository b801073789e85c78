"""Imports point one way: a package may import only packages on earlier lines of ORDER."""

import ast
import subprocess
import sys
from importlib.util import resolve_name
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "vqkit"
FILES = sorted(SOURCE.rglob("*.py"))
ORDER = [
    ["atomic"],
    ["compiled", "drawing", "means", "distributed", "random", "schema", "storage"],
    ["codes", "nn"],
    ["data"],
    ["quantizers"],
    ["priors", "modalities"],
    ["autoencoder", "coding"],
    ["tokens"],
    ["evaluation"],
    ["training", "interop"],
    ["config", "presets"],
    ["cli"],
    ["__init__", "__main__"],
]
RANK = {package: rank for rank, packages in enumerate(ORDER) for package in packages}


def imports(source: str, package: str) -> set[str]:
    """Absolute names of all that a file imports; relative ones start from its package."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def forbidden(source: str, path: Path) -> set[str]:
    """The imports of the file at ``path``, relative to vqkit, that do not point downward."""
    own = path.parts[0].removesuffix(".py")
    names = imports(source, package=".".join(["vqkit", *path.parts[:-1]]))
    internal = {name for name in names if name.split(".")[0] == "vqkit"}
    # A bare "import vqkit" has no rank, nor has a package that ORDER does not know.
    targets = {name: name.split(".")[1] if "." in name else "" for name in internal}
    return {n for n, t in targets.items() if t != own and RANK.get(t, len(ORDER)) >= RANK[own]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way(path: Path):
    upward = forbidden(path.read_text(), path.relative_to(SOURCE))
    assert not upward, f"{path.name} must not import {upward}"


@pytest.mark.parametrize(
    "statement",
    [
        "import vqkit",
        "import vqkit.training",
        "import vqkit.training.loop as loop",
        "from vqkit import training",
        "from vqkit import *",
        "from vqkit.training import loop",
        "from vqkit.training.loop import fit",
        "from .. import training",
        "from ..training import loop",
        "def lazy():\n    from ..training.loop import fit",
    ],
)
def test_every_form_of_an_upward_import_is_seen(statement: str):
    assert forbidden(statement, Path("quantizers/vector.py"))


def test_a_package_may_not_import_its_neighbour_on_the_same_line():
    assert forbidden("from vqkit.priors import Prior", Path("modalities/image/data.py"))


def test_quantizers_need_only_torch_and_pydantic():
    allowed = {"torch", "pydantic", "vqkit", *sys.stdlib_module_names}
    for path in SOURCE.glob("quantizers/**/*.py"):
        if path.name == "fused_kernels.py":
            continue  # needs Triton, and is imported where that is
        used = {name.split(".")[0] for name in imports(path.read_text(), "vqkit.quantizers")}
        optional = {"faiss"} if path.name == "flat.py" else set()
        assert used <= allowed | optional, path.name


def test_quantizers_can_be_imported_without_what_is_optional():
    code = "import sys, vqkit.quantizers; sys.exit('faiss' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
