from __future__ import annotations

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _rehearsal


def table(name, rows=3, digest="a", columns=("id", "name"), schema="public"):
    return {"schema": schema, "name": name, "columns": list(columns), "rows": rows, "hash": digest}


def after(name, rows=3, touched=0, digest=None, columns=("id", "name"), schema="public"):
    found = {"schema": schema, "name": name, "columns": list(columns), "rows": rows, "touched": touched}
    # Asked for only where rows were written and the columns are the same.
    return found if digest is None else {**found, "hash": digest}


USERS = table("users")


def test_what_is_the_same_is_not_told():
    assert _rehearsal.changed_tables([USERS, table("t")], [after("t"), after("users")]) == []
    # A rewrite of the table writes every row anew, and they are the same rows.
    assert _rehearsal.changed_tables([USERS], [after("users", touched=3, digest="a")]) == []


@pytest.mark.parametrize("schema", ["public", "own"])
def test_the_version_table_changes_anyway(schema):
    before, now = table("versions", schema=schema), after("versions", 1, 1, schema=schema)
    assert _rehearsal.changed_tables([before], [now], f"{schema}.versions") == []
    assert _rehearsal.changed_tables([before], [], f"{schema}.versions") == []
    # One that has the usual name is nobody's but the application's then.
    other = table("alembic_version")
    assert [item["table"] for item in _rehearsal.changed_tables([other], [], f"{schema}.versions")] == [
        "public.alembic_version"
    ]


def changed(before, now):
    (found,) = _rehearsal.changed_tables([before], [now])
    return found


def test_a_table_that_is_dropped_and_one_that_is_made():
    dropped, made = _rehearsal.changed_tables([USERS], [after("z", 7, 7)])
    assert dropped == {"table": "public.users", "what": "dropped", "rows": 3, "rows_after": 0}
    assert made == {"table": "public.z", "what": "made", "rows": 0, "rows_after": 7}


def test_a_column_that_goes_and_the_others_that_stay_as_they_are():
    before = table("users", columns=("id", "name", "x"))
    found = changed(before, after("users"))
    assert (found["what"], found["columns"], found["added"], found["contents"]) == ("changed", ["x"], [], False)
    # Rows were written too, and nobody can tell what they held.
    assert changed(before, after("users", touched=1))["contents"]


@pytest.mark.parametrize(
    ("now", "found"),
    [
        (after("users", touched=2, digest="b"), ([], [], 3, True)),
        (after("users", touched=2), ([], [], 3, True)),
        (after("users", rows=2), ([], [], 2, False)),
        (after("users", columns=("id", "name", "y")), ([], ["y"], 3, False)),
        (after("users", columns=("id", "y"), rows=4, touched=4), (["name"], ["y"], 4, True)),
    ],
)
def test_contents_rows_and_columns(now, found):
    item = changed(USERS, now)
    assert (item["columns"], item["added"], item["rows_after"], item["contents"]) == found


def test_without_hashes_rows_that_were_written_count_as_others():
    before = table("users", digest=None)
    assert _rehearsal.changed_tables([before], [after("users")]) == []
    assert changed(before, after("users", touched=1))["contents"]


def test_rows_written_since_are_asked_for_by_quoted_names():
    text = _rehearsal.touched({"schema": 'a"b', "name": "o'x"}, "7'")
    assert 'FROM ONLY "a""b"."o\'x" AS t' in text and "age('7'''::xid)" in text


def test_only_tables_whose_rows_are_others_may_have_other_rows():
    changes = [
        {"table": "public.gone", "what": "dropped", "rows": 1, "rows_after": 0},
        {"table": "public.new", "what": "made", "rows": 0, "rows_after": 0},
        {"table": "public.less", "what": "changed", "rows": 2, "rows_after": 1},
        {"table": "public.same", "what": "changed", "rows": 2, "rows_after": 2},
    ]
    assert _rehearsal.may_change(changes) == [
        "public.alembic_version",
        "public.gone",
        "public.less",
        "public.new",
    ]
    assert _rehearsal.may_change([], "meta.v") == ["meta.v"]


def test_rows_that_a_revision_deletes_may_come_after_the_rehearsal():
    """That of the backup may have had none of them."""
    planned = [drop("rows", None, "workflows"), drop("rows"), drop("values", None, "users"), drop("table", None, "t")]
    tables = ["public.workflows", "app.workflows", "public.users", "public.t"]
    assert _rehearsal.may_change([], "public.v", planned, tables) == ["app.workflows", "public.v", "public.workflows"]
    assert _rehearsal.may_change([], "public.v", [drop("rows", None, "app.workflows")], tables) == [
        "app.workflows",
        "public.v",
    ]


CASCADES = [
    ["public.learnings", "public.users", True],
    ["app.marks", "public.learnings", True],
    ["public.users", "app.marks", True],
    ["app.marks", "app.marks", True],
    ["public.other", "public.else", True],
    ["public.notes", "public.other", False],
    ["public.far", "public.notes", True],
]


@pytest.mark.parametrize(
    ("emptied", "also"),
    [
        ("users", ["app.marks", "public.learnings", "public.users"]),
        ("learnings", ["app.marks", "public.learnings", "public.users"]),
        ("else", ["public.else", "public.other"]),
        ("other", ["public.other"]),
    ],
)
def test_rows_that_refer_to_those_that_go_may_go_along(emptied, also):
    tables = ["public.users", "public.learnings", "app.marks", "public.other", "public.else"]
    planned = [drop("rows", None, emptied)]
    assert _rehearsal.may_change([], "z.v", planned, tables, CASCADES) == [*also, "z.v"]
    seen = [{"table": f"public.{emptied}", "what": "changed", "rows": 2, "rows_after": 1}]
    assert _rehearsal.may_change(seen, "z.v", [], tables, CASCADES) == [*also, "z.v"]


def test_what_may_lose_rows_or_the_values_of_a_key_is_told():
    """What a key sets to null stays a row, so that nothing goes on from there."""
    tables = ["public.else", "public.other", "public.notes", "public.far"]
    lost = ["public.else", "public.notes", "public.other"]
    assert _rehearsal.may_lose([], [drop("rows", None, "else")], tables, CASCADES) == lost
    seen = [{"table": "public.else", "what": "changed", "rows": 2, "rows_after": 1}]
    assert _rehearsal.may_lose(seen, [], tables, CASCADES) == lost
    assert _rehearsal.may_lose([{**seen[0], "rows_after": 3}], [], tables, CASCADES) == []


FEWER = [
    {"table": "public.brands", "what": "changed", "rows": 10, "rows_after": 4},
    {"table": "public.assets", "what": "changed", "rows": 9, "rows_after": 0, "columns": ["x"]},
    {"table": "public.users", "what": "changed", "rows": 3, "rows_after": 5},
]


@pytest.mark.parametrize(
    ("planned", "accepted", "left"),
    [
        ([], [], ["public.brands", "public.assets.x", "public.assets"]),
        ([("rows", None, "brands"), ("column", "x", "assets")], [], ["public.assets"]),
        ([("rows", None, "public.brands"), ("column", "x", "assets")], ["assets"], []),
        ([("rows", None, None), ("column", "x", "assets")], [], []),
        ([("rows", None, None)], [], ["public.assets.x"]),
        ([("schema", "public", None)], [], []),
    ],
)
def test_rows_that_go_without_a_word_are_a_loss_too(planned, accepted, left):
    assert _rehearsal.surprises(FEWER, [drop(*item) for item in planned], accepted) == left


def test_with_a_table_that_is_dropped_no_rows_go_along():
    seen = [{"table": "public.users", "what": "dropped", "rows": 2, "rows_after": 0}]
    assert _rehearsal.may_change(seen, "z.v", [], ["public.users"], CASCADES) == ["public.users", "z.v"]


def named(**tables):
    return {str(oid): {"table": name, "columns": columns} for oid, (name, columns) in enumerate(tables.values())}


def test_what_has_another_name_is_not_gone():
    was = named(a=("public.b", {"1": "id", "2": "name"}), b=("public.users", {"1": "id", "2": "profile", "4": "gone"}))
    now = named(a=("own.a", {"1": "id", "2": "name"}), b=("public.users", {"1": "id", "2": "about"}))
    renamed = _rehearsal.renames(was, now)
    assert renamed == {"tables": {"public.b": "own.a"}, "columns": {"public.users": {"profile": "about"}}}
    before = [table("b"), table("users", columns=["gone", "id", "profile"])]
    found = _rehearsal.changed_tables(
        before, [after("a", schema="own"), after("users", columns=["about", "id"])], renamed=renamed
    )
    assert [(item["table"], item["what"], item.get("to"), item["columns"], item["added"]) for item in found] == [
        ("public.b", "renamed", "own.a", [], []),
        ("public.users", "changed", None, ["gone"], []),
    ]
    assert _rehearsal.surprises(found, [], []) == ["public.users.gone"]
    assert _rehearsal.may_change(found) == ["own.a", "public.alembic_version", "public.b"]
    assert _rehearsal.lines(result(found))[1:] == [
        "table b: is called own.a",
        "table users: calls column profile about, drops column gone",
    ]


def test_a_table_can_take_the_name_of_one_that_is_gone():
    renamed = _rehearsal.renames(named(a=("public.a", {}), b=("public.b", {})), {"1": named(b=("public.a", {}))["0"]})
    found = _rehearsal.changed_tables([table("a"), table("b", 5)], [after("a", 5)], renamed=renamed)
    assert [(item["table"], item["what"], item["rows_after"]) for item in found] == [
        ("public.a", "dropped", 0),
        ("public.b", "renamed", 5),
    ]
    assert _rehearsal.surprises(found, [], []) == ["public.a"]
    # Its columns can be named by either name of the table.
    found = [{"table": "public.b", "what": "renamed", "to": "public.a", "columns": ["x"]}]
    for name in "ab":
        assert _rehearsal.surprises(found, [drop("column", "x", name)], []) == []


GONE = [
    {"table": "public.learnings", "what": "dropped"},
    {"table": "public.users", "what": "changed", "columns": ["profile"]},
    {"table": "archive.old", "what": "dropped"},
    {"table": "public.new", "what": "made"},
]


def drop(kind, name=None, in_table=None):
    return {"kind": kind, "name": name, "table": in_table}


@pytest.mark.parametrize(
    ("planned", "accepted", "left"),
    [
        ([], [], ["public.learnings", "public.users.profile", "archive.old"]),
        ([drop("table", None, "learnings")], [], ["public.users.profile", "archive.old"]),
        ([drop("table", None, "public.learnings")], [], ["public.users.profile", "archive.old"]),
        ([drop("column", "profile", "users")], [], ["public.learnings", "archive.old"]),
        # A name that is made at run time: of one table every column, of a table every table.
        ([drop("column", None, "users")], [], ["public.learnings", "archive.old"]),
        ([drop("table")], [], []),
        ([drop("column", "profile")], [], []),
        ([drop("schema")], [], []),
        ([drop("schema", "archive")], [], ["public.learnings", "public.users.profile"]),
        ([drop("schema", "arch")], [], ["public.learnings", "public.users.profile", "archive.old"]),
        # What holds no data of its own says nothing of tables.
        ([drop("index"), drop("rows"), drop("type")], [], ["public.learnings", "public.users.profile", "archive.old"]),
        # A column of that name in another table.
        ([drop("column", "profile", "brands")], [], ["public.learnings", "public.users.profile", "archive.old"]),
        ([], ["learnings", "archive.old"], ["public.users.profile"]),
        ([], ["public.learnings", "users.profile"], ["archive.old"]),
        ([], ["public.users.profile"], ["public.learnings", "archive.old"]),
        ([], ["users"], ["public.learnings", "archive.old"]),
        ([], ["profile", "old.x"], ["public.learnings", "public.users.profile", "archive.old"]),
    ],
)
def test_what_no_revision_s_source_names(planned, accepted, left):
    assert _rehearsal.surprises(GONE, planned, accepted) == left


FULL = ["table users\tr", "column users.id\tint", "column users.profile\tjson", "index by_name on users\tbtree"]
LESS = ["table users\tr", "column users.id\tint", "index by_name on users\tbtree"]


def test_a_schema_that_is_the_one_of_the_revisions():
    assert _rehearsal.drift(FULL, LESS, LESS, FULL) == ([], [])


def test_what_the_downgrade_leaves_behind_is_its_fault():
    wrong, before = _rehearsal.drift(FULL, FULL, LESS, FULL)
    assert before == [] and len(wrong) == 1 and wrong[0].startswith("column users.profile:")
    wrong, before = _rehearsal.drift(FULL, LESS[:2], LESS, FULL)
    assert before == [] and wrong == ["index by_name on users: missing"]


def test_what_was_changed_by_hand_before_is_told_and_no_fault():
    by_hand = "index by_hand on users\tbtree"
    wrong, before = _rehearsal.drift([*FULL, by_hand], [*LESS, by_hand], LESS, FULL)
    assert wrong == [] and len(before) == 1 and "by_hand" in before[0]
    # Gone by hand, and still gone.
    gone = FULL[:-1]
    assert _rehearsal.drift(gone, LESS[:-1], LESS, FULL) == ([], ["index by_name on users: missing"])
    # Another definition by hand.
    other = [text.replace("btree", "hash") for text in FULL]
    wrong, before = _rehearsal.drift(other, [other[0], other[1], other[3]], LESS, FULL)
    assert wrong == [] and len(before) == 1 and "by_name" in before[0]


def test_what_a_revision_of_the_path_touches_is_no_work_by_hand():
    """It was as the revisions have it, and should have gone with them: that it is as before is the downgrade's
    fault."""
    built_before = [*FULL, "index late on users\tbtree"]
    wrong, before = _rehearsal.drift(built_before, [*LESS, "index late on users\tbtree"], LESS, built_before)
    assert before == [] and len(wrong) == 1 and "late" in wrong[0]
    # By hand and by the downgrade at once: each is told apart.
    hand = "column users.nick\ttext"
    wrong, before = _rehearsal.drift([*FULL, hand], [*FULL, hand], LESS, FULL)
    assert ["profile" in text for text in wrong] == [True] and ["nick" in text for text in before] == [True]


def result(tables=(), dropped=(), drift=()):
    return {
        "revisions": [{}],
        "seconds": 0.31,
        "tables": list(tables),
        "dropped": [{"kind": kind, "identity": name, "table": None, "column": None} for kind, name in dropped],
        "drift": list(drift),
    }


def test_the_lines_tell_what_is_lost_and_what_went_with_it():
    change = {"what": "changed", "rows": 3, "rows_after": 3, "columns": [], "added": [], "contents": False}
    shown = _rehearsal.lines(
        result(
            [
                {"table": "public.learnings", "what": "dropped", "rows": 42, "rows_after": 0},
                {"table": "public.back", "what": "made", "rows": 0, "rows_after": 0},
                {**change, "table": "public.a", "columns": ["x"], "added": ["y"]},
                {**change, "table": "own.b", "rows_after": 2, "contents": True},
                {**change, "table": "public.c", "contents": True},
            ],
            [
                ("table", "public.learnings"),
                ("table column", "public.a.x"),
                ("type", "public.learnings"),
                ("trigger", '"RI_ConstraintTrigger_a_1" on public.a'),
                ("view", "public.all_learnings"),
            ],
            ["index by_hand on a: not expected"],
        )
    )
    assert shown == [
        "rehearsed on a restored backup: 1 revision(s) in 0.3 s",
        "drops table learnings with 42 rows",
        "makes table back",
        "table a: drops column x, adds column y",
        "table own.b: has 2 rows instead of 3",
        "table c: changes the contents of other columns",
        "drops with them: view public.all_learnings",
        "the schema differs from that of the revisions, as it did before: index by_hand on a: not expected",
    ]


def test_many_lines_are_counted():
    shown = _rehearsal.lines(result(dropped=[("index", f"public.i{n}") for n in range(11)], drift=list("abcdefg")))
    assert shown[1].endswith("index public.i7 and 3 more") and len(shown) == 2 + 5
