from __future__ import annotations

import copy
import json

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _content_manifest as content
from hypothesis import given
from hypothesis import strategies as st


def table(name="users", schema="public", rows=3, hash="17", columns=("id", "name"), **more):
    found = {"schema": schema, "name": name, "rows": rows, "hash": hash, "columns": list(columns), "binary": ["a"]}
    return {**found, **more}


def sequence(name="users_id_seq", last=3, increment=1, cycle=False, schema="public"):
    return {"schema": schema, "name": name, "last": last, "increment": increment, "cycle": cycle}


def manifest(tables=None, sequences=None, large_objects=None, objects=None):
    return content.manifest(
        {"version": "15.20", "database": "sparklio_v4", "bytes": 8_000_000},
        [table()] if tables is None else tables,
        [sequence()] if sequences is None else sequences,
        {"rows": 0, "hash": "0"} if large_objects is None else large_objects,
        [{"name": "vector", "version": "0.8.0", "schema": "public"}],
        {"relation r": 1} if objects is None else objects,
    )


def test_the_same_is_the_same():
    assert content.differences(manifest(), manifest()) == []


@pytest.mark.parametrize(
    ("restored", "said"),
    [
        (manifest(tables=[]), "table users is missing"),
        (manifest(tables=[table(rows=2)]), "table users has 2 rows, 3 were kept"),
        (manifest(tables=[table(hash="18")]), "table users has 3 rows as it had, with other contents"),
        (manifest(tables=[table(columns=["id"])]), "table users has other columns"),
        (manifest(tables=[table(), table("extra")]), "table extra was not kept"),
        (manifest(sequences=[]), "sequence users_id_seq is missing"),
        (manifest(sequences=[sequence(last=2)]), "sequence users_id_seq is at 2, behind 3"),
        (manifest(sequences=[sequence(last=None)]), "sequence users_id_seq is at None, behind 3"),
        (manifest(large_objects={"rows": 1, "hash": "5"}), "there are 1 large objects, 0 were kept"),
        (manifest(objects={"relation r": 1, "trigger": 2}), "2 of the kind 'trigger', 0 were kept"),
    ],
)
def test_what_differs_is_said(restored, said):
    assert [text for text in content.differences(manifest(), restored) if said in text]


def test_a_sequence_may_have_gone_on_but_not_back():
    down = manifest(sequences=[sequence(last=-3, increment=-1)])
    assert content.differences(manifest(), manifest(sequences=[sequence(last=9)])) == []
    assert content.differences(down, manifest(sequences=[sequence(last=-9, increment=-1)])) == []
    assert content.differences(down, manifest(sequences=[sequence(last=-1, increment=-1)]))
    assert (
        content.differences(
            manifest(sequences=[sequence(last=9, cycle=True)]), manifest(sequences=[sequence(last=1, cycle=True)])
        )
        == []
    )


def test_without_hashes_only_the_rows_are_compared():
    kept = manifest(tables=[table(hash=None)])
    kept["large_objects"] = None
    assert content.differences(kept, manifest()) == []


def test_tables_of_two_schemas_are_told_apart():
    kept = manifest(tables=[table(), table(schema="archive", rows=1)])
    assert content.differences(kept, manifest()) == ["table archive.users is missing"]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_a_quoted_name_ends_where_it_should(name):
    quoted = content.identifier(name)
    assert quoted[0] == quoted[-1] == '"'
    assert quoted[1:-1].replace('""', "").count('"') == 0
    assert quoted[1:-1].replace('""', '"') == name


def test_a_literal_holds_under_either_setting():
    assert content.literal("it's") == "'it''s'"
    assert content.literal("a\\'b") == "E'a\\\\''b'"


def test_columns_are_taken_by_name_and_quoted():
    sql = content.content_of(table('생성 "표"', "아카이브", columns=["a", "t", 'x"y']))
    assert 'hash_record_extended(ROW(t."a", t."t"::text COLLATE "C", t."x""y"::text COLLATE "C"), 0)' in sql
    assert sql.endswith('FROM ONLY "아카이브"."생성 ""표""" AS t')
    assert "hash" not in content.content_of(table(), hashed=False).replace("'hash'", "")
    older = content.content_of(table(columns=["a", "b"]), records=False)
    assert 'hashtextextended(ROW(t."a", t."b")::text, 0)' in older


def test_a_table_without_columns():
    assert "ROW()::text" in content.content_of(table(columns=[]))


def test_all_tables_are_locked_at_once_and_none_is_fine():
    assert (
        content.lock([table(), table("b")])
        == 'LOCK TABLE ONLY "public"."users", ONLY "public"."b" IN ACCESS SHARE MODE'
    )
    assert content.lock([]) is None


def test_a_role_that_does_not_see_everything_is_refused():
    fine = table(readable=True, hidden=False)
    assert content.refusals([fine], []) == []
    unreadable, hidden = table("payments", readable=False, hidden=False), table("notes", readable=True, hidden=True)
    first, second = content.refusals([fine, unreadable, hidden], [])
    assert "may not read payments" in first
    assert "row level security would hide rows of notes" in second
    assert content.refusals([], [{"schema": "s", "name": "q", "readable": False}])[0].startswith("it may not read s.q")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 1}', '{"version": 1, "tables": [{}]}', '"x"'])
def test_a_broken_manifest_is_refused(text):
    with pytest.raises(content.ContentError):
        content.decode(text)


def test_a_newer_manifest_names_both_versions():
    newer = {**copy.deepcopy(manifest()), "version": 2}
    with pytest.raises(content.ContentError, match=r"version 2.*up to version 1"):
        content.decode(json.dumps(newer))
    assert content.decode(json.dumps(manifest())) == manifest()
