"""Which failures of a write are the database's, and which the data's."""

import pytest

from ingest.failure import Failure, classify


@pytest.mark.parametrize(
    ("sqlstate", "data_error", "kind"),
    [
        ("22001", True, Failure.REFUSED),  # string too long
        ("22003", True, Failure.REFUSED),  # number out of range
        ("22P05", True, Failure.REFUSED),  # character without an equivalent
        ("54000", False, Failure.REFUSED),  # too large a document
        ("23502", False, Failure.REFUSED),  # NOT NULL
        ("23514", False, Failure.REFUSED),  # CHECK
        (None, True, Failure.REFUSED),  # the driver refuses U+0000
        ("23505", False, Failure.UNAVAILABLE),  # a race for a key passes
        ("40001", False, Failure.UNAVAILABLE),  # serialization
        ("40P01", False, Failure.UNAVAILABLE),  # deadlock
        ("53100", False, Failure.UNAVAILABLE),  # disk full
        ("53200", False, Failure.UNAVAILABLE),  # no room for locks: others may hold them
        ("53300", False, Failure.UNAVAILABLE),  # too many connections
        ("55P03", False, Failure.UNAVAILABLE),  # lock not available
        ("57014", False, Failure.UNAVAILABLE),  # statement timeout
        ("57P01", False, Failure.UNAVAILABLE),  # shutdown
        ("42P01", False, Failure.UNAVAILABLE),  # a table is missing: nothing may be thrown away for it
        ("XX000", False, Failure.UNAVAILABLE),
        (None, False, Failure.UNAVAILABLE),  # the connection broke
    ],
)
def test_each_failure_has_its_kind(sqlstate, data_error, kind):
    """What may pass keeps the batch; what would fail again is the data's fault."""
    assert classify(sqlstate, data_error=data_error) is kind
