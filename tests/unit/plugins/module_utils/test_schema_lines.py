from __future__ import annotations

from ansible_collections.sparklio.rollback.plugins.module_utils import _schema_lines as schema_lines
from hypothesis import given
from hypothesis import strategies as st

LINES = [
    "table users\tplain",
    "column users.id\tinteger NOT NULL",
    'column users."a.b"\ttext',
    'index "ix on x" on users\tCREATE INDEX …',
    "constraint users_pkey on users\tPRIMARY KEY (id)",
    'table "보관"."표.1"\tplain',
    'column "보관"."표.1".id\tinteger',
    "function touch()\tCREATE FUNCTION touch()\n BEGIN\tRETURN NEW; END",
]


def test_the_same_lines_in_any_order_do_not_differ():
    assert schema_lines.differences(LINES, LINES[::-1]) == []


def test_what_is_missing_new_or_another_is_named():
    got = [line for line in LINES if not line.startswith(("index", "function"))]
    got += ["index ix_new on users\tCREATE …", "function touch()\tCREATE FUNCTION touch()\n BEGIN\tRETURN OLD; END"]
    assert schema_lines.differences(LINES, got) == [
        "function touch() differs: CREATE FUNCTION touch() BEGIN RETURN OLD; END "
        "instead of CREATE FUNCTION touch() BEGIN RETURN NEW; END",
        'index "ix on x" on users: missing',
        "index ix_new on users: not expected",
    ]


def test_what_goes_with_a_table_is_not_named_beside_it():
    without = [line for line in LINES if "users" not in line]
    assert schema_lines.differences(LINES, without) == ["table users: missing"]
    assert schema_lines.differences(without, LINES) == ["table users: not expected"]
    without = [line for line in LINES if "표" not in line]
    assert schema_lines.differences(LINES, without) == ['table "보관"."표.1": missing']


def test_a_long_definition_is_shown_from_where_it_differs():
    one, two = f"view v\tSELECT {'a, ' * 200}one FROM t", f"view v\tSELECT {'a, ' * 200}two FROM t"
    (said,) = schema_lines.differences([one], [two])
    assert len(said) < 320 and "two FROM t instead of …" in said and said.endswith("one FROM t")
    (said,) = schema_lines.differences(["comment on x\t"], ["comment on x\tsomething"])
    assert said == "comment on x differs: something instead of nothing"


@given(st.lists(st.text(max_size=30), max_size=6), st.lists(st.text(max_size=30), max_size=6))
def test_no_difference_means_the_same_things(wanted, got):
    same = dict(line.partition("\t")[::2] for line in wanted) == dict(line.partition("\t")[::2] for line in got)
    if schema_lines.differences(wanted, got) == []:
        assert same
    if same:
        assert schema_lines.differences(wanted, got) == []


def test_the_version_table_is_left_out_by_name():
    assert "c.relname = 'it''s' AND n.nspname = 'a'" in schema_lines.query("a.it's")
    assert "{version}" not in schema_lines.query()
    assert "c.relname = 'alembic_version')" in schema_lines.query()
