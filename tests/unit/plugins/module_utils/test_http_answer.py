from __future__ import annotations

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils._http_answer import Expected, judge

HEALTH = Expected(json_field="status", json_values=["ok", "healthy"])


@pytest.mark.parametrize(
    ("expected", "status", "body", "good", "seen"),
    [
        (HEALTH, 200, b'{"status": "ok"}', True, 'answered 200, status is "ok"'),
        (HEALTH, 200, b'{"status": "degraded"}', False, 'status is "degraded", expected "ok" or "healthy"'),
        (HEALTH, 503, b'{"status": "ok"}', False, "answered 503, expected 200"),
        (HEALTH, 200, b"<html>", False, "not in JSON: <html>"),
        (HEALTH, 200, b"[1]", False, "without the field 'status'"),
        (HEALTH, 200, b"\xff\xfe", False, "not in JSON"),
        (Expected(status=(200, 204)), 204, b"", True, "answered 204"),
        (Expected(status=(200, 204)), 500, b"", False, "expected 200 or 204: an empty body"),
        (Expected(json_field="a.b"), 200, b'{"a": {"b": null}}', True, "a.b is null"),
        (Expected(json_field="up", json_values=["true"]), 200, b'{"up": true}', True, "up is true"),
        (Expected(json_field="up", json_values=[True]), 200, b'{"up": 1}', False, "up is 1"),
        (Expected(json_field="n", json_values=["1"]), 200, b'{"n": 1}', True, "n is 1"),
        (Expected(contains="<html"), 200, b"<!DOCTYPE html><html>", True, "with '<html'"),
        (Expected(contains="<html"), 200, b"plain", False, "without '<html': plain"),
    ],
)
def test_judge(expected, status, body, good, seen):
    found = judge(expected, status, body)
    assert found[0] is good
    assert seen in found[1]


def test_a_body_is_shown_in_one_short_line_without_passwords():
    body = b"boom\n\x1b[31m postgresql://u:hunter22@db/x " + b"x" * 500
    seen = judge(Expected(), 500, body)[1]
    assert "hunter22" not in seen
    assert "\n" not in seen and "\x1b" not in seen
    assert len(seen) < 200
