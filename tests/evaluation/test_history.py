"""What must hold for the record of a run as a report reads it."""

import json
from pathlib import Path

from vqkit.evaluation.history import History, read_history


def written(folder: Path, *lines: object) -> Path:
    path = folder / "metrics.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts))
    return path


def test_curves_of_training_and_of_held_out_examples_are_told_apart(tmp_path: Path):
    path = written(
        tmp_path,
        {"step": 50, "loss": 2.0, "psnr": 10, "perplexity": [4.0, 8.0], "terms": {"a": 1}},
        {"step": 100, "loss": 1.0, "psnr": 12.5, "perplexity": [5.0, 9.0]},
        {"step": 100, "eval": {"loss": 1.5, "psnr": 11.0, "perplexity": [4.5, 8.5]}},
    )
    found = {c.title: (list(c.training), list(c.held_out)) for c in read_history(path).curves}
    assert found == {
        "Loss": ([(50, 2.0), (100, 1.0)], [(100, 1.5)]),
        "PSNR, dB": ([(50, 10.0), (100, 12.5)], [(100, 11.0)]),
        "Perplexity, codebook 1": ([(50, 4.0), (100, 5.0)], [(100, 4.5)]),
        "Perplexity, codebook 2": ([(50, 8.0), (100, 9.0)], [(100, 8.5)]),
    }


def test_lines_and_keys_that_are_not_understood_are_passed_over(tmp_path: Path):
    path = written(
        tmp_path,
        "not json",
        "[1, 2]",
        {"loss": 3.0},
        {"step": "early", "loss": 3.0},
        {"step": 1, "loss": None, "psnr": None, "perplexity": "many", "health": "none", "eval": 3},
        {"step": 2, "loss": 2.0, "new_key": {"deep": [1]}, "health": ["a <b>"]},
        {"step": 3, "loss": float("nan"), "eval": {"loss": True}},
        {"step": 4, "loss": 1.0},
        '{"step": 5, "loss": 0.',
    )
    history = read_history(path)
    assert [(c.title, list(c.training)) for c in history.curves] == [("Loss", [(2, 2.0), (4, 1.0)])]
    assert history.health == ((2, "a <b>"),)


def test_a_run_without_a_record_has_no_history(tmp_path: Path):
    assert read_history(tmp_path / "metrics.jsonl") == History((), ())
