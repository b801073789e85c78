"""What a failure looks like, whatever raised it."""

import errno
import subprocess
import sys

import pytest
from tests.cli.conftest import Cli
from tests.cli.folders import vqkit

from vqkit import storage
from vqkit.cli.failures import guarded


def code_and_line(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    def command(words: object) -> None:
        raise error

    code = guarded(command, [])
    return code, capsys.readouterr().err


def test_an_error_that_vqkit_raises_is_one_line_and_code_1(
    capsys: pytest.CaptureFixture[str], tmp_path
):
    (tmp_path / "config.json").write_text("{")
    assert guarded(lambda words: storage.load_config(tmp_path), []) == 1
    line = capsys.readouterr().err
    assert line.startswith(f"vqkit: {tmp_path / 'config.json'} is not valid JSON")
    assert line.count("\n") == 1


def test_an_error_that_nobody_foresaw_is_called_a_bug(capsys: pytest.CaptureFixture[str]):
    code, line = code_and_line(ValueError("odd\nthings"), capsys)
    assert code == 70
    bug = "a bug in vqkit: ValueError: odd things; set VQKIT_DEBUG=1 to see where"
    assert line == f"vqkit: {bug}\n"


def test_a_name_that_cannot_be_imported_from_vqkit_is_a_bug(capsys: pytest.CaptureFixture[str]):
    code, _ = code_and_line(ImportError("no such name", name="vqkit.data"), capsys)
    assert code == 70
    code, line = code_and_line(ImportError('install "vqkit[hub]"'), capsys)
    assert (code, line) == (1, 'vqkit: install "vqkit[hub]"\n')


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PermissionError(errno.EACCES, "no", "/a/run"), "/a/run: Permission denied; change its"),
        (OSError(errno.EROFS, "no", "/a/run"), "/a/run: Read-only file system; change its rights"),
        (OSError(errno.ENOSPC, "Error writing bytes"), "No space left on device; free some space"),
        (OSError(errno.EFBIG, "no", "/a/b"), "/a/b: File too large; raise the limit of file sizes"),
        (NotADirectoryError(errno.ENOTDIR, "no", "f/run"), "f/run: Not a directory; a part of it"),
        (FileNotFoundError(errno.ENOENT, "no", "x"), "x: No such file or directory; check the"),
        (OSError(errno.ENOSPC, "no room for it; free some"), "no room for it; free some\n"),
        (OSError("gone; look for it"), "gone; look for it\n"),
        (OSError(errno.EIO, "Input/output error", "/a"), "/a: Input/output error\n"),
    ],
)
def test_an_error_of_the_system_names_its_file_and_the_fix(
    capsys: pytest.CaptureFixture[str], error: OSError, text: str
):
    code, line = code_and_line(error, capsys)
    assert code == 1
    assert line.startswith(f"vqkit: {text}")
    assert line.count("\n") == 1


def test_an_interrupt_is_quiet(capsys: pytest.CaptureFixture[str]):
    assert code_and_line(KeyboardInterrupt(), capsys) == (130, "vqkit: interrupted\n")


def test_a_process_of_several_says_which_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RANK", "3")
    assert code_and_line(OSError("gone"), capsys) == (1, "vqkit (process 3): gone\n")


def test_a_traceback_is_shown_when_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("VQKIT_DEBUG", "1")
    _, text = code_and_line(KeyError("x"), capsys)
    assert "Traceback" in text
    assert "a bug in vqkit: KeyError" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'? (see vqkit --help)"),
        (["train"], "Missing argument 'PRESET|CONFIG.yaml' (see vqkit train --help)"),
        (
            ["demo", "--ou", "x"],
            "No such option: --ou (Possible options: --out) (see vqkit demo --help)",
        ),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(cli: Cli, words: list[str], message: str):
    result = cli(*words)
    assert result.code == 2
    assert result.err == f"vqkit: {message}\n"
    assert result.out == ""


def test_no_command_at_all_shows_the_help_and_nothing_else(cli: Cli):
    result = cli()
    assert result.code == 2
    assert "train-prior" in result.out
    assert result.err == ""


@pytest.mark.parametrize(
    "words", [["--help"], pytest.param(["config", "digits"], marks=pytest.mark.slow)]
)
def test_a_reader_that_goes_away_is_no_error(words: list[str]):
    command = [sys.executable, "-m", "vqkit", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # before a line is written
        assert process.stderr.read() == b""
        assert process.wait(60) == 1


def test_the_command_line_and_the_module_are_one():
    found = vqkit("train")
    assert found.returncode == 2
    fault = "vqkit: Missing argument 'PRESET|CONFIG.yaml' (see vqkit train --help)\n"
    assert (found.stdout, found.stderr) == ("", fault)
