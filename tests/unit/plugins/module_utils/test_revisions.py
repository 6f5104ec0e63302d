from __future__ import annotations

import json
import subprocess
import sys

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _revisions
from ansible_collections.sparklio.rollback.plugins.module_utils._revisions import Revision, RevisionError, heads
from hypothesis import given
from hypothesis import strategies as st


@st.composite
def graphs(draw):
    """Histories as people make them: several roots, branches, merges and dependencies, files in any order."""
    size = draw(st.integers(min_value=0, max_value=8))
    made = []
    for number in range(size):
        older = [f"r{n}" for n in range(number)]
        pick = st.lists(st.sampled_from(older), unique=True, max_size=3) if older else st.just([])
        made.append(Revision(f"r{number}", tuple(draw(pick)), tuple(draw(pick)), f"{number}.py"))
    return draw(st.permutations(made))


@given(graphs())
def test_a_head_is_what_nothing_stands_or_depends_on(revisions):
    def nothing_on(name):
        return not any(name in item.down_revisions + item.depends_on for item in revisions)

    assert heads(revisions) == sorted(item.revision for item in revisions if nothing_on(item.revision))


@given(graphs())
def test_every_revision_leads_up_to_a_head(revisions):
    by_id = {item.revision: item for item in revisions}
    seen, todo = set(), heads(revisions)
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += by_id[name].down_revisions + by_id[name].depends_on
    assert seen == set(by_id)


def test_a_dependency_may_be_named_by_its_branch():
    found = heads([Revision("n1", (), (), "n.py", ("net",)), Revision("r1", (), ("net",), "r.py")])
    assert found == ["r1"]


def test_two_files_with_one_id_and_a_missing_parent_are_named():
    with pytest.raises(RevisionError, match=r"b\.py and a\.py both declare revision x"):
        heads([Revision("x", (), (), "a.py"), Revision("x", (), (), "b.py")])
    with pytest.raises(RevisionError, match=r"a\.py stands on revision gone"):
        heads([Revision("x", ("gone",), (), "a.py")])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("revision = 'a'\ndown_revision = None", ("a", (), ())),
        ("revision: str = 'a'\ndown_revision: Union[str, None] = 'b'", ("a", ("b",), ())),
        ("revision = 'a'\ndown_revision = ('b', 'c')\ndepends_on = ['d']", ("a", ("b", "c"), ("d",))),
        ("import os\nrevision = 'a'\ndown_revision = 'b'\nos.remove('/x')", ("a", ("b",), ())),
    ],
)
def test_ids_are_read_and_nothing_is_run(source, expected):
    assert _revisions.parse_revision(source, "x.py")[:3] == expected


def test_a_file_without_a_revision_is_none():
    assert _revisions.parse_revision("", "__init__.py") is None


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("revision =", "not valid Python"),
        ("revision = \x00", "not valid Python"),
        ("revision = uuid4().hex", "computed, not a literal"),
        ("revision = {[]: 1}", "computed, not a literal"),
        ("revision = 3", "neither a revision id"),
        ("revision = ('a', 'b')", "not one id"),
    ],
)
def test_what_cannot_be_read_names_the_file(source, message):
    with pytest.raises(RevisionError, match=rf"^x\.py: .*{message}"):
        _revisions.parse_revision(source, "x.py")


@pytest.mark.parametrize(
    ("ini", "expected"),
    [
        ("", ["backend/alembic/versions"]),
        ("[alembic]\nscript_location = migrations", ["backend/migrations/versions"]),
        ("[alembic]\nscript_location = %(here)s/alembic\nfile_template = %%(rev)s", ["backend/alembic/versions"]),
        ("[alembic]\nscript_location = ../db", ["db/versions"]),
        (
            "[alembic]\nversion_locations = %(here)s/a;%(script_location)s/b",
            ["backend/a", "backend/alembic/b"],
        ),
        ("[alembic]\nversion_locations = a b\n  c", ["backend/a", "backend/b", "backend/c"]),
    ],
)
def test_where_the_revision_files_lie(ini, expected):
    assert _revisions.version_directories(ini, "backend") == expected


def test_a_broken_ini_is_one_line():
    with pytest.raises(RevisionError, match=r"^alembic\.ini can't be read: .*") as caught:
        _revisions.version_directories("script_location = x", "backend")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("ini", "expected"), [("", False), ("[alembic]\nrecursive_version_locations = true", True)])
def test_whether_directories_below_count(ini, expected):
    assert _revisions.recursive(ini) is expected


HISTORIES = {
    "a line": {"a": {}, "b": {"down_revision": "a"}},
    "two heads": {"a": {}, "b": {"down_revision": "a"}, "c": {"down_revision": "a"}},
    "a merge": {
        "a": {},
        "b": {"down_revision": "a"},
        "c": {"down_revision": "a"},
        "d": {"down_revision": ("b", "c")},
    },
    "two roots": {"a": {}, "b": {}, "c": {"down_revision": "b"}},
    "a dependency": {"a": {}, "n": {}, "b": {"down_revision": "a", "depends_on": "n"}},
    "a dependency by label": {
        "a": {},
        "n": {"branch_labels": ("net",)},
        "b": {"down_revision": "a", "depends_on": "net"},
    },
    "a dependency that goes on": {
        "n": {},
        "a": {"depends_on": "n"},
        "o": {"down_revision": "n"},
    },
}
ENVIRONMENT = """
import sqlalchemy
from alembic import context
with sqlalchemy.create_engine(context.config.get_main_option("sqlalchemy.url")).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
UPGRADE = """
import json, sqlite3, sys
from alembic.command import upgrade
from alembic.config import Config
for folder in sys.argv[1:]:
    config = Config()
    config.set_main_option("script_location", folder)
    config.set_main_option("sqlalchemy.url", f"sqlite:///{folder}/db")
    upgrade(config, "heads")
    rows = sqlite3.connect(folder + "/db").execute("select version_num from alembic_version order by 1")
    print(json.dumps([row[0] for row in rows]))
"""


def test_the_heads_are_those_that_alembic_leaves_in_the_version_table(tmp_path):
    pytest.importorskip("alembic", reason="alembic is not installed beside this ansible-core")
    expected = {}
    for number, (name, history) in enumerate(HISTORIES.items()):
        folder = tmp_path / str(number)
        (folder / "versions").mkdir(parents=True)
        (folder / "env.py").write_text(ENVIRONMENT)
        revisions = []
        for revision, more in history.items():
            values = {"revision": revision, "down_revision": None, **more}
            source = "".join(f"{key} = {value!r}\n" for key, value in values.items())
            source += "def upgrade(): pass\ndef downgrade(): pass\n"
            (folder / "versions" / f"{revision}_x.py").write_text(source)
            revisions.append(_revisions.parse_revision(source, revision))
        expected[name] = heads(revisions)
    command = [sys.executable, "-c", UPGRADE, *sorted(str(path) for path in tmp_path.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert dict(zip(HISTORIES, map(json.loads, done.stdout.splitlines()), strict=True)) == expected
