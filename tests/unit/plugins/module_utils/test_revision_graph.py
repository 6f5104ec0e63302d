from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _revision_graph, _revisions
from ansible_collections.sparklio.rollback.plugins.module_utils._revision_graph import Graph, GraphError
from ansible_collections.sparklio.rollback.plugins.module_utils._revisions import Revision
from hypothesis import given
from hypothesis import strategies as st


def history(**below):
    """``b="a"``: b stands on a; ``m="b c"``: a merge; ``d="a +n"``: d stands on a and depends on n."""
    made = []
    for name, text in below.items():
        words = text.split()
        down = tuple(word for word in words if not word.startswith("+"))
        depends = tuple(word[1:] for word in words if word.startswith("+"))
        made.append(Revision(name, down, depends, f"versions/{name}.py"))
    return made


LINE = history(a1="", b2="a1", c3="b2")
MERGED = history(a="", b="a", c="a", m="b c", t="m")
ROOTS = history(a="", b="a", n="", o="n")
DEPENDENT = history(a="", n="", o="n", d="a +n")


@st.composite
def histories(draw):
    """As people make them: several roots, branches, merges, dependencies (by label too), files in any order."""
    made, labels = [], {}
    for number in range(draw(st.integers(min_value=0, max_value=9))):
        name, older = f"r{number}", [item.revision for item in made]
        pick = st.lists(st.sampled_from(older), unique=True, max_size=3) if older else st.just([])
        down, depends = draw(pick), draw(st.one_of(st.just([]), pick))
        depends = [labels[item] if item in labels and draw(st.booleans()) else item for item in depends]
        own = (f"label{number}",) if draw(st.integers(0, 3)) == 0 else ()
        if own:
            labels[name] = own[0]
        made.append(Revision(name, tuple(down), tuple(depends), f"{name}.py", own))
    return draw(st.permutations(made))


@st.composite
def positions(draw):
    """A history, what is applied of it, and what should stay applied."""
    revisions = draw(histories())
    graph = Graph(revisions)
    some = st.lists(st.sampled_from(sorted(graph.revisions)), unique=True) if revisions else st.just([])
    applied = graph.ancestors(draw(some))
    kept = graph.ancestors(name for name in draw(some) if name in applied)
    return revisions, graph, graph.heads(applied), graph.heads(kept)


def alembic_map(revisions):
    module = pytest.importorskip("alembic.script.revision", reason="alembic is not installed beside this ansible-core")
    made = [module.Revision(item.revision, item.down_revisions, item.depends_on, item.labels) for item in revisions]
    return module.RevisionMap(lambda: made)


def alembic_path(revision_map, current, target):
    found = revision_map.iterate_revisions(tuple(current), target, select_for_downgrade=True)
    return [item.revision for item in found]


def alembic_rows(revision_map, current, path):
    """What Alembic's own bookkeeping leaves in the version table. It fails where a revision is no head in its turn."""
    migration = pytest.importorskip("alembic.runtime.migration")

    class Rows(migration.HeadMaintainer):
        def _insert_version(self, version):
            assert version not in self.heads
            self.heads.add(version)

        def _delete_version(self, version):
            self.heads.remove(version)

        def _update_version(self, from_, to_):
            assert to_ not in self.heads
            self.heads.remove(from_)
            self.heads.add(to_)

    rows = Rows(None, current)
    nothing = SimpleNamespace(upgrade=None, downgrade=None)
    for name in path:
        assert name in rows.heads
        script = revision_map.get_revision(name)
        script.module = nothing
        rows.update_to_step(migration.RevisionStep(revision_map, script, False))
    return sorted(rows.heads)


@given(positions())
def test_the_path_to_a_revision_is_that_of_alembic(position):
    revisions, graph, current, _kept = position
    theirs = alembic_map(revisions)
    for name in [*sorted(graph.ancestors(current)), "base"]:
        path = graph.path_to_revision(current, name)
        try:
            expected = alembic_path(theirs, current, name)
        except Exception as exc:
            # Where nothing stands on it, and it is no head itself, Alembic has nothing to do and says so.
            assert "Nothing to drop" in str(exc) and path == []
            continue
        assert sorted(path) == sorted(expected)
        rows = graph.heads_after(current, path)
        assert rows == alembic_rows(theirs, current, path)
        assert graph.heads_after(current, expected) == alembic_rows(theirs, current, expected)
        assert graph.ancestors(rows) == graph.ancestors(current) - set(path)


@given(positions())
def test_the_path_to_several_heads_is_the_union_of_alembics_downgrades_of_each_branch(position):
    revisions, graph, current, kept = position
    theirs = alembic_map(revisions)
    path = graph.path_to_heads(current, kept)
    union = set()
    for name in path:
        parents = graph.revisions[name].down_revisions
        # Of several parents the one that no other stands on, or the downgrade would take that other too.
        top = [item for item in parents if not graph.descendants(item) & set(parents)]
        union |= set(alembic_path(theirs, current, f"{name}@{top[0] if top else 'base'}"))
    assert union == set(path)
    rows = graph.heads_after(current, path)
    assert rows == alembic_rows(theirs, current, path)
    assert graph.ancestors(rows) == graph.ancestors(kept) and set(kept) <= set(rows)


@given(positions())
def test_each_revision_is_a_head_when_it_is_taken_back_and_the_order_is_always_the_same(position):
    revisions, graph, current, kept = position
    path = graph.path_to_heads(current, kept)
    left = graph.ancestors(current)
    for name in path:
        assert name in graph.heads(left)
        left.discard(name)
    assert left == graph.ancestors(kept)
    assert Graph(reversed(revisions)).path_to_heads(current[::-1], kept[::-1]) == path


@given(histories())
def test_the_heads_of_the_tree_are_those_that_are_read_without_a_graph(revisions):
    assert Graph(revisions).heads() == _revisions.heads(revisions)


@given(positions(), st.integers(-4, -1))
def test_steps_are_either_exactly_so_many_or_refused(position, steps):
    _files, graph, current, _kept = position
    try:
        target = graph.resolve_steps(current, steps)
    except GraphError as exc:
        assert exc.code in ("steps", "ambiguous")
        return
    assert len(graph.path_to_revision(current, target)) == -steps
    assert target == "base" or graph.resolve(target) == target


@given(positions())
def test_one_step_back_is_the_one_of_alembic(position):
    revisions, graph, current, _kept = position
    try:
        target = graph.resolve_steps(current, -1)
    except GraphError:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theirs = alembic_path(alembic_map(revisions), current, "-1")
    assert graph.path_to_revision(current, target) == theirs


def refusal(call, *arguments):
    with pytest.raises(GraphError) as caught:
        call(*arguments)
    problem = caught.value.problem()
    assert "\n" not in problem["message"] + problem["cure"] and not problem["message"].endswith(".")
    return problem["code"], problem["message"], problem["cure"]


@pytest.mark.parametrize(
    ("name", "code", "message", "cure"),
    [
        ("abcd", "ambiguous", "'abcd' is the beginning of 2", "-e target_revision=abcd12, -e target_revision=abcd34"),
        ("ef5", "abbreviated", "'ef5' is abbreviated", "-e target_revision=ef5678"),
        ("ef5687", "unknown", "There is no revision 'ef5687'", "nearest names: -e target_revision=ef5678"),
        ("zzzzzz", "unknown", "There is no revision 'zzzzzz'", "Its heads are abcd34, ef5678"),
        ("", "unknown", "There is no revision ''", "Its heads are"),
        ("head", "relative", "'head' is relative", "heads of the tree are abcd34, ef5678"),
        ("heads", "relative", "'heads' is relative", "-e steps=-1"),
        ("-1", "relative", "'-1' is relative", "-e steps=-1"),
        ("ef5678-2", "relative", "relative", "-e steps=-1"),
        ("net@head-1", "relative", "relative", "-e steps=-1"),
        ("net@ef5678", "branch", "names a branch as well", "-e target_revision=ef5678"),
        ("net@head", "branch", "names a branch as well", "-e target_revision=ID"),
        ("net", "branch", "net is a branch label", "-e target_revision=abcd12"),
    ],
)
def test_a_revision_is_named_in_full_or_refused_with_what_to_type(name, code, message, cure):
    made = history(abcd12="", abcd34="abcd12", ef5678="")
    graph = Graph([made[0]._replace(labels=("net",)), *made[1:]])
    found = refusal(graph.resolve, name)
    assert found[0] == code and message in found[1] and cure in found[2]
    assert graph.resolve("abcd34") == "abcd34"


def test_a_target_ahead_of_the_database_is_no_rollback():
    code, message, cure = refusal(Graph(LINE).path_to_heads, ["a1"], ["c3"])
    assert code == "ahead" and "lacks b2, c3" in message and "alembic upgrade" in cure


def test_a_branch_that_only_the_target_has_is_ahead_too():
    assert refusal(Graph(ROOTS).path_to_heads, ["b"], ["a", "o"])[:2] == (
        "ahead",
        "The database lacks n, o, which the target has",
    )


def test_heads_that_the_tree_does_not_know_are_refused():
    assert refusal(Graph(LINE).path_to_heads, ["x9"], ["a1"])[0] == "lacking"
    assert refusal(Graph(LINE).path_to_revision, ["x9"], "a1")[0] == "lacking"
    assert refusal(Graph(LINE).path_to_heads, ["c3"], ["y9"])[0] == "unknown"


def test_a_revision_of_a_branch_that_is_not_applied():
    code, message, _cure = refusal(Graph(ROOTS).path_to_revision, ["b"], "n")
    assert code == "not_applied" and message == "n is not applied: the database is at b"


@pytest.mark.parametrize(
    ("made", "current", "target", "path", "after"),
    [
        (LINE, ["c3"], ["a1"], ["c3", "b2"], ["a1"]),
        (LINE, ["c3"], ["c3"], [], ["c3"]),
        (LINE, ["c3"], [], ["c3", "b2", "a1"], []),
        (LINE, [], [], [], []),
        (MERGED, ["t"], ["b"], ["t", "m", "c"], ["b"]),
        (MERGED, ["t"], ["b", "c"], ["t", "m"], ["b", "c"]),
        (ROOTS, ["b", "o"], ["b"], ["o", "n"], ["b"]),
        (ROOTS, ["b", "o"], ["a", "n"], ["b", "o"], ["a", "n"]),
        (DEPENDENT, ["d", "o"], ["a", "n"], ["d", "o"], ["a", "n"]),
    ],
)
def test_the_path_to_the_heads_of_a_release(made, current, target, path, after):
    graph = Graph(made)
    assert graph.path_to_heads(current, target) == path
    assert graph.heads_after(current, path) == after


@pytest.mark.parametrize(
    ("made", "current", "revision", "path", "after"),
    [
        (MERGED, ["t"], "b", ["t", "m"], ["b", "c"]),
        (ROOTS, ["b", "o"], "n", ["o"], ["b", "n"]),
        (ROOTS, ["b", "o"], "base", ["b", "a", "o", "n"], []),
        (DEPENDENT, ["d", "o"], "n", ["o"], ["d"]),
        (DEPENDENT, ["d"], "n", [], ["d"]),
    ],
)
def test_a_revision_leaves_other_branches_as_they_are(made, current, revision, path, after):
    graph = Graph(made)
    assert graph.path_to_revision(current, revision) == path
    assert graph.heads_after(current, path) == after


def test_the_sandbox_goes_back_to_its_first_release():
    files = Path(__file__).resolve().parents[4].glob("sandbox/**/alembic/versions/*.py")
    graph = Graph(_revisions.parse_revision(path.read_text(), path.name) for path in files)
    assert graph.heads() == ["analytics_0001_events", "v4_0008_merge"]
    path = graph.path_to_heads(graph.heads(), ["v4_0003_workflows"])
    assert path == [
        "analytics_0001_events",
        "v4_0008_merge",
        "v4_0007_asset_labels",
        "v4_0007_workflow_tags",
        "v4_0006_plain_emails",
        "v4_0005_workflow_paused",
        "v4_0004_brand_learning",
    ]


def test_steps_become_a_revision():
    graph = Graph(LINE)
    assert [graph.resolve_steps(["c3"], steps) for steps in (-1, -2, -3)] == ["b2", "a1", "base"]
    assert refusal(graph.resolve_steps, ["c3"], -4)[1] == "Only 3 revisions can be taken back, and 4 were asked for"
    assert refusal(graph.resolve_steps, ["c3"], 1)[0] == "steps"
    assert refusal(graph.resolve_steps, [], -1)[0] == "steps"


def test_steps_that_can_mean_several_things_name_each():
    code, message, cure = refusal(Graph(ROOTS).resolve_steps, ["b", "o"], -1)
    assert code == "ambiguous" and "2 heads: b, o" in message
    assert cure == "Say which: -e target_revision=a (takes back b); -e target_revision=n (takes back o)"
    code, message, cure = refusal(Graph(MERGED).resolve_steps, ["t"], -2)
    assert "m is a merge of b, c" in message
    assert cure == "Say which: -e target_revision=b (takes back t, m); -e target_revision=c (takes back t, m)"
    beside = Graph(history(a="", b="a", n="+b", c="b +n"))
    code, message, _cure = refusal(beside.resolve_steps, ["c"], -2)
    assert code == "ambiguous" and "3 revisions would have to go to reach a" in message


def test_a_dependency_that_is_an_ancestor_too_leaves_both_where_there_is_another_head():
    graph = Graph(history(a="", b="a", c="b +a", z=""))
    assert graph.heads_after(["c", "z"], ["c"]) == ["a", "b", "z"]
    assert graph.heads_after(["c"], ["c"]) == ["b"]


@pytest.mark.parametrize(
    ("made", "current"),
    [
        (history(a="", b="a", c="b +a", z=""), ["c", "z"]),
        (history(d="", b="+d", c="b +d", z=""), ["c", "z"]),
        (history(d="", b="+d", c="b +d"), ["c"]),
        (history(a="", b="a", c="a", m="b c", z="+b"), ["m", "z"]),
    ],
)
def test_the_version_table_is_that_of_alembic_where_dependencies_overlap(made, current):
    graph = Graph(made)
    path = graph.path_to_heads(current, [])
    for end in range(len(path) + 1):
        assert graph.heads_after(current, path[:end]) == alembic_rows(alembic_map(made), current, path[:end])


@pytest.mark.parametrize(
    ("made", "code", "message"),
    [
        ([*LINE, LINE[1]._replace(path="versions/copy.py")], "duplicate", r"b2\.py and versions/copy\.py both"),
        (history(b="gone"), "missing", r"b\.py stands on revision gone, which no file"),
        (history(b="+gone"), "missing", r"b\.py depends on revision gone, which no file"),
        (history(a="b", b="a"), "circle", "circle: a, b"),
        (history(a="a"), "circle", "circle: a"),
        (history(r="", a="r +b", b="a"), "circle", "circle: a, b"),
        ([item._replace(labels=("net",)) for item in LINE[:2]], "label", "label net of .* is that of"),
        ([LINE[0], LINE[1]._replace(labels=("a1",))], "label", "label a1 of"),
    ],
)
def test_files_that_make_no_history(made, code, message):
    with pytest.raises(GraphError, match=message) as caught:
        Graph(made)
    assert [item.code for item in _revision_graph.problems(made)] == [code] == [caught.value.code]
