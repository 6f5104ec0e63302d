from __future__ import annotations

import pytest
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


#: As PostgreSQL 15 prints an expression when it was made, and after a dump and restore.
PRINTED_TWICE = [
    (
        "CHECK (((x)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
        "CHECK (((x)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text])))",
    ),
    (
        "((ARRAY[ARRAY['a'::character varying], ARRAY['b'::character varying]])::text[])",
        "(ARRAY[ARRAY[('a'::character varying)::text], ARRAY[('b'::character varying)::text]])",
    ),
    ("(n = ANY ((ARRAY[1, (2 + n)])::numeric[]))", "(n = ANY (ARRAY[(1)::numeric, ((2 + n))::numeric]))"),
    (
        "(ARRAY['it''s)::text', '(ARRAY[x])::text[]'::character varying(3)])::public.\"a, b\"[]",
        "ARRAY[('it''s)::text')::public.\"a, b\", ('(ARRAY[x])::text[]'::character varying(3))::public.\"a, b\"]",
    ),
    (
        "(ARRAY[now()])::timestamp(3) without time zone[]",
        "ARRAY[(now())::timestamp(3) without time zone]",
    ),
    ("((ARRAY['a'::x])::y[])::z[]", "ARRAY[(('a'::x)::y)::z]"),
    ("((((a >= 1) AND (a <= 3)) AND o) OR f(a, b))", "(((a >= 1) AND (a <= 3) AND o) OR f(a, b))"),
    ("((((a = 1) OR (b = 2)) OR (c = 3)) OR o)", "((a = 1) OR (b = 2) OR (c = 3) OR o)"),
]
DIFFERENT = [
    ("ARRAY[('a'::x)::y]", "ARRAY[('a'::x)::z]"),
    ("ARRAY[('a'::x)::y, ('b'::x)::z]", "ARRAY[('a'::x)::y, ('b'::x)::y]"),
    ("ARRAY[('a'::x)::y, 'b'::y]", "ARRAY[('a'::x)::y, ('b'::x)::y]"),
    ("ARRAY[(a)::text]", "ARRAY[(a)::text[]]"),
    ("ARRAY[(ARRAY[a])::text]", "ARRAY[(ARRAY[a])::text[]]"),
    ("'ARRAY[(a)::text]'", "'(ARRAY[a])::text[]'"),
    ("AS $function$ARRAY[(a)::text]$function$", "AS $function$(ARRAY[a])::text[]$function$"),
    ("(ARRAY[a])[1]", "ARRAY[a]"),
    ("(a AND (b AND c))", "((a OR b) AND c)"),
    ("((a AND b) OR c)", "(a AND b OR c)"),
    ("((a AND b) AND c)", "((a OR b) OR c)"),
]


@pytest.mark.parametrize("one, two", PRINTED_TWICE)
def test_what_postgresql_prints_in_two_ways_is_no_difference(one, two):
    assert schema_lines.canonical(one) == schema_lines.canonical(two)
    assert schema_lines.differences([f"constraint k on t\t{one}"], [f"constraint k on t\t{two}"]) == []
    # Of free text every letter counts.
    assert schema_lines.differences([f"comment on t\t{one}"], [f"comment on t\t{two}"])


@pytest.mark.parametrize("one, two", DIFFERENT)
def test_other_expressions_stay_other_ones(one, two):
    assert schema_lines.canonical(one) != schema_lines.canonical(two)


_WORDS = ["a", "b", "it's", "a, b", "(ARRAY['a'])::text[]", '"', "]", "\\"]
_TEXTS = st.one_of(st.sampled_from(_WORDS), st.text("'\"()[],:$aRY ", max_size=6))
_TYPES = st.sampled_from(["text", "character varying(3)", 'public."a""b]"', "numeric(5,2)", "time with time zone"])
_ARRAYS = st.tuples(st.just("array"), st.lists(_TEXTS, min_size=1, max_size=3), _TYPES, _TYPES)
_EXPRESSIONS = st.recursive(
    _ARRAYS, lambda inner: st.tuples(st.sampled_from(["AND", "OR", "="]), inner, inner), max_leaves=5
)


def printed(expression, restored: bool) -> str:
    """As PostgreSQL prints it: as it was made, or after a restore."""
    kind, *rest = expression
    if kind == "array":
        values, kept, cast = rest
        made = ["'{}'::{}".format(value.replace("'", "''"), kept) for value in values]
        if restored:
            return f"(x = ANY (ARRAY[{', '.join(f'({item})::{cast}' for item in made)}]))"
        return f"(x = ANY ((ARRAY[{', '.join(made)}])::{cast}[]))"
    left, right = (printed(item, restored) for item in rest)
    if restored and rest[0][0] == kind != "=":
        left = left[1:-1]
    return f"({left} {kind} {right})"


@given(_EXPRESSIONS, _EXPRESSIONS)
def test_two_texts_are_the_same_only_where_the_expressions_are(one, two):
    kept, other = printed(one, True), printed(two, True)
    assert schema_lines.canonical(printed(one, False)) == schema_lines.canonical(kept)
    assert (schema_lines.canonical(kept) == schema_lines.canonical(other)) == (kept == other)


@given(_EXPRESSIONS, st.data())
def test_one_letter_more_is_a_difference(expression, data):
    text = printed(expression, data.draw(st.booleans()))
    at = data.draw(st.integers(0, len(text)))
    assert schema_lines.canonical(f"{text[:at]}z{text[at:]}") != schema_lines.canonical(text)


@given(st.text("'\"()[],:$ ARY\nxANDSELCT"))
def test_any_text_has_a_canonical_one(text):
    once = schema_lines.canonical(f"ARRAY[{text}]")
    assert schema_lines.canonical(once) == once


def test_the_version_table_is_left_out_by_name():
    assert "c.relname = 'it''s' AND n.nspname = 'a'" in schema_lines.query("a.it's")
    assert "{version}" not in schema_lines.query()
    assert "c.relname = 'alembic_version')" in schema_lines.query()
