"""Divisions: the counts that are public knowledge, and the ways up and on."""

from collections import Counter

import pytest

from devices.division import _SUCCESSORS, DIVISIONS, DOMAINS, PROVINCE, cell_division, city, today


def test_counts():
    """Shandong has 16 cities and 136 counties; 15 statistical zones come beside them."""
    assert Counter(d.level for d in DIVISIONS.values()) == {
        "province": 1,
        "city": 16,
        "county": 136,
        "zone": 15,
    }


def test_every_division_has_its_parent():
    """Counties and zones belong to a city with the same first four digits, cities to the province."""
    for code, division in DIVISIONS.items():
        assert division.code == code
        if division.level == "province":
            assert (code, division.parent) == (PROVINCE, None)
        elif division.level == "city":
            assert division.parent == PROVINCE
        else:
            assert division.parent == code // 100 * 100
            assert DIVISIONS[division.parent].level == "city"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (370102, 370102),
        (370000, 370000),
        (370176, 370176),
        (371202, 370116),
        (371203, 370117),
        (371200, 370100),
        (370684, 370614),
        (370282, 370215),
        (371626, 371681),
        (370802, 370800),
        (370111, 370100),
        (372101, 370600),
        (372721, 370800),
        (379016, 370211),
        (370199, None),
        (110101, None),
        (0, None),
        (-1, None),
    ],
)
def test_today(code, expected):
    """A code of today stays, an abolished one is its successor or its city, any other is none."""
    assert today(code) == expected


def test_abolished_codes_lead_to_today():
    """No abolished code is one of today, and each leads to one."""
    assert not _SUCCESSORS.keys() & DIVISIONS.keys()
    assert all(code in DIVISIONS for code in _SUCCESSORS.values())


@pytest.mark.parametrize(
    ("code", "expected"), [(370000, 370000), (370100, 370100), (370102, 370100), (370176, 370100)]
)
def test_city(code, expected):
    """The city of a county or zone is its parent; a city and the province are their own."""
    assert city(code) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [(370000, 370000), (370100, 370100), (370102, 370102), (370176, 370100), (370871, 370800)],
)
def test_cell_division(code, expected):
    """Only a zone counts elsewhere: in its city."""
    assert cell_division(code) == expected


def test_domains():
    """There are ten domains, ending in the one for what nobody placed."""
    assert len(set(DOMAINS)) == len(DOMAINS) == 10
    assert DOMAINS[0] == "manufacturing" and DOMAINS[-1] == "other"
