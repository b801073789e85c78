"""YAML as plain values: what a word means, and where it was written."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqkit.config.document import ConfigError, Place, read, read_file, read_words, write

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(string.printable, max_size=12)
    | st.sampled_from(
        ["no", "on", "1e-3", "~", "null", "007", "1_0", "2026-01-01", "1:30", "=", ""]
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(string.ascii_letters, min_size=1, max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        (".5", 0.5),
        ("-2", -2),
        ("10_000", 10000),
        ("010", 10),
        ("true", True),
        ("False", False),
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("2026-01-01", "2026-01-01"),
        ("1:30", "1:30"),
        ("0x10", "0x10"),
        ("~", None),
        ("", None),
        ("'1e-3'", "1e-3"),
        ("[1, 2.0, a]", [1, 2.0, "a"]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("hub:owner/name", "hub:owner/name"),
    ],
)
def test_a_scalar_is_what_it_looks_like(text: str, value: object):
    found = read(f"key: {text}", "run.yaml").values["key"]
    assert found == value
    assert type(found) is type(value)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(string.ascii_letters, min_size=1, max_size=5), VALUES, max_size=4))
def test_what_is_written_reads_back_equal(values: dict):
    found = read(write(values), "run.yaml").values
    assert found == values
    assert repr(found) == repr(values)  # 1, 1.0 and True differ


def test_every_value_knows_its_line_and_its_text():
    document = read("# a run\ntrain:\n  steps: 1_000\n  betas: [0.9,\n    0.99]\n", "run.yaml")
    assert document.place(("train", "steps")) == Place("run.yaml:3", "1_000")
    assert document.place(("train", "betas", 1)) == Place("run.yaml:5", "0.99")
    assert document.place(("train", "missing")) == Place("run.yaml:2")
    assert document.place(("data", "path")) == Place("run.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "run.yaml:4: b.c: is written twice, first at run.yaml:3"),
        ("a: 1\n\tb: 2\n", "run.yaml:2: is not YAML: "),
        ("a: [1, 2\n", "run.yaml:2: is not YAML: "),
        ("- 1\n- 2\n", "run.yaml: holds no keys; "),
        ("just text", "run.yaml: holds no keys; "),
        ("a: &x [*x]", "run.yaml:1: is nested without end; "),
        ("a: !!python/object:os.system x", "run.yaml:1: tag:yaml.org,2002:python/object"),
        ("a: 1\n[1, 2]: 3\n", "run.yaml:2: a key must be one word"),
        ("a: 1\n---\nb: 2\n", "run.yaml:2: is not YAML: "),
        ("a: \x00", "run.yaml: is not YAML: "),
    ],
)
def test_what_is_no_config_is_refused_in_one_line(text: str, message: str):
    with pytest.raises(ConfigError) as error:
        read(text, "run.yaml")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_an_empty_file_writes_nothing():
    assert read("# nothing yet\n", "run.yaml").values == {}


def test_words_nest_by_their_dots_and_the_last_one_counts():
    document = read_words(["a.b=1", "a.c=[1, x]", "a.b=1e-3", "d=", "e==x"])
    assert document.values == {"a": {"b": 0.001, "c": [1, "x"]}, "d": None, "e": "=x"}
    assert document.place(("a", "b")) == Place("command line", "1e-3")


def test_a_word_may_replace_a_value_by_a_mapping():
    assert read_words(["a=1", "a.b=2"]).values == {"a": {"b": 2}}


@pytest.mark.parametrize("word", ["steps", "=1", "a..b=1", ".a=1", "a.=1"])
def test_a_word_without_key_or_value_is_refused(word: str):
    with pytest.raises(ConfigError, match=r"command line: .*: write it as key=value"):
        read_words([word])


def test_a_word_that_is_no_yaml_names_its_key():
    with pytest.raises(ConfigError, match=r"command line: a.b: is not YAML: "):
        read_words(["a.b=[1"])


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"run.yaml: there is no such file"):
        read_file(tmp_path / "run.yaml")
    (tmp_path / "run.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(ConfigError, match=r"run.yaml: is not text"):
        read_file(tmp_path / "run.yaml")
