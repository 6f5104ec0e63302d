from __future__ import annotations

import re

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _releases
from hypothesis import example, given
from hypothesis import strategies as st

RELEASE_LIKE = st.from_regex(r"\A[v\-;./ ]{0,2}[0-9]\.[0-9]\.[0-9]{8}-[0-9]{4,6}[\n$`|&;' ]{0,2}\Z")


@pytest.mark.parametrize("tag", ["v4.0.20250115-1430", "v4.0.20250115-143059", "v10.12.20250115-1430"])
def test_release_tags_are_accepted(tag):
    assert _releases.tag_problem(tag) is None


@pytest.mark.parametrize(
    "tag",
    [
        "--upload-pack=x",
        "; rm -rf /",
        "../../etc",
        "v4.0.20250115-1430\n",
        "v4.0.20250115-1430\nv4.0.20250115-1600",
        "main",
        "",
        "v4.0.20250115-1430^{commit}",
        "v4.0.20250115-14305",
        "x" * 500,
    ],
)
def test_anything_else_is_quoted_and_refused(tag):
    problem = _releases.tag_problem(tag)
    assert "is not the name of a release tag" in problem
    assert "\n" not in problem and len(problem) < 200


@given(st.one_of(st.text(), RELEASE_LIKE))
@example("v4.0.20250115-1430\n")
def test_nothing_that_a_shell_or_git_could_take_for_more_is_accepted(tag):
    if _releases.tag_problem(tag) is None:
        assert re.fullmatch(r"v[\w.]+-\w+", tag) and not tag.startswith("-")
        assert not set(tag) & set(" \t\r\n\0;&|$`<>(){}[]*?!~^:\\'\"#%/")


def test_requirements_are_followed_once_through_cycles_and_folders():
    tree = {
        "backend/requirements.txt": "-r base.txt\n--requirement=../shared/a.txt\n-c https://x/y.txt\n# -r no.txt\nfoo",
        "backend/base.txt": "-r requirements.txt\n-c gone.txt",
        "shared/a.txt": "bar",
        "no.txt": "",
    }
    found = _releases.requirement_files("backend/requirements.txt", tree.get)
    assert set(found) == {"backend/requirements.txt", "backend/base.txt", "shared/a.txt"}


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
@example(["ab", ""], ["a", "b"])
def test_two_lists_have_one_digest_only_when_they_are_one(first, second):
    assert (_releases.digest(first) == _releases.digest(second)) == (first == second)


@given(st.dictionaries(st.text(), st.text(), max_size=4))
def test_the_order_of_names_does_not_matter(parts):
    assert _releases.digest(parts) == _releases.digest(dict(reversed(parts.items())))


def tags(*names):
    return [{"tag": name, "commit": f"c{name}", "date": int(name[1:])} for name in names]


def test_what_is_offered_is_older_and_was_not_left_for_being_bad():
    known = tags("v5", "v4", "v3", "v2", "v1")
    assert [item["tag"] for item in _releases.last_good(known, "cv4", ["v3"])] == ["v2", "v1"]
    assert [item["tag"] for item in _releases.last_good(known, "cv4", [], limit=1)] == ["v3"]
    # Between releases nobody knows what is newer.
    assert [item["tag"] for item in _releases.last_good(known, "other", [])] == ["v5", "v4", "v3", "v2", "v1"]


def test_tags_that_backups_put_on_a_release_are_no_releases_of_their_own():
    def tag(name, commit, date):
        return {"tag": name, "commit": commit, "date": date}

    # Deployed: 1, 2 (bad), back to 1, 3. Before each deploy a backup tagged what ran.
    known = [tag("b3", "c3", 9), tag("v3", "c3", 8), tag("b1b", "c1", 7), tag("b2", "c2", 6), tag("v2", "c2", 5)]
    known += [tag("b1", "c1", 4), tag("v1", "c1", 3), tag("v0", "c0", 1)]
    bad = _releases.with_twins(known, ["b2"])
    assert bad == ["b2", "v2"]
    assert [item["tag"] for item in _releases.last_good(known, "c3", bad)] == ["v1", "v0"]
    # What came after the release that runs is not offered, although a backup tagged that again later.
    assert [item["tag"] for item in _releases.last_good(known, "c1", [])] == ["v0"]


@given(st.permutations(["v1", "v2", "v3", "v4"]), st.sampled_from(["cv1", "cv2", "cv3", "cv4", "x"]))
def test_what_runs_now_is_never_offered(names, current):
    assert all(item["commit"] != current for item in _releases.last_good(tags(*names), current, []))
