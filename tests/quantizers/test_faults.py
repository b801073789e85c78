"""Every fault that other codebases had is seen by a test of ours when it is put in."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from tests.quantizers.faults import batches, codebooks, losses, search
from tests.quantizers.faults.fault import Fault

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "vqkit"
FAULTS = [*codebooks.FAULTS, *losses.FAULTS, *search.FAULTS, *batches.FAULTS]
TIMEOUT_S = 300
SEEN = r"^(AssertionError|ValueError|Failed: DID NOT RAISE)"  # others tell of a broken program
BY_WORDS = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.words)


def faulty(fault: Fault) -> str:
    """The text of the file with the fault."""
    text = (PACKAGE / fault.file).read_text()
    for right, wrong in fault.swaps:
        assert text.count(right) == 1, f"{fault.file} has {right!r} {text.count(right)} times"
        text = text.replace(right, wrong)
    return text


def run(tests: Iterable[str], package: Path) -> subprocess.CompletedProcess[str]:
    """Runs tests on a copy of the package, its compiled search included, in one thread."""
    mine = {"PYTHONPATH": str(package.parent), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    plain = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    options = ["-q", "-x", "--tb=native", "-p", "no:cacheprovider"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(f"tests/{test}" for test in tests)],
        cwd=ROOT,
        env=os.environ | mine | plain,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@BY_WORDS
def test_what_a_fault_replaces_is_there_once_and_its_test_exists(fault: Fault):
    compile(faulty(fault), fault.file, "exec")
    file, name = fault.test.split("::")
    source = (ROOT / "tests" / file).read_text()
    assert source.count(f"def {name.partition('[')[0]}(") == 1


def test_no_two_faults_have_the_same_words():
    assert len({fault.words for fault in FAULTS}) == len(FAULTS)


@pytest.mark.slow
def test_without_a_fault_all_these_tests_pass(tmp_path: Path):
    found = run(
        sorted({fault.test for fault in FAULTS}), shutil.copytree(PACKAGE, tmp_path / "vqkit")
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.slow
@BY_WORDS
def test_a_fault_is_seen(fault: Fault, tmp_path: Path):
    package = shutil.copytree(PACKAGE, tmp_path / "vqkit")
    (package / fault.file).write_text(faulty(fault))
    found = run([fault.test], package)
    said = found.stdout + found.stderr
    assert found.returncode == 1, said
    is_seen = re.search(SEEN, found.stdout, re.MULTILINE) is not None
    assert is_seen, said
