from __future__ import annotations

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _progress as p
from ansible_collections.sparklio.rollback.plugins.module_utils import _summary
from hypothesis import given
from hypothesis import strategies as st

LIMITS = {
    "error_rate_percent": 5.0,
    "agent_failure_percent": 20.0,
    "mean_seconds": 3.0,
    "p95_seconds": None,
    "baseline_ratio": 2.0,
    "baseline_floor_seconds": 0.5,
    "cpu_percent": 90.0,
    "memory_percent": 90.0,
}
RULES = {"bad_in_row": 3, "bad_total": 6, "errors_in_row": 4, "errors_total": 10, "recovered_after": 5}
TALLY = {"bad_in_row": 1, "bad": 2, "errors_in_row": 1, "errors": 1, "recovered_at": None}
RESULT = {
    "release": {"tag": "v4.0.20250115-1430", "commit": "a" * 40},
    "continued": False,
    "began": 1736956951.0,
    "windows": [],
    "left": 1200.0,
    "limits": LIMITS,
    "baseline": None,
}


def window(**more):
    return {"n": 1, "t": 30.0, "seconds": 30.0, "gap": False, "state": "good", "breaches": [], **more}


FULL = window(
    requests=482.0,
    error_rate_percent=0.21,
    agent_failure_percent=None,
    mean_seconds=0.1234,
    p95_seconds=10.0,
    p95_at_least=True,
    cpu_percent=12.4,
    memory_percent=40.2,
)


def test_sparkline():
    assert p.sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert p.sparkline([0.0, None, 5.0], top=10) == "▁·▅"
    assert p.sparkline([1, 2, 3], width=2) == "▆█"
    assert p.sparkline([1], width=3) == "  █"
    assert p.sparkline([float("nan"), float("inf")]) == "··"
    assert p.sparkline([]) == ""


@given(st.lists(st.none() | st.floats(allow_nan=True)), st.integers(0, 20))
def test_a_sparkline_is_as_wide_as_asked_whatever_the_values(values, width):
    assert len(p.sparkline(values, None, width)) == width
    assert set(p.sparkline(values)) <= set(p.BLOCKS + "·")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (1800, "30:00"), (3661, "1:01:01")]
)
def test_clock(seconds, text):
    assert p.clock(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0004, "0 ms"), (0.1234, "123 ms"), (0.9996, "1.00 s"), (3.456, "3.46 s"), (30.0, "30 s")],
)
def test_latency(value, text):
    assert p.latency(value) == text


def test_a_line_stands_under_its_headings():
    line = p.line([FULL], 1770, LIMITS)
    assert len(line) == len(p.headings())
    for text in ("0:30", "✓", "482", "0.2 % ", "–", "123 ms", "≥10 s", "12 %", "40 %", "29:30"):
        assert text in line


def test_a_reading_that_failed_has_a_line_too_and_a_gap_no_block():
    line = p.line([FULL, {**FULL, "gap": True}, window(state="error")], 1, LIMITS)
    assert "!" in line
    assert "█··" in line


def test_remarks_say_why_and_how_much_more_it_takes():
    bad = window(state="bad", breaches=[{"series": "errors", "evidence": "error rate 26.3 %"}], restarts=1)
    said = " ".join(p.remarks([bad], TALLY, RULES))
    assert "error rate 26.3 %" in said
    assert "1 of 3 in a row, 2 of 6 in all" in said
    assert "replaced" in said
    lost = window(state="error", breaches=[{"series": "reading", "evidence": "refused"}], gap=True)
    said = " ".join(p.remarks([lost], TALLY, RULES))
    assert "refused" in said
    assert "1 of 4 in a row, 1 of 10 in all" in said
    assert "nobody watched for 0:30" in said
    assert p.remarks([window()], TALLY, RULES) == []


def test_why_nothing_can_be_said_is_said_once_in_a_row():
    waits = window(state="inconclusive", undecided="10 are fewer than the 20")
    assert "10 are fewer than the 20" in p.remarks([window(), waits], TALLY, RULES)[0]
    assert p.remarks([waits, waits], TALLY, RULES) == []


def test_the_recovery_is_said_once():
    at = {**TALLY, "recovered_at": 30.0}
    assert "recovered" in p.remarks([window()], at, RULES)[0]
    assert p.remarks([window(t=60.0)], at, RULES) == []


def test_opening():
    _empty, first, limits, _empty = p.opening(RESULT, 1800, 30)
    assert "Watches v4.0.20250115-1430 for 30:00 in windows of 30 s" in first
    assert limits.endswith("errors 5 %, agent failures 20 %, mean 3 s, CPU 90 %, memory 90 %")
    baseline = {"tag": None, "commit": "b" * 40, "mean_seconds": 0.1234}
    _empty, first, limits, _empty = p.opening({**RESULT, "continued": True, "baseline": baseline}, 1800, 30)
    assert "Goes on with the watch of v4.0.20250115-1430" in first
    assert "20:00 left" in first
    assert limits.endswith("2 times the baseline's mean of 0.123 s (bbbbbbbbbbbb), but not under 0.5 s")


def result(outcome="good", recovered_at=150.0):
    tally = {"windows": 60, "good": 58, "bad": 2, "inconclusive": 0, "errors": 0}
    return {**RESULT, "outcome": outcome, "why": "why", "recovered_at": recovered_at, "tally": tally, "watch": "w",
            "path": "/s/w.jsonl"}  # fmt: skip


def test_conclusion():
    found = p.conclusion(result(), "/r/w.svg", {"stored": True, "path": "/s/b.json"})
    assert found["message"] == "why; recovered after 2:30"
    assert (found["picture"], found["baseline"], found["series"]) == ("/r/w.svg", "/s/b.json", "/s/w.jsonl")
    assert found["next"] == []
    found = p.conclusion(result(), None, {"stored": False, "evidence": "no traffic"})
    assert "no baseline was stored: no traffic" in found["message"]


@pytest.mark.parametrize(
    ("outcome", "says"), [("breached", "assess.yml"), ("breached", "level1.yml"), ("error", "validate.yml")]
)
def test_what_to_do_next(outcome, says):
    assert any(says in text for text in p.conclusion(result(outcome, None), None, None)["next"])


def test_a_dry_run_has_watched_nothing():
    found = p.conclusion({**result(None, None), "why": ""}, None, None)
    assert (found["outcome"], found["next"], found["series"]) == ("planned", ["run it without --check"], None)
    assert "Would watch v4.0.20250115-1430 for 1:00" in p.opening(RESULT, 60, 5, dry=True)[1]


def test_the_worst_host_speaks_for_all():
    good, bad = p.conclusion(result(), None, None), p.conclusion(result("breached", None), None, None)
    assert p.overall({"a": good}) == good
    found = p.overall({"a": good, "b": bad})
    assert (found["outcome"], found["message"]) == ("breached", "b: why")
    assert list(found["hosts"]) == ["a", "b"]


def test_the_summary_shows_it():
    found = _summary.lines(p.conclusion(result("breached", None), "/r/w.svg", None))
    assert found[0] == "BREACHED: a limit was exceeded / 기준 초과"
    assert "  ".join(found).count("next / 다음") == 2
    for text in ("why: why", "series on the host: /s/w.jsonl", "picture / 그래프: /r/w.svg"):
        assert text in found
