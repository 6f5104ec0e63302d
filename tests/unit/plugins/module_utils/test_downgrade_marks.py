from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _downgrade_marks as marks
from ansible_collections.sparklio.rollback.plugins.module_utils import _revisions
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[4]
HEAD = """import sqlalchemy as sa
from alembic import op
from sqlalchemy.orm import Session
"""
UPGRADE = """
def upgrade():
    op.add_column("users", sa.Column("x", sa.Text))
"""


def read(body, before="", upgrade=UPGRADE, down=("a",)):
    lines = "\n".join("    " + line for line in body.splitlines())
    return marks.read(f'"""A title.\n\nMore."""\n{HEAD}{before}\n{upgrade}\n\ndef downgrade():\n{lines}\n', down)


def dropped(found):
    return [marks.drop_text(item) for item in found.data()["drops"]]


SANDBOX = {
    "v4_0001_users": (("loses_data",), ["table users"]),
    "v4_0002_brands": (("loses_data",), ["table brands"]),
    "v4_0003_workflows": (
        ("loses_data",),
        ["table assets", "table agents", "table workflows", "type workflow_status"],
    ),
    "v4_0004_brand_learning": (("loses_data",), ["column brands.learned_profile", "table brand_learnings"]),
    "v4_0005_workflow_paused": (
        ("loses_data", "changes_data"),
        ["former values of workflows", "type workflow_status_with_paused"],
    ),
    "v4_0006_plain_emails": (("empty",), []),
    "v4_0007_workflow_tags": (("loses_data",), ["column workflows.tags"]),
    "v4_0007_asset_labels": (("loses_data",), ["table asset_labels"]),
    "v4_0008_merge": (("merge",), []),
    "analytics_0001_events": (("loses_data",), ["table analytics_events"]),
}


def test_every_revision_of_the_sandbox_is_read_as_what_it_is():
    files = {path.stem: path.read_text() for path in ROOT.glob("sandbox/**/alembic/versions/*.py")}
    assert set(files) == set(SANDBOX)
    for name, source in files.items():
        revision = _revisions.parse_revision(source, name)
        found = marks.read(source, revision.down_revisions)
        assert (found.marks, dropped(found)) == SANDBOX[name], name
        assert all(note.reason and "\n" not in note.reason and note.line > 0 for note in found.notes)
        assert {note.mark for note in found.notes} == set(found.marks)


def test_the_title_the_line_and_the_reason():
    found = read('op.create_index("i", "t", ["c"])\nop.drop_column("users", "x")')
    assert found.title == "A title."
    line = found.notes[0].line
    assert found.notes == (marks.Note("loses_data", line, "column users.x is gone"),)
    assert found.drops == (marks.Drop("column", "users", "x", line),)
    assert found.data()["reasons"] == [{"mark": "loses_data", "line": line, "reason": "column users.x is gone"}]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('op.drop_table("users")', ["table users"]),
        ('op.drop_table("users", schema="crm")', ["table crm.users"]),
        ('op.drop_table(table_name="users")', ["table users"]),
        ('op.drop_column("users", "x", schema="crm")', ["column crm.users.x"]),
        ('op.drop_index("i", "t")', ["index i"]),
        ('op.drop_index(op.f("i"), table_name="t")', ["index i"]),
        ('op.drop_constraint("c", "t", type_="unique")', ["constraint c"]),
        ('with op.batch_alter_table("users") as batch:\n    batch.drop_column("x")', ["column users.x"]),
        (
            'with op.batch_alter_table("users", schema="crm") as batch_op:\n    batch_op.drop_constraint("c")\n'
            '    batch_op.drop_index("i")\n    batch_op.drop_column("y")',
            ["constraint c", "index i", "column crm.users.y"],
        ),
        ('op.execute("DROP TABLE users")', ["table users"]),
        (
            'op.execute("drop table if exists Users, crm.\\"Odd, Name\\" cascade")',
            ["table users", "table crm.Odd, Name"],
        ),
        (
            'op.execute(sa.text("ALTER TABLE users DROP COLUMN x, DROP y CASCADE"))',
            ["column users.x", "column users.y"],
        ),
        ('op.execute("ALTER TABLE ONLY users DROP CONSTRAINT IF EXISTS c")', ["constraint c"]),
        ('op.execute("ALTER TABLE users ALTER COLUMN x DROP DEFAULT, ALTER y DROP NOT NULL")', []),
        ('op.execute("/* DROP TABLE a */ DROP TYPE mood; -- DROP TABLE b\\nDROP SCHEMA s")', ["type mood", "schema s"]),
        ("op.execute(\"COMMENT ON TABLE a IS 'DROP TABLE b; DROP TABLE c'\")", []),
        (
            'op.execute("DROP MATERIALIZED VIEW v; DROP SEQUENCE s; DROP FUNCTION f(int, int)")',
            [
                "view v",
                "sequence s",
                "function f",
            ],
        ),
        ('op.execute("TRUNCATE TABLE a, b")', ["rows of a", "rows of b"]),
        ('op.execute("DELETE FROM users WHERE x")', ["rows of users"]),
        ('op.execute("UPDATE users SET x = 1")', ["former values of users"]),
        ('op.execute("WITH gone AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM gone")', ["rows of a"]),
        ('for name in ("a", "b"):\n    op.drop_table(name)', ["table a", "table b"]),
        (
            'for table, column in [("a", "x"), ("b", "y")]:\n    op.drop_column(table, column)',
            ["column a.x", "column b.y"],
        ),
        ('[op.drop_table(f"{name}_log") for name in ("a", "b")]', ["table a_log", "table b_log"]),
        ('name = "users"\nop.execute(f"DROP TABLE {name}")', ["table users"]),
        ('op.execute("DROP TABLE %s" % "users")', ["table users"]),
        ('sa.Enum(name="mood").drop(op.get_bind(), checkfirst=True)', ["type mood"]),
        ('sa.Table("users", sa.MetaData()).drop(op.get_bind())', ["table users"]),
        (
            'if op.get_context().dialect.name == "postgresql":\n    op.drop_table("a")\nelse:\n    op.drop_table("b")',
            ["table a", "table b"],
        ),
        ('try:\n    op.drop_table("a")\nfinally:\n    op.drop_table("b")', ["table a", "table b"]),
        ('op.drop_table("a")\nreturn\nop.drop_table("b")', ["table a"]),
        ('bind = op.get_bind()\nbind.execute(sa.text("DROP TABLE users"))', ["table users"]),
        (
            'for table, column in {"a": "x", "b": "y"}.items():\n    op.drop_column(table, column)',
            ["column a.x", "column b.y"],
        ),
        ('match x:\n    case 1:\n        op.drop_table("a")', ["table a"]),
        ('x and op.drop_table("a")', ["table a"]),
        ('def inner():\n    op.drop_table("a")\ninner()', ["table a"]),
        ("op.drop_table(make_name())", ["a table named at run time: the rehearsal tells"]),
        ('op.drop_column("users", *names)', ["a column of users named at run time: the rehearsal tells"]),
        ("for name in names():\n    op.drop_table(name)", ["a table named at run time: the rehearsal tells"]),
        ('op.execute(f"DROP TABLE {name()}")', ["a table named at run time: the rehearsal tells"]),
        (
            'op.execute("ALTER TABLE users DROP COLUMN {}".format(name()))',
            ["a column of users named at run time: the rehearsal tells"],
        ),
        ("op.drop_index(name())", ["an index named at run time: the rehearsal tells"]),
        ("Base.metadata.drop_all(op.get_bind())", ["a table named at run time: the rehearsal tells"]),
    ],
)
def test_what_is_dropped_is_named(body, expected):
    assert dropped(read(body)) == expected


@pytest.mark.parametrize(
    ("body", "before", "expected"),
    [
        ("_drop()", 'def _drop():\n    op.drop_table("a")\n', ["table a"]),
        ('_drop("b")', "def _drop(name):\n    op.drop_table(name)\n", ["table b"]),
        ('_drop(name="b")', 'def _drop(prefix="x_", *, name):\n    op.drop_table(prefix + name)\n', ["table x_b"]),
        (
            '_drop("b", "c")',
            "def _drop(*names):\n    for name in names:\n        op.drop_table(name)\n",
            ["table b", "table c"],
        ),
        ("_one()", 'def _one():\n    _two()\ndef _two():\n    _one()\n    op.drop_table("a")\n', ["table a"]),
        ("for name in TABLES:\n    op.drop_table(name)", 'TABLES = ["a"]\n', ["table a"]),
        ("mood.drop(op.get_bind())", 'mood = sa.Enum("a", name="mood")\n', ["type mood"]),
        ("op.run_async(_drop)", 'async def _drop(connection):\n    op.drop_table("a")\n', ["table a"]),
        (
            "op.execute(users.delete().where(users.c.x == 1))",
            'users = sa.table("users", sa.column("x"))\n',
            ["rows of users"],
        ),
        (
            "op.get_bind().execute(sa.update(users).values(x=1))",
            'users = sa.table("users")\n',
            ["former values of users"],
        ),
        ("_drop", 'def _drop():\n    op.drop_table("a")\n', []),
    ],
)
def test_helpers_and_names_of_the_same_file_are_followed(body, before, expected):
    assert dropped(read(body, before)) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("pass", ("empty",)),
        ('"""Nothing."""', ("empty",)),
        ("...", ("empty",)),
        ("return", ("empty",)),
        ("return None", ("empty",)),
        ('print("can not be undone")', ("empty",)),
        ("if False:\n    pass", ("empty",)),
        ("raise NotImplementedError", ("raises",)),
        ('raise RuntimeError("no way back")', ("raises",)),
        ("with op.get_context().begin_transaction():\n    raise Irreversible()", ("raises",)),
        ("assert False", ("raises",)),
        ('op.drop_table("a")\nraise NotImplementedError()', ("raises", "loses_data")),
        ("if x():\n    raise RuntimeError", ("unknown",)),
        ("try:\n    raise ValueError\nexcept ValueError:\n    pass", ("empty", "unknown")),
        ('op.rename_table("a", "b")', ("harmless",)),
        ('op.drop_index("i", "t")', ("harmless",)),
        ('op.drop_constraint("c", "t")', ("harmless",)),
        ('op.execute("ALTER TABLE a ALTER COLUMN b DROP NOT NULL")', ("harmless",)),
        ('op.add_column("a", sa.Column("b", Encrypted("x")))', ("harmless",)),
        ('with op.get_context().autocommit_block():\n    op.drop_index("i")', ("autocommit",)),
        ('op.drop_index("i", "t", postgresql_concurrently=True)', ("autocommit",)),
        ('op.drop_index("i", "t", postgresql_concurrently=False)', ("harmless",)),
        ('op.create_index("i", "t", ["c"], postgresql_concurrently=True)', ("autocommit",)),
        ('op.execute("DROP INDEX CONCURRENTLY i")', ("autocommit",)),
        ("op.execute('DROP INDEX \"concurrently\"')", ("harmless",)),
        ('op.execute("COMMIT")', ("autocommit",)),
        ('op.execute("VACUUM users")', ("autocommit",)),
        ("bind = op.get_bind()\nbind.commit()", ("autocommit",)),
        ('op.get_bind().execution_options(isolation_level="AUTOCOMMIT")', ("autocommit",)),
        ('op.execute("DELETE FROM a")', ("loses_data", "changes_data")),
        ("op.execute(\"INSERT INTO a VALUES ('DELETE FROM b')\")", ("changes_data",)),
        ('op.bulk_insert(sa.table("a"), [{}])', ("changes_data",)),
        ('op.alter_column("a", "b", type_=sa.Text())', ("changes_data",)),
        ('op.alter_column("a", "b", nullable=True)', ("harmless",)),
        ('op.execute("ALTER TABLE a ALTER b SET DATA TYPE text, DROP c")', ("loses_data", "changes_data")),
        ('rows = op.get_bind().execute(sa.text("SELECT id FROM a"))', ("reads_data",)),
        ("rows = op.get_bind().execute(sa.select(users))", ("reads_data",)),
        (
            'connection = op.get_bind()\nfor row in connection.execute("select 1").fetchall():\n    pass',
            ("reads_data",),
        ),
        ("sa.inspect(op.get_bind()).get_table_names()", ("reads_data",)),
        (
            "session = Session(bind=op.get_bind())\nsession.query(User).delete()\nsession.commit()",
            ("autocommit", "loses_data", "changes_data", "reads_data"),
        ),
        ('op.execute("SELECT create_hypertable()")', ("unknown",)),
        ('op.execute("DO $$ BEGIN DELETE FROM a; END $$")', ("unknown",)),
        ("op.execute(make_sql())", ("unknown",)),
        ("op.drop_entity(thing)", ("unknown",)),
        ('getattr(op, "drop_table")("a")', ("unknown",)),
        ("globals()['downgrade_' + name]()", ("unknown",)),
        ("elsewhere()", ("unknown",)),
        ("undo = lambda: op.drop_table('a')\nundo()", ("unknown",)),
        ("undo = op.drop_table\nundo('a')", ("unknown",)),
        ("list(map(op.drop_table, ['a', 'b']))", ("unknown",)),
        ("return downgrade()", ("empty",)),
        ('op.execute("INSERT INTO a VALUES (1) ON CONFLICT (id) DO UPDATE SET x = 1")', ("changes_data",)),
        ('op.execute("GRANT DELETE ON a TO b")', ("harmless",)),
        ('op.execute("ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES c ON DELETE CASCADE")', ("harmless",)),
        ('op.execute("ALTER TYPE a DROP ATTRIBUTE b")', ("loses_data",)),
        ('n = op.get_bind().execute(sa.text("SELECT 1")).scalar()', ("reads_data",)),
    ],
)
def test_each_mark(body, expected):
    assert read(body).marks == expected


def test_a_function_of_another_file_is_unknown():
    found = read("undo(op)", "from app.migrations import undo\n")
    assert found.marks == ("unknown",) and "app.migrations.undo" in found.notes[0].reason


def test_a_merge_that_does_something_cannot_be_taken_back_by_nothing():
    nothing = "\ndef upgrade():\n    pass\n"
    assert read("pass", upgrade=nothing, down=("a", "b")).marks == ("merge",)
    assert read("pass", upgrade=nothing, down=("a",)).marks == ("harmless",)
    assert read("pass", down=("a", "b")).marks == ("empty",)
    assert read("raise NotImplementedError", upgrade=nothing, down=("a", "b")).marks == ("raises",)


def test_a_helper_that_raises_ends_the_downgrade():
    found = read('_no()\nop.drop_table("a")', "def _no():\n    raise NotImplementedError\n")
    assert found.marks == ("raises",) and found.drops == ()
    assert read("if x:\n    _no()", "def _no():\n    raise NotImplementedError\n").marks == ("empty", "unknown")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (HEAD + UPGRADE, "missing"),
        ("", "missing"),
        (HEAD + UPGRADE + "from x import downgrade\n", "unknown"),
        (HEAD + UPGRADE + "downgrade = upgrade\n", "unknown"),
    ],
)
def test_a_file_without_the_function(source, expected):
    assert marks.read(source).marks == (expected,)


def test_what_is_not_python_is_an_error():
    with pytest.raises(SyntaxError):
        marks.read("def downgrade(:")


def test_code_that_never_ends_is_left_with_a_word():
    found = read(
        "for a in N:\n    for b in N:\n        for c in N:\n            op.drop_index(a)",
        f"N = {list('abcdefghij' * 9)}\n",
    )
    assert "unknown" in found.marks and "too long" in str(found.notes)


def test_code_that_is_nested_too_deeply_is_left_with_a_word():
    assert "nested too deeply" in str(read("op.execute(" + "+".join(["name"] * 900) + ")").notes)


TOKENS = """DROP TABLE ALTER COLUMN DELETE FROM UPDATE WITH CONCURRENTLY users "Odd" 'x' ; , ( ) . -- /* */ $$ ' " """
WORDS = st.sampled_from([*TOKENS.split(), "\n", "\0"])


@given(st.lists(WORDS).map(" ".join))
def test_any_text_can_be_read_as_sql(text):
    notes, drops = marks.sql_effects(text, 3)
    assert all(item.line == 3 for item in [*notes, *drops])


@given(st.text(st.characters(codec="utf-8", exclude_characters='\0"'), min_size=1, max_size=20))
def test_a_quoted_name_is_read_as_it_is_stored(name):
    _notes, drops = marks.sql_effects(f'DROP TABLE "{name}"; ALTER TABLE "{name}" DROP COLUMN "{name}"', 1)
    assert [item.kind for item in drops] == ["table", "column"]
    expected = " ".join(name.split())
    assert " ".join((drops[0].table or "").split()) == expected == " ".join((drops[1].name or "").split())


@given(st.sampled_from(["users", "a b", 'x"y', "표"]), st.booleans())
def test_a_name_is_the_same_by_operation_and_by_sql(name, quoted):
    by_sql = read(f"op.execute({'DROP TABLE ' + chr(34) + name.replace(chr(34), chr(34) * 2) + chr(34)!r})")
    assert dropped(read(f"op.drop_table({name!r})")) == dropped(by_sql)
