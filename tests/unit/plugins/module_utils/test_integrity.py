from __future__ import annotations

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _integrity as integrity

KEY = {
    "schema": "public",
    "name": "orders",
    "kind": "r",
    "constraint": "fk",
    "match": "s",
    "references": {"schema": "보관", "name": 'u"s', "kind": "p"},
    "pairs": [["a", "x", "pg_catalog", "="], ["b", "y", "public", "="]],
}
FOUND = {
    "foreign_keys": 2,
    "orphans": [],
    "invalid_indexes": [],
    "unvalidated": [],
    "unchecked": [],
    "schema_differences": None,
    "tables": None,
}
ORPHAN = {"name": "fk on orders", "references": "users", "count": 3, "example": "[17]", "known": False}


def test_the_question_for_orphans():
    question = integrity.orphans(KEY)
    assert 'FROM ONLY "public"."orders" AS f' in question
    assert 'FROM "보관"."u""s" AS p' in question
    assert 'p."x" OPERATOR("pg_catalog".=) f."a" AND p."y" OPERATOR("public".=) f."b"' in question
    assert 'f."a" IS NOT NULL AND f."b" IS NOT NULL' in question
    assert "UNION ALL" not in question


def test_a_key_that_matches_in_full_may_not_be_half_empty():
    assert "UNION ALL" in integrity.orphans({**KEY, "match": "f"})
    assert "UNION ALL" not in integrity.orphans({**KEY, "match": "f", "pairs": KEY["pairs"][:1]})


@pytest.mark.parametrize(
    ("found", "verdict", "said"),
    [
        ({}, "pass", "2 foreign keys hold, and every index is valid"),
        ({"orphans": [ORPHAN]}, "fail", "fk on orders: 3 rows refer to nothing in users, such as [17]"),
        ({"orphans": [{**ORPHAN, "count": 1}]}, "fail", "fk on orders: 1 row refers to nothing"),
        ({"orphans": [{**ORPHAN, "known": True}]}, "pass", "as before: fk on orders"),
        ({"invalid_indexes": [{"name": "ix on t", "known": False}]}, "fail", "not valid: ix on t"),
        ({"unvalidated": [{"name": "c on t", "known": False}]}, "fail", "never validated: c on t"),
        ({"unvalidated": [{"name": "c on t", "known": True}]}, "pass", "as before: c on t"),
        (
            {"unchecked": [{"name": "k on t", "reason": "no time"}]},
            "error",
            "not everything could be checked: k on t (no time)",
        ),
        ({"unchecked": [{"name": "k", "reason": "no"}], "orphans": [ORPHAN]}, "fail", "refer to nothing"),
        ({"schema_differences": []}, "pass", "the schema is as expected"),
        ({"schema_differences": ["a: missing", "old: missing"]}, "fail", "the schema differs: a: missing"),
        ({"schema_differences": ["old: missing"]}, "pass", "as before: old: missing"),
        ({"tables": {"t": {"rows": 4}, "u": {"rows": 5}}}, "pass", "2 tables with 9 rows"),
    ],
)
def test_verdicts(found, verdict, said):
    got, evidence = integrity.judge({**FOUND, **found}, known=["old: missing"])
    assert (got, said in evidence) == (verdict, True), evidence
