from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _chart as c
from hypothesis import given, settings
from hypothesis import strategies as st

SVG = "{http://www.w3.org/2000/svg}"
LIMITS = {
    "error_rate_percent": 5.0,
    "agent_failure_percent": 20.0,
    "mean_seconds": 3.0,
    "p95_seconds": 30.0,
    "cpu_percent": 90.0,
    "memory_percent": 90.0,
}


def window(number, state="good", **more):
    figures = {
        "requests": 480.0,
        "requests_per_second": 16.0,
        "error_rate_percent": 0.5,
        "agent_failure_percent": 0.0,
        "mean_seconds": 0.12,
        "p95_seconds": 0.5,
        "p95_at_least": False,
        "cpu_percent": 20.0,
        "memory_percent": 40.0,
    }
    return {"t": 30.0 * number, "seconds": 30.0, "gap": False, "state": state, "breaches": [], **figures, **more}


def report(windows, **more):
    return {
        "release": "v4.0.20250115-1430",
        "host": "app",
        "began": 1736956951.0,
        "windows": windows,
        "limits": LIMITS,
        "outcome": "good",
        "why": "all is well",
        "recovered_at": None,
        **more,
    }


def draw(windows, **more):
    return ET.fromstring(c.svg(report(windows, **more)))


def texts(root):
    return ["".join(item.itertext()) for item in root.iter(f"{SVG}text")]


def classed(root, name):
    return [item for item in root.iter() if name in item.get("class", "").split()]


def test_limits_baseline_and_titles_are_drawn():
    root = draw([window(1), window(2)], baseline_mean_seconds=0.1)
    said = texts(root)
    for text in (
        "limit 기준 5 %",
        "limit 기준 20 %",
        "mean limit 평균 기준 3 s",
        "p95 limit 기준 30 s",
        "limit 기준 90 %",
    ):
        assert text in said
    assert "baseline 평소 100 ms" in said
    assert any("에러율" in text for text in said)
    assert (len(classed(root, "limit")), len(classed(root, "base"))) == (5, 1)


def test_limits_that_are_off_are_not_drawn_and_those_that_differ_are_named():
    off = {**dict.fromkeys(LIMITS), "cpu_percent": 70.0, "memory_percent": 80.0}
    said = texts(draw([window(1)], limits=off))
    assert {text for text in said if "limit 기준" in text} == {"CPU limit 기준 70 %", "memory limit 기준 80 %"}


def test_breaches_are_crossed_in_their_own_panel_and_shaded_in_all():
    bad = window(2, "bad", error_rate_percent=30.0, breaches=[{"series": "errors", "evidence": "error rate 30 %"}])
    root = draw([window(1), bad, window(3)])
    assert (len(classed(root, "cross")), len(classed(root, "bad"))) == (1, 5)
    assert any("error rate 30 %" in item.text for item in root.iter(f"{SVG}title"))


def test_a_gap_breaks_the_lines_and_so_does_a_reading_that_failed():
    lost = {"t": 90.0, "seconds": 30.0, "gap": False, "state": "error", "breaches": []}
    whole = draw([window(number) for number in range(1, 6)])
    gap = draw([window(1), window(2), window(3, "inconclusive", gap=True), window(4), window(5)])
    broken = draw([window(1), window(2), lost, window(4), window(5)])
    count = len(list(whole.iter(f"{SVG}polyline")))
    assert len(list(gap.iter(f"{SVG}polyline"))) == len(list(broken.iter(f"{SVG}polyline"))) == 2 * count
    assert (len(classed(gap, "gap")), len(classed(broken, "error"))) == (5, 5)


def test_restarts_and_the_recovery_are_drawn():
    root = draw([window(1, restarts=1), window(2)], recovered_at=60.0)
    assert (len(classed(root, "restart")), len(classed(root, "event"))) == (5, 5)
    assert "recovered · 회복 1:00" in texts(root)


@pytest.mark.parametrize("outcome", [*c.OUTCOMES, "something else"])
def test_every_outcome_has_a_badge(outcome):
    assert len(classed(draw([window(1)], outcome=outcome), "badge-text")) == 1


def test_nothing_at_all_is_a_picture_too():
    assert texts(draw([])).count("no data · 데이터 없음") == 5


@pytest.mark.parametrize("value", [1.7e308, 1e16, -5.0, 1e-300])
def test_a_value_beyond_reason_is_drawn_at_the_edge(value):
    draw([window(1, mean_seconds=value, requests_per_second=value, error_rate_percent=value), window(2)])


def test_it_refers_to_nothing_outside():
    text = c.svg(report([window(1)]))
    assert text.count("http") == 1
    assert not any(word in text for word in ("<script", "<image", "@import", "xlink", "<foreignObject"))
    assert "prefers-color-scheme:dark" in text


HOSTILE = st.text() | st.sampled_from(
    ['"><script>alert(1)</script>', "]]>", "&amp;<", "\x00\x1b[31m\ud800\ufffe", "' onload='x"]
)
VALUE = st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.floats(0, 100)
STATE = st.sampled_from(["good", "bad", "inconclusive", "error"])


@settings(max_examples=40)
@given(
    HOSTILE,
    st.lists(st.tuples(st.floats(0.01, 1e5), STATE, st.booleans(), VALUE, VALUE, HOSTILE), max_size=8),
)
def test_hostile_text_and_numbers_stay_inside_the_picture(text, rows):
    windows, at = [], 0.0
    for seconds, state, gap, one, two, evidence in rows:
        at += seconds
        breaches = [{"series": "errors", "evidence": evidence}]
        figures = {"error_rate_percent": one, "mean_seconds": two, "cpu_percent": two}
        windows.append(window(1, state, t=at, seconds=seconds, gap=gap, breaches=breaches, **figures))
    root = draw(windows, release=text, host=text, why=text, outcome=text)
    drawn = ["svg", "title", "desc", "style", "defs", "pattern", "line", "rect", "text", "path", "circle", "polyline"]
    assert {item.tag for item in root.iter()} <= {SVG + name for name in drawn}
    assert not any(name.startswith("on") for item in root.iter() for name in item.attrib)
    for item in root.iter():
        for name in ("x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "width", "height"):
            number = item.get(name, "0")
            assert number == "100%" or -1 <= float(number) <= 1200


@given(st.floats(1e-6, 1e12))
def test_nice_is_never_less_and_never_far_more(value):
    assert value * 0.99999 <= c.nice(value) <= value * 2.51


@given(st.floats(0.1, 1e7))
def test_a_time_axis_has_few_ticks(seconds):
    assert seconds / c.time_step(seconds) <= 9.01


def test_labels_do_not_overlap():
    placed = c._spread([(50, "a", ""), (52, "b", ""), (51, "c", ""), (120, "d", "")], 10, 110)
    heights = [y for y, _text, _style in placed]
    assert all(after - before >= 13.99 for before, after in pairwise(heights))
    assert max(heights) <= 110
