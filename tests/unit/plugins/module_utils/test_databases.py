from __future__ import annotations

import re

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _databases
from hypothesis import given
from hypothesis import strategies as st

RUN = "20250115-140000-level3"
RUNS = st.from_regex(r"\A\d{8}-\d{6}-level3(-\d{1,3})?\Z")
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(
    lambda name: len(name.encode()) <= 63
)
ODD = ['s"hop', "o'shop", "sh\\op", "브랜드 데이터", 'a"; DROP DATABASE b; --']


def test_databases_are_called_by_what_served_and_when():
    assert _databases.names("shop", RUN) == (
        "shop_candidate_20250115_140000",
        "shop_parked_20250115_140000",
        "shop_undone_20250115_140000",
        "shop_salvage_20250115_140000",
    )
    # Two runs of one second.
    assert _databases.names("shop", f"{RUN}-2").parked == "shop_parked_20250115_140000_2"


@given(NAMES, RUNS)
def test_names_fit_and_differ_whatever_the_database_is_called(live, run):
    found = _databases.names(live, run)
    assert len(set(found)) == 4
    for name, word in zip(found, found._fields, strict=True):
        # The server would cut a longer one, and within a character.
        assert len(name.encode()) <= 63
        kept, _middle, stamp = name.rpartition(f"_{word}_")
        assert live.startswith(kept) and stamp and re.fullmatch(r"[0-9_]+", stamp)
        assert len(kept.encode()) + 3 >= min(len(live.encode()), 63 - len(name.encode()) + len(kept.encode()))


def test_a_name_is_cut_between_characters():
    found = _databases.names("가" * 21, RUN)
    assert found.parked == "가" * 13 + "_parked_20250115_140000" and len(found.parked.encode()) == 62


@given(RUNS)
def test_a_comment_says_whose_a_database_is(run):
    assert _databases.run_of(_databases.PARKED.format(run=run)) == run
    assert _databases.run_of(_databases.UNDONE.format(run=run)) == run


@pytest.mark.parametrize(
    "comment",
    [
        None,
        "",
        "The shop's own database",
        _databases.CANDIDATE.format(run=RUN),
        "sparklio.rollback: what served before run ",
        f"copy of sparklio.rollback: what served before run {RUN}",
        f"what served before run {RUN}; purge it on purpose",
    ],
)
def test_what_bears_another_comment_is_nobody_s(comment):
    assert _databases.run_of(comment) is None


def renamed(statements, there):
    """What the databases are called after these statements, comments and all, or AssertionError as the server would."""
    there = {name: dict(item) for name, item in there.items()}
    for text in statements:
        names = [name.replace('""', '"') for name in re.findall(r'"((?:[^"]|"")*)"', text.partition(" IS ")[0])]
        assert names[0] in there, text
        if " RENAME TO " in text:
            assert names[1] not in there, text
            there[names[1]] = there.pop(names[0])
        elif " ALLOW_CONNECTIONS " in text:
            there[names[0]]["open"] = text.endswith(" true")
        else:
            there[names[0]]["comment"] = text.partition(" IS ")[2]
    return there


@pytest.mark.parametrize("live", ["shop", *ODD])
def test_two_databases_change_their_names(live):
    names = _databases.names(live, RUN)
    there = {live: {"oid": 1, "open": False}, names.candidate: {"oid": 2, "open": False}, "other": {"oid": 3}}
    mark = _databases.PARKED.format(run=RUN)
    assert renamed(_databases.swap(live, names.candidate, names.parked, mark, "it's ours"), there) == {
        names.parked: {"oid": 1, "open": False, "comment": f"'{mark}'"},
        live: {"oid": 2, "open": True, "comment": "'it''s ours'"},
        "other": {"oid": 3},
    }


def test_a_database_without_a_comment_gets_none():
    assert 'COMMENT ON DATABASE "shop" IS NULL' in _databases.swap("shop", "new", "old", "mark", None)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (_databases.allow('s"h', False), 'ALTER DATABASE "s""h" ALLOW_CONNECTIONS false'),
        (_databases.comment("a\\b", "it's"), "COMMENT ON DATABASE \"a\\b\" IS 'it''s'"),
        (
            _databases.copy('s"h', "c'd", "o w", 150000),
            'CREATE DATABASE "c\'d" OWNER "o w" TEMPLATE "s""h" STRATEGY file_copy',
        ),
        (_databases.copy("a", "b", "c", 140012), 'CREATE DATABASE "b" OWNER "c" TEMPLATE "a"'),
        (_databases.terminate("o'b"), "datname = 'o''b'"),
        (_databases.sessions("o\\b"), "datname = E'o\\\\b'"),
        (_databases.lock("o'b"), "hashtextextended('sparklio.rollback switch o''b', 0)"),
        (_databases.found("o'b", ["c"]), "d.datname IN ('o''b', 'c')"),
        (_databases.version_heads('s"x', "v"), 'FROM "s""x"."v"'),
        (_databases.version_heads(None, "v"), 'FROM "v"'),
    ],
)
def test_names_are_quoted(statement, says):
    assert says in statement


def test_a_database_is_looked_for_by_a_number_only():
    assert _databases.by_oid(16384).endswith("oid = 16384")
    with pytest.raises(ValueError):
        _databases.by_oid("1 OR true")


def table(name, *columns, schema="public", key=(), parent=None, partitioned=False, own=(), ordered=()):
    listed = [{"name": item, "own_type": item in own, "own_order": item in ordered} for item in columns]
    more = {"columns": listed, "key": list(key), "parent": parent, "partitioned": partitioned}
    return {"schema": schema, "name": name, **more}


TABLES = [
    table("users", "id", "name", "profile", key=["id"]),
    table("learnings", "id"),
    table("log", "at", "text"),
    table("users", "id", "profile", schema="archive", key=["id"]),
]


def salvaged(*lost, tables=TABLES):
    """The statements that copy, after those that make the schema and lock what is copied."""
    first, *rest = _databases.salvage("kept", tables, [{"table": name, "column": column} for name, column in lost])
    assert first == 'CREATE SCHEMA "kept"'
    if rest:
        assert rest.pop(0).endswith(" IN SHARE ROW EXCLUSIVE MODE")
    return rest


@pytest.mark.parametrize(
    ("lost", "statements"),
    [
        ([("learnings", None)], ['CREATE TABLE "kept"."learnings" AS SELECT "id" FROM "public"."learnings"']),
        (
            [("public.users", "profile")],
            ['CREATE TABLE "kept"."users.profile" AS SELECT "id", "profile" FROM "public"."users"'],
        ),
        # Without a key, the row's place in the table says which is which.
        (
            [("log", "text")],
            ['CREATE TABLE "kept"."log.text" AS SELECT ctid::text AS "place", "text" FROM "public"."log"'],
        ),
        # The key itself goes: what is left of it is not enough.
        (
            [("public.users", "id")],
            ['CREATE TABLE "kept"."users.id" AS SELECT ctid::text AS "place", "id" FROM "public"."users"'],
        ),
        (
            [("archive.users", None)],
            ['CREATE TABLE "kept"."archive.users" AS SELECT "id", "profile" FROM "archive"."users"'],
        ),
        # All of it holds its columns too.
        (
            [("learnings", "id"), ("public.learnings", None)],
            ['CREATE TABLE "kept"."learnings" AS SELECT "id" FROM "public"."learnings"'],
        ),
        (
            [("public.users", "profile"), ("public.users", "profile")],
            ['CREATE TABLE "kept"."users.profile" AS SELECT "id", "profile" FROM "public"."users"'],
        ),
        ([("nothing", None), ("users", "nothing")], []),
    ],
)
def test_what_is_lost_is_copied_aside(lost, statements):
    assert salvaged(*lost) == statements


def test_what_is_copied_aside_is_quoted():
    odd = table('t"x', "k k", 'c"; --', key=["k k"])
    assert salvaged(('t"x', 'c"; --'), tables=[odd]) == [
        'CREATE TABLE "kept"."t""x.c""; --" AS SELECT "k k", "c""; --" FROM "public"."t""x"'
    ]


def test_a_copy_has_nothing_of_the_application_s_own_types():
    odd = table("t", "id", "mood", "word", key=["id"], own=["id", "mood"], ordered=["mood", "word"])
    order = 'COLLATE pg_catalog."default"'
    assert salvaged(("t", None), tables=[odd]) == [
        f'CREATE TABLE "kept"."t" AS SELECT "id"::text AS "id", "mood"::text {order} AS "mood", '
        f'"word" {order} AS "word" FROM "public"."t"'
    ]
    assert salvaged(("t", "word"), tables=[odd]) == [
        f'CREATE TABLE "kept"."t.word" AS SELECT "id"::text AS "id", "word" {order} AS "word" FROM "public"."t"'
    ]


def test_nobody_writes_to_what_is_copied_or_changed():
    lost = [{"table": "learnings", "column": None}, {"table": "users", "column": "profile"}]
    _made, locks, *_copies = _databases.salvage("kept", TABLES, lost, ["public.log", "public.gone"])
    assert locks == (
        'LOCK TABLE "public"."users", "public"."learnings", "public"."log", "archive"."users" '
        "IN SHARE ROW EXCLUSIVE MODE"
    )
    assert _databases.salvage("kept", TABLES, [], ["public.gone"]) == ['CREATE SCHEMA "kept"']


PARTED = [
    table("events", "at", partitioned=True),
    table("events_1", "at", parent="public.events", partitioned=True),
    table("events_1_1", "at", parent="public.events_1"),
    table("old", "id", schema="archive"),
    table("old", "id"),
]


def test_a_partitioned_table_is_copied_once_and_a_schema_with_all_its_tables():
    lost = [{"schema": "archive"}, {"table": "events", "column": None}]
    _made, locks, *copies = _databases.salvage("kept", PARTED, lost)
    assert copies == [
        'CREATE TABLE "kept"."events" AS SELECT "at" FROM "public"."events"',
        'CREATE TABLE "kept"."archive.old" AS SELECT "id" FROM "archive"."old"',
    ]
    assert locks == 'LOCK TABLE "public"."events", "archive"."old" IN SHARE ROW EXCLUSIVE MODE'
    # One partition alone, and a row's place where there are several of them.
    assert salvaged(("events_1_1", None), tables=PARTED) == [
        'CREATE TABLE "kept"."events_1_1" AS SELECT "at" FROM "public"."events_1_1"'
    ]
    assert (
        'SELECT tableoid::regclass::text || ctid::text AS "place", "at"' in salvaged(("events", "at"), tables=PARTED)[0]
    )


def test_rows_of_partitions_and_of_a_lost_schema_may_differ():
    lost = [{"schema": "archive"}, {"table": "old", "column": None}]
    assert _databases.may_differ(PARTED, lost, ["public.events", "public.gone"]) == [
        *("archive.old", "public.events", "public.events_1", "public.events_1_1", "public.gone"),
    ]
    assert _databases.may_differ(PARTED, [], ["public.v"]) == ["public.v"]


def test_what_the_source_names_is_what_is_copied():
    planned = [
        {"kind": "table", "table": "a", "name": None},
        {"kind": "column", "table": "b", "name": "c"},
        {"kind": "column", "table": "b", "name": None},
        {"kind": "rows", "table": "d", "name": None},
        {"kind": "values", "table": None, "name": None},
        {"kind": "schema", "table": None, "name": "e"},
        {"kind": "schema", "table": None, "name": None},
        {"kind": "type", "table": None, "name": "mood"},
    ]
    assert _databases.losses(planned) == [
        {"table": "a", "column": None},
        {"table": "b", "column": "c"},
        {"table": "b", "column": None},
        {"table": "d", "column": None},
        {"schema": "e"},
    ]


def test_nothing_is_copied_aside_under_a_name_that_is_taken():
    """The server cuts a name after 63 bytes, and would say that the table exists: in the middle of the downgrade."""
    long = "가" * 20
    tables = [table(long, "원본", "사본"), table("a", "b"), table("b", "x", schema="a"), table("a.b", "x")]
    lost = [(long, "원본"), (long, "사본"), ("a", "b"), ("a.b", None)]
    made = [re.match(r'CREATE TABLE "kept"\."(.*?)" AS', text)[1] for text in salvaged(*lost, tables=tables)]
    assert len(made) == 5 and len({name.encode()[:63] for name in made}) == 5
    assert all(len(name.encode()) <= 63 for name in made)


def test_rows_are_counted_by_the_table_s_full_name():
    text = _databases.rows([table("us'ers"), table('o"x', schema="a")])
    assert "'public.us''ers' AS name" in text and 'FROM ONLY "a"."o""x"' in text
    assert _databases.rows([]) == "SELECT '{}'::jsonb"


BEFORE = {"public.users": 200, "public.learnings": 5}


@pytest.mark.parametrize(
    ("after", "may", "says"),
    [
        (BEFORE, [], []),
        ({"public.users": 191, "public.learnings": 5}, [], ["table public.users has 191 rows, 200 before"]),
        ({"public.users": 191}, ["public.users", "public.learnings"], []),
        ({"public.users": 200}, [], ["table public.learnings is gone"]),
        ({**BEFORE, "public.new": 0}, [], ["table public.new came up"]),
        (
            {"public.new": 0},
            ["public.new"],
            ["table public.learnings is gone", "table public.users is gone"],
        ),
    ],
)
def test_rows_that_should_have_been_left_alone(after, may, says):
    assert _databases.row_changes(BEFORE, after, may) == says


@pytest.mark.parametrize(
    ("kept", "now", "says"),
    [
        ({"public.users": [200, 3, 1]}, {"public.users": [200, 3, 1]}, []),
        (
            {"public.users": [200, 3, 1]},
            {"public.users": [207, 6, 2]},
            ["users: 7 inserted, 3 updated, 1 deleted"],
        ),
        ({"public.users": [200, 3, 1]}, {"public.users": [200, 4, 1]}, ["users: 1 updated"]),
        # A table that has come since, and one of another schema.
        ({}, {"public.new": [2, 0, 0], "a.users": [0, 0, 4]}, ["a.users: 4 deleted", "new: 2 inserted"]),
        # The server crashed and began to count anew: no more can be said than what it knows.
        ({"public.users": [200, 3, 1]}, {"public.users": [5, 0, 0]}, ["users: 5 inserted"]),
        ({"public.users": [200, 3, 1]}, {"public.users": [300, 0, 0]}, ["users: 300 inserted"]),
        ({"public.users": [200, 3, 1]}, {}, []),
    ],
)
def test_rows_written_since(kept, now, says):
    assert _databases.written_since(kept, now) == says


def test_what_others_write_during_a_downgrade_in_place_counts_where_it_is_theirs_alone():
    before = {"public.users": [10, 2, 0], "public.learnings": [5, 0, 0], "public.gone": [1, 0, 0]}
    after = {"public.users": [11, 2, 0], "public.learnings": [5, 0, 5], "salvage.gone": [1, 0, 0]}
    kept = _databases.activity_beside(before, after, ["public.learnings", "public.gone"])
    assert kept == {"public.users": [10, 2, 0], "public.learnings": [5, 0, 5], "salvage.gone": [1, 0, 0]}
    assert _databases.written_since(kept, after) == ["users: 1 inserted"]


def test_the_place_of_a_row_takes_no_name_that_a_column_has():
    (statement,) = salvaged(("log", "place"), tables=[table("log", "place")])
    assert 'SELECT ctid::text AS "place_2", "place" FROM' in statement
