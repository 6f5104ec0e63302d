from __future__ import annotations

import math

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _exposition as ex
from ansible_collections.sparklio.rollback.plugins.module_utils import _gauge
from hypothesis import given
from hypothesis import strategies as st

NAME = "sparklio_active_workflows"


def page(text, kind="gauge"):
    return ex.read([f"# TYPE {NAME} {kind}\n{text}".encode()], [NAME])


def values(text, selector="", kind="gauge"):
    return _gauge.values(page(text, kind), NAME, ex.parse_selector(selector))


CAMPAIGN, REEL = (("workflow_type", "campaign"),), (("workflow_type", "reel"),)
TWO = f'{NAME}{{workflow_type="campaign"}} 2\n{NAME}{{workflow_type="reel"}} 0\n'


def test_series_are_read_and_selected():
    assert values(TWO) == {CAMPAIGN: 2.0, REEL: 0.0}
    assert values(TWO, 'workflow_type="reel"') == {REEL: 0.0}
    assert values("") == {}


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (TWO, {"selector": 'type="reel"'}, "has the label type; its labels are workflow_type"),
        (TWO, {"kind": "counter"}, "is a counter, not a gauge"),
        (f"{NAME} NaN\n", {}, "the value nan, which can't be compared"),
        (f"{NAME} +Inf\n", {}, "the value inf"),
    ],
)
def test_what_can_not_be_compared(text, options, message):
    with pytest.raises(_gauge.GaugeError, match=message):
        values(text, **options)


def test_endpoints_are_added_up():
    assert _gauge.summed([{CAMPAIGN: 2.0}, {CAMPAIGN: 1.0, REEL: 4.0}]) == {CAMPAIGN: 3.0, REEL: 4.0}


def test_what_is_left_names_the_largest_first():
    found = _gauge.left({CAMPAIGN: 1.0, REEL: 4.0, (): 0.0})
    assert list(found.items()) == [('workflow_type="reel"', 4.0), ('workflow_type="campaign"', 1.0)]


@pytest.mark.parametrize(
    ("op", "value", "met", "not_met"),
    [
        ("==", 2, [2], [3]),
        ("!=", 2, [3], [2]),
        ("<=", 2, [2], [3]),
        ("<", 2, [1], [2]),
        (">=", 2, [2], [1]),
        (">", 2, [3], [2]),
    ],
)
def test_conditions_on_the_sum(op, value, met, not_met):
    condition = _gauge.Condition(op, value)
    assert condition.met(met) and not condition.met(not_met)
    assert condition.met([*met, 5, -5])


def test_a_negative_series_hides_no_other():
    assert not _gauge.Condition("==", 0).met([1, -1])
    assert _gauge.Condition("==", 0).met([])


@given(st.lists(st.integers(0, 5)))
def test_zero_means_that_nothing_is_left(counts):
    assert _gauge.Condition("==", 0).met(counts) == (math.fsum(counts) == 0)
