"""The settings loader: whatever the file holds, it is settings or a `SettingsError`."""

import copy
import random
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ddim.settings import params
from ddim.settings.params import SettingsError
from tests.conftest import ROOT, fuzz

TEXT = (ROOT / "recipes/default.yaml").read_bytes()
DEFAULTS = yaml.safe_load(TEXT)
KEYS = [(section, key) for section in DEFAULTS for key in DEFAULTS[section]]

names = st.text(max_size=8) | st.sampled_from(["ddim", "eta", "rk2", "\ud800", "a\nb"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 10**4000, 2**31, 2**63, 2**64])
    | st.floats()
    | names
    | st.sampled_from(["1e999", "1e-400", "~nobody/x", "x" * 5000, "a\x00b", "1_0"])
    | st.binary(max_size=4)
    | st.dates()
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(names | st.integers() | st.none(), inner, max_size=3)
        | st.sets(names, max_size=2)
    ),
    max_leaves=8,
)


def check_message(error: SettingsError) -> None:
    """For each mistake one printable line that says what was expected."""
    lines = str(error).split("\n")
    assert len(lines) <= 21
    for line in lines:
        assert "expected" in line or re.fullmatch(r" +and \d+ more", line)
        assert line.isprintable()
        assert len(line) < 1000


def load(path: Path) -> None:
    try:
        params.load(path)
    except SettingsError as error:
        check_message(error)


@fuzz(300)
@given(st.lists(st.tuples(st.sampled_from(KEYS), values), min_size=1, max_size=3))
def test_any_value_at_any_key(changes):
    settings = copy.deepcopy(DEFAULTS)
    for (section, key), value in changes:
        settings[section][key] = value
    try:
        params._check_files(params.validate(settings))
    except SettingsError as error:
        check_message(error)


@fuzz(100)
@given(values, st.sampled_from(list(DEFAULTS)), values, st.data())
def test_any_section_or_key_replaced_removed_or_added(value, section, key, data):
    settings = copy.deepcopy(DEFAULTS)
    keys = st.sampled_from(list(settings[section]))
    change = data.draw(st.sampled_from(["section", "missing", "removed", "added"]))
    if change == "section":
        settings[section] = value
    elif change == "missing":
        del settings[section]
    elif change == "removed":
        del settings[section][data.draw(keys)]
    else:
        settings[section][data.draw(names)] = value
    try:
        params.validate(settings)
    except SettingsError as error:
        check_message(error)


INSERTED = [
    *[b"\x00", b"\xff", b"\n", b" ", b":", b"[", b"]", b"{", b"}", b"&a ", b"*a", b"!"],
    *[b"%", b"@", b"`", b'"', b"'", b"#", b"- ", b"? ", b"|", b">", b"0x_", b"<<: 5\n"],
    *[
        b"!!int x",
        b"!!bool x",
        b"!!float x",
        b"!!timestamp x",
        b"2020-13-45",
        b"!!set ",
    ],
    *[b'"\\UFFFFFFFF"', b'"\\ud800"', b"!!binary x", b"\xc2\x85", b"\n---\n", b"\t"],
]


@fuzz(100)
@given(st.integers(0, 2**32))
def test_the_committed_file_damaged(tmp_path_factory, seed):
    chance = random.Random(seed)
    content = bytearray(TEXT)
    for _ in range(chance.randint(1, 5)):
        place = chance.randrange(len(content))
        gone = chance.choice([0, 0, 1, chance.randint(1, 200)])
        content[place : place + gone] = chance.choice([b"", *INSERTED])
    path = tmp_path_factory.getbasetemp() / "damaged.yaml"
    path.write_bytes(content)
    load(path)


@fuzz(100)
@given(st.binary(max_size=60))
def test_any_bytes(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        params.load(path)
    check_message(caught.value)


def bomb() -> str:
    """A few hundred bytes that would be ten thousand million numbers, written out."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for level in range(1, 10):
        entries = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} [{entries}]")
    return "\n".join([*lines, "data: *a9", "train: {epochs: *a9, loss: *a9}"])


HOSTILE = {
    "aliases": bomb(),
    "alias of itself": "data: &a [*a]\ntrain: &b {epochs: *b}",
    "deep list": "[" * 5000,
    "deep mapping": "{a: " * 3000,
    "huge number": "data: 1" + "0" * 10_000,
    "huge hexadecimal": "data: 0x" + "f" * 10_000,
    "empty number": "data: !!int ''",
    "many keys": "\n".join(f"k{number}: 1" for number in range(3000)),
    "long key": "k" * 900 + ": 1",
    "many documents": "---\n{}\n" * 100,
    "not Unicode": 'data: "\\ud800"',
    "other order": "? [a, b]\n: 1",
    "merge": "<<: [1, 2]",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_words(tmp_path, name):
    (tmp_path / "params.yaml").write_text(HOSTILE[name])
    with pytest.raises(SettingsError) as caught:
        params.load(tmp_path / "params.yaml")
    check_message(caught.value)


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.mkdir ['{}']",
        "!!python/object/new:os.mkdir ['{}']",
        "!!python/object/apply:os.system ['mkdir {}']",
        "!!python/name:os.mkdir",
        "!!python/module:os",
        "!!python/tuple [1]",
    ],
)
def test_no_tag_runs_code(tmp_path, tag):
    made = tmp_path / "made"
    (tmp_path / "params.yaml").write_text("data: " + tag.format(made))
    with pytest.raises(SettingsError, match="could not determine a constructor"):
        params.load(tmp_path / "params.yaml")
    assert not made.exists()
