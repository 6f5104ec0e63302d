from __future__ import annotations

import json

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _squawk as squawk

DROP = {
    "file": "0001.sql",
    "line": 2,
    "level": "Warning",
    "message": "Dropping a column\nmay break clients.",
    "help": None,
    "rule_name": "ban-drop-column",
}


def test_findings_come_in_the_order_of_revisions_with_lines_from_one():
    other = {**DROP, "file": "/x/0000.sql", "line": 7, "level": "Error", "rule_name": "syntax-error"}
    robust = {**DROP, "rule_name": "prefer-robust-stmts"}
    around = {**DROP, "rule_name": "transaction-nesting"}
    found = squawk.parse(json.dumps([DROP, {**DROP, "line": 0}, other, robust, around]), "", ["가", "b"])
    assert [(item["revision"], item["rule"], item["level"], item["line"]) for item in found] == [
        ("가", "syntax-error", "error", 8),
        ("b", "ban-drop-column", "warning", 1),
        ("b", "ban-drop-column", "warning", 3),
    ]
    assert found[1]["message"] == "Dropping a column may break clients."
    assert len(squawk.parse(json.dumps([robust]), "", ["a", "b"], excluded=[])) == 1
    assert squawk.parse("[]", "warned", ["a"]) == []


def test_an_answer_of_the_first_version():
    old = {
        "file": "0000.sql",
        "line": 0,
        "level": "Warning",
        "rule_name": "r",
        "messages": [{"Note": "A."}, {"Help": "B."}],
    }
    assert squawk.parse(json.dumps([old]), "", ["a"])[0]["message"] == "A. B."


@pytest.mark.parametrize("stdout", ["", "error", "{}x", '{"a": 1}', "[1]", json.dumps([{**DROP, "file": "other.sql"}])])
def test_what_is_no_answer_is_told(stdout):
    with pytest.raises(squawk.LintError, match="it said: wrong thing"):
        squawk.parse(stdout, "wrong\nthing", ["a", "b"])


def test_the_command():
    assert squawk.command("/x/squawk", 2, "c", "15.0", True) == [
        *("/x/squawk", "--reporter", "json", "--config", "c", "--pg-version", "15.0", "--assume-in-transaction"),
        *("0000.sql", "0001.sql"),
    ]
    assert "--pg-version" not in squawk.command("s", 1, "c", None, False)
