# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox application's history: the same each time, and each release with the one trait it is there for."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SANDBOX = Path(__file__).resolve().parents[3] / "sandbox"
BUILDER = SANDBOX / "history" / "build.py"
GOOD, BAD = "v4.0.20250115-1430", "v4.0.20250115-1600"
FAULTY = ("v4.0.20250112-1100", "v4.0.20250113-1100", "v4.0.20250114-1100", "v4.0.20250114-1500")
PLAIN = {"v4.0.20250110-0900", *FAULTY, GOOD, BAD, "v4.0.20250116-1000"}


def load():
    spec = importlib.util.spec_from_file_location("sandbox_history_build", BUILDER)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


builder = load()


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    """One repository a variant, with what the builder said of it."""
    folder = tmp_path_factory.mktemp("history")
    return {name: (folder / f"{name}.git", builder.build(folder / f"{name}.git", name)) for name in builder.VARIANTS}


def git(repository: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "--git-dir", str(repository), *words], check=True, capture_output=True, text=True
    ).stdout


def tree(repository: Path, revision: str) -> dict[str, str]:
    """Path to object id."""
    lines = git(repository, "ls-tree", "-r", "--full-tree", revision).splitlines()
    return {path: meta.split()[2] for meta, path in (line.split("\t") for line in lines)}


def differs(repository: Path, one: str, other: str) -> set[str]:
    return set(git(repository, "diff", "--name-only", one, other).split())


def heads(repository: Path, revision: str) -> set[str]:
    declared, below = set(), set()
    for path in tree(repository, revision):
        if "/alembic/versions/" not in path:
            continue
        values = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in ast.parse(git(repository, "show", f"{revision}:{path}")).body
            if isinstance(node, ast.Assign) and node.targets[0].id in ("revision", "down_revision")
        }
        declared.add(values["revision"])
        down = values["down_revision"]
        below.update([down] if isinstance(down, str) else down or [])
    assert below <= declared
    return declared - below


def test_same_commits_whatever_the_users_git_is_set_to(tmp_path, monkeypatch, repositories):
    config = tmp_path / "gitconfig"
    config.write_text("[user]\n name = Someone\n[commit]\n gpgsign = true\n[core]\n autocrlf = true\n abbrev = 5\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Someone")
    monkeypatch.setenv("TZ", "Asia/Seoul")
    done = subprocess.run(
        [sys.executable, str(BUILDER), "--variant", "merge", str(tmp_path / "again.git")],
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout) == repositories["merge"][1]
    refs = [git(path, "show-ref") for path in (tmp_path / "again.git", repositories["merge"][0])]
    assert refs[0] == refs[1], "the annotated tags differ"


@pytest.mark.parametrize(
    ("variant", "more"),
    [
        ("plain", set()),
        ("two-heads", {"v4.0.20250117-1000"}),
        ("merge", {"v4.0.20250117-1000", "v4.0.20250118-1000"}),
        ("two-roots", {"v4.0.20250117-1100"}),
    ],
)
def test_tags_and_branches(repositories, variant, more):
    path, refs = repositories[variant]
    assert set(git(path, "tag").split()) == PLAIN | more
    assert set(git(path, "for-each-ref", "--format=%(refname:short)", "refs/heads").split()) == {"main", "develop"}
    assert set(git(path, "for-each-ref", "--format=%(objecttype)", "refs/tags").split()) == {"tag"}
    assert refs.items() >= {name: repositories["plain"][1][name] for name in PLAIN}.items()
    git(path, "fsck", "--strict")


@pytest.mark.parametrize(
    ("variant", "tag", "expected"),
    [
        *(("plain", tag, {"v4_0003_workflows"}) for tag in sorted(PLAIN - {"v4.0.20250116-1000"})),
        ("plain", "v4.0.20250116-1000", {"v4_0006_plain_emails"}),
        ("two-heads", "v4.0.20250117-1000", {"v4_0007_workflow_tags", "v4_0007_asset_labels"}),
        ("merge", "v4.0.20250118-1000", {"v4_0008_merge"}),
        ("two-roots", "v4.0.20250117-1100", {"v4_0006_plain_emails", "analytics_0001_events"}),
    ],
)
def test_heads_that_a_tag_declares(repositories, variant, tag, expected):
    assert heads(repositories[variant][0], tag) == expected


def test_good_and_bad_need_no_new_python_environment_but_another_build(repositories):
    changed = differs(repositories["plain"][0], GOOD, BAD)
    assert "backend/requirements.txt" not in changed
    assert "frontend/package-lock.json" not in changed
    assert "frontend/app/dashboard/page.jsx" in changed


def test_the_oldest_release_needs_another_environment_and_lock(repositories):
    changed = differs(repositories["plain"][0], "v4.0.20250110-0900", GOOD)
    assert {"backend/requirements.txt", "frontend/package-lock.json"} <= changed


@pytest.mark.parametrize(
    ("tag", "file"),
    list(
        zip(
            FAULTY,
            (
                "backend/requirements.txt",
                "frontend/app/dashboard/page.jsx",
                "backend/app/main.py",
                "backend/app/api/system.py",
            ),
            strict=True,
        )
    ),
)
def test_a_faulty_release_has_one_fault(repositories, tag, file):
    path, _ = repositories["plain"]
    assert differs(path, f"{tag}~1", tag) == {file}
    assert not git(path, "branch", "--contains", tag).split(), "a faulty release must not have reached a branch"


def test_no_file_that_the_application_ignores_is_in_a_tree(repositories):
    names = {path.rpartition("/")[2] for path in tree(repositories["plain"][0], "main")}
    assert not names & {".env", ".env.local"}
    assert {".env.example", ".env.local.example", "package-lock.json", "requirements.txt"} <= names


def test_requirements_are_exact_and_the_lock_names_no_registry(repositories):
    path, _ = repositories["plain"]
    for tag in sorted(PLAIN):
        lines = git(path, "show", f"{tag}:backend/requirements.txt").splitlines()
        assert all(line.count("==") == 1 for line in lines)
        assert "resolved" not in git(path, "show", f"{tag}:frontend/package-lock.json")


def test_an_existing_repository_is_left_alone(tmp_path):
    there = tmp_path / "there.git"
    there.mkdir()
    with pytest.raises(FileExistsError, match="remove it first"):
        builder.build(there)
    assert list(tmp_path.iterdir()) == [there]


class TestBadRelease:
    """The rates that the figures of the demo rest on, from the bug's own code."""

    @staticmethod
    def module(repositories, name: str) -> dict:
        source = git(repositories["plain"][0], "show", f"{BAD}:backend/app/services/{name}.py")
        space: dict = {}
        exec(compile(source, name, "exec"), space)
        return space

    def test_lanes(self, repositories, monkeypatch):
        import asyncio

        space = self.module(repositories, "lanes")
        pauses = []

        async def sleep(seconds):
            pauses.append(seconds)

        monkeypatch.setattr(asyncio, "sleep", sleep)
        failed = 0
        for _ in range(1100):
            try:
                space["take"]().send(None)
            except StopIteration:
                continue
            except KeyError:
                failed += 1
        assert failed == 100
        assert sum(pause >= 0.3 for pause in pauses) == 300

    def test_slots(self, repositories):
        space = self.module(repositories, "slots")
        space["sleep"] = lambda _: None
        seen = []
        for _ in range(160):
            try:
                space["claim"]()
                seen.append("success")
            except TimeoutError:
                seen.append("timeout")
            except OSError:
                seen.append("error")
        assert [seen.count(state) for state in ("success", "error", "timeout")] == [120, 30, 10]
