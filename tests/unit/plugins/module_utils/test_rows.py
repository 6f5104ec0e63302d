from __future__ import annotations

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _rows, _verdict
from hypothesis import given
from hypothesis import strategies as st

tables = st.dictionaries(st.sampled_from(["users", "brands", "assets"]), st.none() | st.integers(0, 5))


def judge(now, before=None, **more):
    return [
        (item["name"], item["verdict"], item["critical"], item["evidence"])
        for item in _rows.verdicts({"rows": now, **more}, before)
    ]


def test_each_table_is_judged_by_what_it_held():
    now = {"users": 120, "brands": 1, "agents": None, "brand_learnings": None, "assets": 0}
    before = {"users": 119, "brands": 3, "brand_learnings": 30, "agents": None, "workflows": 7}
    assert judge(now, before, rows_error="workflows: QueryCanceled") == [
        ("data_users", "pass", True, "120 rows, before 119"),
        ("data_brands", "fail", True, "1 row, 2 fewer than before"),
        ("data_agents", "inconclusive", False, "there is no such table"),
        ("data_brand_learnings", "fail", True, "there is no such table any more; it held 30 rows"),
        ("data_assets", "pass", True, "0 rows"),
        ("data_workflows", "inconclusive", True, "could not be counted: workflows: QueryCanceled"),
    ]


@pytest.mark.parametrize(
    ("counted", "why"),
    [
        ({}, "no table was counted"),
        ({"rows": {}, "rows_error": "no answer within 5 seconds"}, "no answer within 5 seconds"),
        ({"failed": True, "error": "connection refused"}, "connection refused"),
    ],
)
def test_nothing_counted_is_an_error(counted, why):
    (only,) = _rows.verdicts(counted, {"users": 3})
    assert (only["name"], only["verdict"], only["critical"]) == ("data", "error", True)
    assert why in only["evidence"]


@given(tables.filter(bool), tables)
def test_a_whole_that_passes_has_lost_nothing(now, before):
    found = _rows.verdicts({"rows": now}, before)
    assert {item["name"] for item in found} >= {f"data_{name}" for name, held in before.items() if held is not None}
    if _verdict.overall(found) == "pass":
        assert all((now.get(name) or 0) >= (held or 0) for name, held in before.items())


@pytest.mark.parametrize(("now", "critical"), [(199, False), (100, False), (99, True), (0, True)])
def test_what_users_delete_meanwhile_does_not_decide(now, critical):
    (found,) = _rows.verdicts({"rows": {"assets": now}}, {"assets": 200})
    assert (found["verdict"], found["critical"]) == ("fail", critical)
