from __future__ import annotations

import re
import shutil

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils.git import Repository
from ansible_collections.sparklio.rollback.plugins.modules import alembic_path as module

OLD, NEW = "v4.0.20250115-1430", "v4.0.20250116-1000"
VERSIONS = "backend/alembic/versions"


def revision(name, down=None, downgrade="op.drop_table('t')", **more):
    values = {"revision": name, "down_revision": down, **more}
    lines = [f'"""About {name}."""', "from alembic import op", *(f"{key} = {value!r}" for key, value in values.items())]
    lines += ["raise SystemExit('never run')", "def upgrade():", "    op.create_table('t')"]
    return "\n".join([*lines, "def downgrade():", f"    {downgrade}", ""])


def files(**sources):
    return {f"{VERSIONS}/{name}.py": text for name, text in sources.items()}


@pytest.fixture
def clone(git):
    git.commit(
        {
            "backend/alembic.ini": "[alembic]\nscript_location = %(here)s/alembic\n",
            f"{VERSIONS}/__init__.py": "",
            f"{VERSIONS}/below/z.py": "not python (",
            **files(aa11=revision("aa11"), bb22=revision("bb22", "aa11")),
        },
        OLD,
    )
    git.commit(
        files(
            cc33=revision("cc33", "bb22", "op.drop_column('t', 'c')"),
            dd44=revision("dd44", "cc33", "pass"),
            net1=revision("net1", branch_labels=("net",)),
        ),
        NEW,
    )
    return git


@pytest.fixture
def find(call, clone):
    def run(heads=("dd44", "net1"), **options):
        return call(module, root=str(clone.path), heads=list(heads), **options)

    return run


def only(found):
    (problem,) = found["problems"]
    assert found["build"] is None
    assert "\n" not in problem["message"] + problem["cure"]
    assert found["path"] == [] and found["target_heads"] is None
    return problem


def names(found):
    return [item["revision"] for item in found["path"]]


def test_the_way_to_a_release_is_read_from_git_alone(find, clone):
    shutil.rmtree(clone.path / VERSIONS)
    clone("rm", "-q", "-r", "--cached", "backend")
    clone("commit", "-q", "-m", "gone")
    found = find(commit=NEW, target_commit=OLD)
    assert found["problems"] == [] and names(found) == ["dd44", "cc33", "net1"]
    assert (found["current_heads"], found["target_heads"]) == (["dd44", "net1"], ["bb22"])
    assert found["tree_heads"] == ["dd44", "net1"] and found["unapplied"] == [] and not found["base"]
    assert found["target"] == {
        "kind": "commit",
        "name": OLD,
        "commit": clone("rev-parse", OLD + "^{commit}"),
        "revision": None,
    }


def test_each_revision_tells_what_it_does(find):
    found = find(target_commit=OLD)["path"][1]
    line = found["reasons"][0]["line"]
    assert found == {
        "revision": "cc33",
        "file": f"{VERSIONS}/cc33.py",
        "title": "About cc33.",
        "down_revisions": ["bb22"],
        "heads_before": ["cc33", "net1"],
        "marks": ["loses_data"],
        "reasons": [{"mark": "loses_data", "line": line, "reason": "column t.c is gone"}],
        "drops": [{"kind": "column", "table": "t", "name": "c", "line": line}],
    }
    assert find(target_commit=OLD)["path"][0]["marks"] == ["empty"]


def test_the_way_to_a_revision_leaves_other_branches(find):
    found = find(revision="bb22")
    assert names(found) == ["dd44", "cc33"] and found["target_heads"] == ["bb22", "net1"]
    assert found["target"] == {"kind": "revision", "name": "bb22", "commit": None, "revision": "bb22"}
    assert found["differing"] == []


def test_base_takes_back_everything_and_says_so(find):
    found = find(revision="base")
    assert names(found) == ["dd44", "cc33", "bb22", "aa11", "net1"]
    assert found["base"] and found["target_heads"] == [] and found["build"] == []


def test_steps_are_resolved(find):
    found = find(["cc33"], steps=-2)
    assert found["target"]["revision"] == "aa11" and names(found) == ["cc33", "bb22"]
    assert found["unapplied"] == ["net1", "dd44"] or found["unapplied"] == ["dd44", "net1"]
    assert find(["aa11"], steps=-1)["base"]


def test_nothing_to_take_back_is_no_problem(find):
    found = find(["bb22"], target_commit=OLD)
    assert found["problems"] == [] and found["path"] == [] and found["target_heads"] == ["bb22"] and not found["base"]


@pytest.mark.parametrize(
    ("options", "code", "message", "cure"),
    [
        ({"revision": "bb"}, "abbreviated", "'bb' is abbreviated", "-e target_revision=bb22"),
        ({"revision": ""}, "unknown", "no revision ''", "Its heads are dd44, net1"),
        ({"revision": "bb23"}, "unknown", "no revision 'bb23'", "-e target_revision=bb22"),
        ({"revision": "head-1"}, "relative", "relative", "-e steps=-1"),
        ({"revision": "net@net1"}, "branch", "names a branch", "-e target_revision=net1"),
        ({"steps": -1}, "ambiguous", "2 heads", "-e target_revision=cc33"),
        ({"steps": 1}, "steps", "takes nothing back", "-e steps=-1"),
        ({"heads": ["dd44"], "steps": -9}, "steps", "Only 4 revisions", "-e target_revision=base"),
        ({"heads": ["dd44"], "revision": "net1"}, "not_applied", "net1 is not applied", "stands on"),
        ({"heads": ["gone9"], "revision": "bb22"}, "lacking", "The database is at gone9", "Check out the release"),
        ({"heads": ["aa11"], "target_commit": OLD}, "ahead", "lacks bb22", "alembic upgrade"),
        ({"heads": ["aa11"], "commit": OLD, "target_commit": NEW}, "target_only", "cc33, dd44, net1", "deploy"),
    ],
)
def test_what_cannot_be_done_names_its_cure(find, options, code, message, cure):
    problem = only(find(**options))
    assert problem["code"] == code and message in problem["message"] and cure in problem["cure"]


@pytest.mark.parametrize(
    ("sources", "code", "message"),
    [
        (files(ee55="def downgrade(:"), "syntax", r"ee55\.py: not valid Python: invalid syntax \(in .*line 1\)"),
        (files(ee55="\n\nrevision = make()"), "ids", rf"{VERSIONS}/ee55\.py: revision is computed.*line 3"),
        (files(copy=revision("bb22", "aa11")), "duplicate", r"bb22\.py and .*copy\.py both declare revision bb22"),
        (files(ee55=revision("ee55", "gone")), "missing", r"ee55\.py stands on revision gone"),
        (files(aa11=revision("aa11", "dd44")), "circle", "circle: aa11, bb22, cc33, dd44"),
        ({"backend/alembic.ini": None}, "no_alembic", r"There is no backend/alembic\.ini"),
        ({"backend/alembic.ini": "x"}, "bad_ini", r"alembic\.ini can't be read"),
    ],
)
def test_a_tree_that_alembic_could_not_read(find, clone, sources, code, message):
    broken = "v4.0.20250117-1000"
    clone.commit(sources, broken)
    problem = only(find(revision="bb22"))
    assert problem["code"] == code and broken in problem["message"]
    assert re.search(message, problem["message"])
    (same,) = find(commit=NEW, target_commit=broken)["problems"]
    assert same["code"] == code and "Choose another release" in same["cure"]


def test_what_is_wrong_in_both_trees_is_told_once(find, clone):
    clone.commit(files(ee55="def downgrade(:"), "v4.0.20250117-1000")
    clone.commit({"x": "y"}, "v4.0.20250118-1000")
    assert only(find(target_commit="v4.0.20250117-1000"))["message"].count("v4.0.20250118-1000") == 1


def test_what_stands_on_a_file_that_cannot_be_read_is_not_missing(find, clone):
    clone.commit(files(bb22="revision ="), "v4.0.20250117-1000")
    assert only(find(revision="aa11"))["code"] == "syntax"


def test_files_that_differ_are_named(find, clone):
    clone.commit(files(bb22=revision("bb22", "aa11", "op.drop_table('other')")), "v4.0.20250117-1000")
    clone("mv", f"{VERSIONS}/aa11.py", f"{VERSIONS}/renamed.py")
    clone("commit", "-q", "-m", "x")
    found = find(target_commit=OLD)
    assert found["problems"] == []
    path = f"{VERSIONS}/bb22.py"
    assert found["differing"] == [{"revision": "bb22", "how": "changed", "file": path, "target_file": path}]


def test_a_history_that_was_rewritten_between_the_two_does_not_lead_there(find, clone):
    clone.commit(files(bb22=revision("bb22")), "v4.0.20250117-1000")
    problem = only(find(target_commit=OLD))
    assert problem["code"] == "rewritten" and "only one of the two has aa11" in problem["message"]


def test_a_version_table_that_would_say_more_than_the_release_is_refused(find, clone):
    clone.commit(files(ee55=revision("ee55", "dd44", depends_on="cc33"), ff66=revision("ff66")), "v4.0.20250117-1000")
    clone("rm", "-q", f"{VERSIONS}/ee55.py")
    clone("commit", "-q", "-m", "x")
    clone("tag", "older")
    clone("checkout", "-q", "v4.0.20250117-1000")
    problem = only(find(["ee55", "ff66", "net1"], target_commit="older"))
    assert problem["code"] == "heads_differ" and "at cc33, dd44, ff66, net1 then" in problem["message"]
    assert "Leave out what depends on cc33" in problem["cure"]


def test_uncommitted_revision_files_would_run_and_are_refused(find, clone):
    clone.write(files(ee55=revision("ee55", "dd44"), bb22=revision("bb22", "aa11", "pass")))
    found = find(target_commit=OLD)
    assert [item["code"] for item in found["problems"]] == ["uncommitted"]
    assert f"{VERSIONS}/bb22.py, {VERSIONS}/ee55.py" in found["problems"][0]["message"]
    assert find(commit=NEW + "~1", heads=["bb22"], revision="aa11")["problems"] == []


def test_an_env_py_that_was_never_committed_would_run_and_is_refused(find, clone):
    (clone.path / VERSIONS).parent.joinpath("env.py").write_text("print('other')")
    (problem,) = find(target_commit=OLD)["problems"]
    assert problem["code"] == "uncommitted" and problem["message"].endswith(": backend/alembic/env.py")


def test_directories_below_count_where_alembic_looks_there(find, clone):
    ini = "[alembic]\nscript_location = alembic\nrecursive_version_locations = true\n"
    clone.commit({"backend/alembic.ini": ini, f"{VERSIONS}/below/z.py": revision("zz99", "dd44")}, "v4.0.20250117-1000")
    assert names(find(["zz99", "net1"], revision="dd44")) == ["zz99"]


def test_line_ends_and_links_do_no_harm(find, clone):
    path = clone.path / VERSIONS / "ee55.py"
    path.write_bytes(revision("ee55", "dd44").replace("\n", "\r\n").encode() + "# 한국어\r\n".encode())
    (clone.path / VERSIONS / "link.py").symlink_to("ee55.py")
    (clone.path / VERSIONS / "gone.py").symlink_to("not python (")
    clone.commit({}, "v4.0.20250117-1000")
    found = find(["ee55", "net1"], revision="dd44")
    assert found["problems"] == [] and names(found) == ["ee55"]
    repo = Repository(str(clone.path))
    assert "\r" not in repo.read("HEAD", f"{VERSIONS}/ee55.py")
    assert "한국어" in next(iter(repo.contents([repo.blobs("HEAD", VERSIONS)[f"{VERSIONS}/ee55.py"]]).values()))


def test_exactly_one_target(find):
    for options in ({}, {"revision": "bb22", "steps": -1}):
        assert find(**options)["failed"]


def test_no_clone_and_no_commit_are_one_line(call, find, tmp_path):
    found = find(target_commit="--output=x")
    assert found["failed"] and "there is no commit '--output=x'" in found["msg"]
    assert call(module, root=str(tmp_path), heads=[], revision="base")["failed"]
