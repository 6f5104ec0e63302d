from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import time

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import artifacts
from ansible_collections.sparklio.rollback.plugins.module_utils.artifacts import ArtifactError, Cache
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAMES = st.sampled_from(["a", "b", "c", "skip"])
TREES = st.recursive(st.text(max_size=5), lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=8)


def write(path, tree):
    if isinstance(tree, str):
        path.write_bytes(tree.encode())
    else:
        path.mkdir()
        for name, inner in tree.items():
            write(path / name, inner)


def read(path):
    if path.is_symlink():
        return ("link", os.readlink(path))
    if path.is_dir():
        return {item.name: read(item) for item in path.iterdir()}
    return path.read_bytes().decode()


def without(tree, name):
    return {key: without(inner, name) for key, inner in tree.items() if key != name} if isinstance(tree, dict) else tree


def merged(base, other):
    if not (isinstance(base, dict) and isinstance(other, dict)):
        return base
    return {**other, **{key: merged(inner, other[key]) if key in other else inner for key, inner in base.items()}}


def compatible(base, other):
    """Whether no file stands where the other tree has a folder."""
    if isinstance(base, dict) != isinstance(other, dict):
        return False
    return not isinstance(base, dict) or all(compatible(base[key], other[key]) for key in base if key in other)


@pytest.fixture
def place(tmp_path):
    counter = iter(range(10**6))
    return lambda: tmp_path / str(next(counter))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.dictionaries(NAMES, TREES, max_size=3))
def test_a_linked_tree_is_the_same_tree(place, tree):
    source, copy, part = place(), place(), place()
    write(source, tree)
    artifacts.link_tree(str(source), str(copy))
    assert read(copy) == tree
    artifacts.link_tree(str(source), str(part), lambda path: path.split("/")[-1] == "skip")
    assert read(part) == without(tree, "skip")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.dictionaries(NAMES, TREES, max_size=3), st.dictionaries(NAMES, TREES, max_size=3))
def test_a_merge_adds_and_never_replaces(place, base, other):
    if not compatible(base, other):
        return
    first, second = place(), place()
    write(first, base)
    write(second, other)
    artifacts.link_tree(str(second), str(first), merge=True)
    assert read(first) == merged(base, other)
    assert read(second) == other


def test_links_modes_and_symlinks_are_kept(place):
    source, copy = place(), place()
    write(source, {"bin": {"run": "x"}})
    (source / "bin/run").chmod(0o750)
    (source / "current").symlink_to("bin/run")
    (source / "dangling").symlink_to("nowhere")
    os.mkfifo(source / "pipe")
    source.chmod(0o700)
    artifacts.link_tree(str(source), str(copy))
    assert os.path.samefile(source / "bin/run", copy / "bin/run")
    assert read(copy) == {"bin": {"run": "x"}, "current": ("link", "bin/run"), "dangling": ("link", "nowhere")}
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700


def test_a_known_artifact_is_given_back_and_what_is_being_built_is_not(tmp_path):
    cache = Cache(str(tmp_path / "cache"))
    content = cache.building("venv", "k")
    os.mkdir(content)
    with open(os.path.join(content, "x"), "w") as stream:
        stream.write("12345")
    assert not cache.has("venv", "k") and cache.get("venv", "k") is None
    cache.put("venv", "k", content, prefix="/p")
    manifest = cache.get("venv", "k")
    assert (manifest["files"], manifest["bytes"], manifest["prefix"]) == (1, 5, "/p")
    # The second to finish the same one leaves the first in place.
    late = cache.building("venv", "k")
    os.mkdir(late)
    cache.put("venv", "k", late)
    assert cache.get("venv", "k")["files"] == 1 and os.listdir(tmp_path / "cache/venv") == ["k"]


def damage_nothing_left(place):
    os.unlink(place / "content/x")


def damage_shorter(place):
    (place / "content/x").write_text("1")


def damage_manifest(place):
    (place / "manifest.json").write_text("{")


def damage_manifest_kind(place):
    (place / "manifest.json").write_text("[]")


def damage_no_manifest(place):
    os.unlink(place / "manifest.json")


@pytest.mark.parametrize(
    "damage", [damage_nothing_left, damage_shorter, damage_manifest, damage_manifest_kind, damage_no_manifest]
)
def test_a_damaged_artifact_is_moved_aside_so_that_it_is_built_anew(tmp_path, damage):
    cache = Cache(str(tmp_path))

    def build():
        content = cache.building("venv", "k")
        write(tmp_path / "venv" / os.path.basename(os.path.dirname(content)) / "content", {"x": "12345"})
        cache.put("venv", "k", content)

    build()
    damage(tmp_path / "venv" / "k")
    assert cache.get("venv", "k") is None
    (aside,) = os.listdir(tmp_path / "venv")
    assert aside.startswith("k.damaged-")
    build()
    assert cache.get("venv", "k")["bytes"] == 5


def test_what_runs_now_is_adopted_once_without_its_marker(tmp_path):
    cache, live = Cache(str(tmp_path / "cache")), tmp_path / "live"
    write(live, {"x": "1", "cache": {"y": "2"}})
    artifacts.mark(str(live), "r1")
    cache.adopt("frontend", "k", str(live), lambda path: path == "cache", build_id="b")
    assert read(tmp_path / "cache/frontend/k/content") == {"x": "1"}
    assert cache.get("frontend", "k")["build_id"] == "b"
    (live / "x").unlink()
    cache.adopt("frontend", "k", str(live))
    assert read(tmp_path / "cache/frontend/k/content") == {"x": "1"}
    cache.adopt("frontend", "other", str(tmp_path / "gone"))
    assert not cache.has("frontend", "other")


def test_a_prefix_is_rewritten_in_this_tree_only(place):
    source, copy = place(), place()
    write(source, {"pip": "#!/old/bin/python\n", "python": "\0/old"})
    (source / "pip").chmod(0o755)
    (source / "link").symlink_to("/old/x")
    artifacts.link_tree(str(source), str(copy))
    artifacts.rewrite_prefix(str(copy), "/old", "/new")
    assert read(copy) == {"pip": "#!/new/bin/python\n", "python": "\0/old", "link": ("link", "/old/x")}
    assert read(source)["pip"] == "#!/old/bin/python\n"
    assert os.access(copy / "pip", os.X_OK)


class Swap:
    """One live directory, its successor, and where it is kept; with and without an exchange in one step."""

    def __init__(self, tmp_path, live="old"):
        self.staged, self.live, self.displaced = (tmp_path / name for name in ("staged", "live", "kept/displaced"))
        write(self.staged, {"id": "new"})
        artifacts.mark(str(self.staged), "r1")
        if live:
            write(self.live, {"id": live})
            artifacts.mark(str(self.live), "r0")

    @property
    def paths(self):
        return str(self.staged), str(self.live), str(self.displaced)

    def ids(self):
        return [
            (path / "id").read_text() if path.exists() else None for path in (self.staged, self.live, self.displaced)
        ]


class CutOff(Exception):
    pass


def cut_after(monkeypatch, count, exchanges):
    """Let only ``count`` renames happen, as if the host had lost power then."""
    left = [count]
    rename, exchange = os.rename, artifacts.exchange

    def step(call):
        def counted(*arguments):
            if left[0] == 0:
                raise CutOff
            left[0] -= 1
            return call(*arguments)

        return counted

    monkeypatch.setattr(artifacts.os, "rename", step(rename))
    monkeypatch.setattr(artifacts, "exchange", step(exchange) if exchanges else lambda first, second: False)


@pytest.fixture(params=[True, False], ids=["exchange", "renames"])
def exchanges(request, tmp_path):
    if request.param:
        first, second = tmp_path / "p1", tmp_path / "p2"
        first.mkdir()
        second.mkdir()
        if not artifacts.exchange(str(first), str(second)):
            pytest.skip("this system can't exchange two paths in one step")
    return request.param


@pytest.mark.parametrize("cut", range(4))
@pytest.mark.parametrize("live", ["old", None])
def test_a_swap_cut_off_anywhere_goes_back(tmp_path, monkeypatch, exchanges, cut, live):
    swap = Swap(tmp_path, live)
    with monkeypatch.context() as patch:
        cut_after(patch, cut, exchanges)
        try:
            artifacts.swap_in(*swap.paths)
            assert swap.ids() == [None, "new", live]
        except CutOff:
            assert swap.ids()[1] in (live, "new") or not exchanges
    with monkeypatch.context() as patch:
        cut_after(patch, 99, exchanges)
        artifacts.swap_back(*swap.paths, "r1")
        assert swap.ids() == ["new", live, None]
        assert artifacts.swap_back(*swap.paths, "r1") is False
        assert swap.ids() == ["new", live, None]


@pytest.mark.parametrize("cut", range(4))
def test_the_way_back_cut_off_anywhere_gets_there_at_the_second_call(tmp_path, monkeypatch, exchanges, cut):
    swap = Swap(tmp_path)
    with monkeypatch.context() as patch:
        cut_after(patch, 99, exchanges)
        artifacts.swap_in(*swap.paths)
    with monkeypatch.context() as patch:
        cut_after(patch, cut, exchanges)
        with contextlib.suppress(CutOff):
            artifacts.swap_back(*swap.paths, "r1")
    with monkeypatch.context() as patch:
        cut_after(patch, 99, exchanges)
        artifacts.swap_back(*swap.paths, "r1")
    assert swap.ids()[1] == "old"


def test_the_live_path_is_never_empty_where_the_system_can_exchange(tmp_path, monkeypatch):
    swap = Swap(tmp_path)
    if not artifacts.exchange(str(swap.staged), str(swap.live)):
        pytest.skip("this system can't exchange two paths in one step")
    artifacts.exchange(str(swap.staged), str(swap.live))
    seen, rename = [], os.rename
    monkeypatch.setattr(artifacts.os, "rename", lambda *paths: (seen.append(swap.live.exists()), rename(*paths)))
    artifacts.swap_in(*swap.paths)
    artifacts.swap_back(*swap.paths, "r1")
    assert seen and all(seen) and swap.ids()[1] == "old"


def test_a_failed_exchange_says_which_path(tmp_path):
    (tmp_path / "a").mkdir()
    if sys.platform.startswith("linux"):
        with pytest.raises(OSError, match="No such file"):
            artifacts.exchange(str(tmp_path / "a"), str(tmp_path / "gone"))


def test_a_marker_names_its_run(tmp_path):
    assert artifacts.marked_by(str(tmp_path)) is None
    artifacts.mark(str(tmp_path), "r1", key="k")
    assert artifacts.marked_by(str(tmp_path)) == "r1"
    assert json.loads((tmp_path / artifacts.MARKER).read_text())["key"] == "k"
    (tmp_path / artifacts.MARKER).write_text("[]")
    assert artifacts.marked_by(str(tmp_path)) is None


def test_a_long_command_is_logged_in_private_and_nice(tmp_path):
    log = tmp_path / "log"
    log.write_text("earlier\n")
    command = ["sh", "-c", "echo out; echo err >&2; nice; exit 3"]
    code, output = artifacts.run_logged(command, str(tmp_path), str(log), 30)
    assert code == 3 and output.splitlines() == ["out", "err", str(min(19, os.nice(0) + 10))]
    assert log.read_text().startswith("earlier\nout")
    os.unlink(log)
    artifacts.run_logged(["true"], "/", str(log), 30)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_command_that_takes_too_long_is_ended_with_its_children(tmp_path):
    begun = time.monotonic()
    with pytest.raises(ArtifactError, match="sh was not done within 1 s; its log is"):
        artifacts.run_logged(["sh", "-c", "sleep 60 & sleep 60"], "/", str(tmp_path / "log"), 1)
    assert time.monotonic() - begun < 20


def test_a_missing_command_and_a_missing_folder_are_told_apart(tmp_path):
    with pytest.raises(ArtifactError, match="no-npm is not installed on this host"):
        artifacts.run_logged(["no-npm"], "/", str(tmp_path / "log"), 1)
    with pytest.raises(ArtifactError, match="gone was not staged, so true can't run"):
        artifacts.run_logged(["true"], str(tmp_path / "gone"), str(tmp_path / "log"), 1)


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("a\nERROR: No matching x\nERROR: y\nb", "ERROR: No matching x"),
        ("a\n\n  last  \n\n", "last"),
        ("", "it said nothing"),
        ("a\nERROR: \x1b[31mx\x1b[0m y", "ERROR: x y"),
        ("ERROR: at https://user:hunter22@host/simple", "ERROR: at https://user:***@host/simple"),
    ],
)
def test_the_line_that_says_most(output, line):
    assert artifacts.telling_line(output, ["ERROR: No matching", "ERROR:"]) == line
