"""The table from hashes to rows, beside a dictionary."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from devices.index import MISSING, HashIndex, hashes

KEYS = st.integers(-(2**63), 2**63 - 1)
# Keys that fall into the same few slots: what differs is above the mask.
CROWDED = st.builds(lambda high, low: high * 2**40 + low, st.integers(-1000, 1000), st.integers(0, 3))


@given(st.lists(st.one_of(KEYS, CROWDED), unique=True), st.lists(st.one_of(KEYS, CROWDED)))
def test_it_answers_as_a_dictionary_does(known, asked):
    """Every key leads to its row, and to none where it was not added, however the table grew."""
    index, expected = HashIndex(capacity=4), {}
    for row, key in enumerate(known):
        index.add(key, row)
        expected[key] = row
    wanted = np.array(known + asked, np.int64)
    assert index.find(wanted).tolist() == [expected.get(key, MISSING) for key in known + asked]


@given(st.lists(CROWDED, min_size=1))
def test_the_last_row_of_a_key_counts(keys):
    """Adding a key again replaces its row."""
    index = HashIndex(capacity=4)
    for row, key in enumerate(keys):
        index.add(key, row)
    expected = {key: row for row, key in enumerate(keys)}
    assert index.find(np.array(keys, np.int64)).tolist() == [expected[key] for key in keys]


def test_names_and_pairs_are_told_apart():
    """A name in one string, a pair, and a name with its unit have hashes of their own."""
    keys = [
        "imei:1/temperature",
        ("imei:1", "temperature"),
        ("imei:1/temperature", "Cel"),
        (("imei:1", "temperature"), None),
    ]
    assert len(set(hashes(keys, len(keys)).tolist())) == len(keys)
