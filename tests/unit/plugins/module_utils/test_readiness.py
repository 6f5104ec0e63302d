from __future__ import annotations

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _content_manifest
from ansible_collections.sparklio.rollback.plugins.module_utils import _readiness as readiness
from hypothesis import given
from hypothesis import strategies as st

RELATIONS = [
    {"schema": "public", "name": "users", "columns": []},
    {"schema": "보관", "name": "users", "columns": []},
    {"schema": "보관", "name": "표", "columns": []},
    {"schema": "public", "name": "보관.표", "columns": []},
    {"schema": "a", "name": "twice", "columns": []},
    {"schema": "b", "name": "twice", "columns": []},
]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("users", 0),
        ("public.users", 0),
        ("보관.users", 1),
        ("표", 2),
        ("보관.표", 2),
        ("twice", None),
        ("b.twice", 5),
        ("x", None),
    ],
)
def test_a_table_is_found_by_what_people_call_it(name, place):
    assert _content_manifest.find_table(name, RELATIONS) == (None if place is None else RELATIONS[place])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (None, None),
        ("ALTER TABLE users\n  ADD x text", "ALTER TABLE users ADD x text"),
        ("UPDATE t SET a = 'it''s \\' secret', b = 'other'", "UPDATE t SET a = '…', b = '…'"),
        ("INSERT INTO t VALUES ('secret that was cut o", "INSERT INTO t VALUES ('…'"),
        ("DO $$ secret $$; DO $x$ $$ secret $x$; SELECT 1", "DO $$…$$; DO $$…$$; SELECT 1"),
        ("DO $x$ secret that was cut", "DO $$…$$"),
    ],
)
def test_a_statement_is_shown_without_values(text, shown):
    assert readiness.statement(text) == shown


@given(st.text(alphabet="ab '\\$\n", max_size=40))
def test_a_statement_is_one_short_line(text):
    shown = readiness.statement(f"SELECT '{text.replace(chr(39), chr(39) * 2)}', {'x' * 200}")
    assert len(shown) <= 120 and "\n" not in shown


def test_timeouts_of_the_server_are_those_that_nobody_else_sets():
    named = [{"where": "role", "setting": "statement_timeout=0"}]
    found = readiness.all_timeouts(named, {"statement_timeout": "5", "lock_timeout": "7"})
    assert found == [*named, {"where": "server", "setting": "lock_timeout=7ms"}]


def test_names_are_quoted_wherever_they_go():
    question = readiness.count({"schema": 'a"b', "name": "표"}, ["c'd", 'e"f'])
    assert 'FROM "a""b"."표" AS t' in question
    assert "'c''d', count(t.\"c'd\"), 'e\"f', count(t.\"e\"\"f\")" in question
    assert "c.relname = 'v''x' AND n.nspname = 'a'" in readiness.migrating("a.v'x", [7])
    assert "NOT IN (7, 8)" in readiness.sessions([7, 8])
    assert "rolname = 'o''x'" in readiness.timeouts("o'x")
