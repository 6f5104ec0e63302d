from __future__ import annotations

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _restore_table as restore_table


def column(name, **changes):
    return {
        **{"name": name, "type": "integer", "base": "integer", "builtin": True, "extension": False, "line": ""},
        **{"not_null": False, "written": True, "always": False, "default": False},
        **changes,
    }


MOOD = column("m", type="public.mood", base="public.mood", builtin=False, line="type mood")
TABLE = {"schema": "보관", "name": 'u"s', "columns": ["id", "m"], "rows": 3, "hash": "-5"}


@pytest.mark.parametrize(
    ("point", "schema"),
    [
        ("20250115T050000Z-deploy", "restored_20250115t050000z_deploy"),
        ("20250115T050000Z-level3-2", "restored_20250115t050000z_level3_2"),
    ],
)
def test_the_schema_is_called_as_the_restore_point(point, schema):
    assert restore_table.schema_name(point) == schema


@pytest.mark.parametrize(
    ("there", "live", "changes", "text"),
    [
        (["public.mood"], {"type mood": "enum ('a')"}, {}, False),
        (["public.mood"], {"type mood": "enum ('a', 'b')"}, {}, True),
        (["public.mood"], {}, {}, True),
        ([], {}, {}, True),
        (["public.mood"], {}, {"extension": True}, False),
        ([], {}, {"extension": True}, True),
        ([], {}, {"builtin": True}, False),
    ],
)
def test_a_type_has_to_be_there_with_the_same_definition(there, live, changes, text):
    found = restore_table.as_text([{**MOOD, **changes}], there, {"type mood": "enum ('a')"}, live)
    assert found == (["m"] if text else [])


TOC = [
    ";\n",
    "201; 1259 16400 TABLE public users app\n",
    "3301; 0 16400 TABLE DATA public users app\n",
    "3302; 0 16401 TABLE DATA public users more app\n",
    "3303; 0 16402 TABLE DATA 보관 users app\n",
    "3151; 2606 16410 CONSTRAINT public users users_pkey app\n",
    "3152; 2606 16411 CONSTRAINT 보관 users users_pkey app\n",
    "3153; 2606 16412 FK CONSTRAINT public users users_fk app\n",
]


def test_lines_of_a_table_in_a_dump():
    assert restore_table.constraint_lines(TOC, "public", "users") == [TOC[5]]
    sizes = {"3301.dat.gz": 10, "3302.dat": 5, "3303.dat.lz4": 7, "33011.dat": 100, "toc.dat": 9}
    assert restore_table.data_size(TOC, sizes, "보관", "users") == 7
    assert restore_table.data_size(TOC, sizes, "public", "users more") == 5
    assert restore_table.data_size(TOC, sizes, "public", "gone") == 0


def test_rows_are_read_and_written_by_quoted_names():
    columns = [column("id", not_null=True), column('a"b'), MOOD]
    first, settings, rows = restore_table.read_out(TABLE, columns, ["m"])
    assert first == "SET statement_timeout = 0" and settings.startswith("DO 'BEGIN PERFORM count(set_config(")
    assert rows == 'COPY (SELECT t."id", t."a""b", t."m"::text FROM ONLY "보관"."u""s" AS t) TO STDOUT'
    sql = restore_table.before("restored_x", 'u"s', columns, ["m"])
    assert 'CREATE TABLE "restored_x"."u""s" ("id" integer NOT NULL, "a""b" integer, "m" text);' in sql
    assert sql.endswith('COPY "restored_x"."u""s" ("id", "a""b", "m") FROM STDIN;\n')
    assert "BEGIN;" in sql and "COMMIT" not in sql


def test_the_end_comes_last_and_after_the_proof():
    sql = restore_table.after("restored_x", TABLE, ["id"], ["id"], "it's", True)
    assert sql.startswith('\\.\nALTER TABLE "restored_x"."u""s" ADD PRIMARY KEY ("id");\n')
    assert sql.endswith("END';\nCOMMIT;\n") and "IS 'it''s';" in sql
    assert '{"rows": 3, "hash": "-5"}' in sql and "hash_record_extended" in sql
    without = restore_table.after("restored_x", {**TABLE, "hash": None}, [], [], "n", True)
    assert "PRIMARY KEY" not in without and "hash_record" not in without and '"hash": null' in without


def test_what_to_type_next():
    columns = [column("id"), MOOD, column("old")]
    live = {"columns": [column("id", always=True), {**MOOD, "type": "public.mood"}, column("new", not_null=True)]}
    live["columns"].append(column("sum", not_null=True, default=True, written=False))
    steps, notes = restore_table.next_steps("restored_x", TABLE, columns, ["m"], live)
    assert steps[1] == (
        'INSERT INTO "보관"."u""s" ("id", "m") OVERRIDING SYSTEM VALUE\n'
        '  SELECT "id", "m"::public.mood FROM "restored_x"."u""s" ON CONFLICT DO NOTHING;'
    )
    assert steps[-1] == 'DROP TABLE "restored_x"."u""s";'
    assert [note.rpartition(": ")[2] for note in notes] == ["old.", "new.", "m."]
    steps, notes = restore_table.next_steps("restored_x", TABLE, columns, [], None)
    assert steps == ['ALTER TABLE "restored_x"."u""s" SET SCHEMA "보관";', 'DROP TABLE "restored_x"."u""s";']
    assert len(notes) == 1
