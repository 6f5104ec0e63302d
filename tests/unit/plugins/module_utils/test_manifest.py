from __future__ import annotations

import contextlib
import copy
import json

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _manifest
from hypothesis import given
from hypothesis import strategies as st

FILE = {"path": "redis/dump.rdb", "size": 3, "sha256": "0" * 64}
GOOD = {
    "version": 1,
    "id": "20250115T070000Z-deploy",
    "kind": "deploy",
    "made_at": "2025-01-15T07:00:00Z",
    "made_by": "minji@console",
    "message": "배포 전",
    "host": "app",
    "release": {"commit": "0" * 40, "tag": None, "branch": "main"},
    "artifacts": [
        {"name": "redis", "type": "redis", "path": "redis", "size": 3, "files": [FILE], "meta": {}, "seconds": 0.1}
    ],
    "skipped": [{"name": "ollama", "reason": "no answer"}],
    "verified": None,
}
PROOF = {"at": "2025-01-15T07:00:09Z", "how": "restore", "result": "pass", "seconds": 1.5}
ENVIRONMENT = {"name": "environment", "type": "environment", "path": "environment", "size": 0, "seconds": 0.1}
ENVIRONMENT = {**ENVIRONMENT, "files": [], "meta": {"absent": [".env"], "links": {".env": "../.env"}}}
ENV_FILE = {**FILE, "target": ".env", "mode": "0600"}


def changed(*path, value):
    manifest = copy.deepcopy(GOOD)
    place = manifest
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return manifest


def test_a_good_one_survives_being_written_and_read():
    assert _manifest.decode(_manifest.encode(GOOD), GOOD["id"]) == GOOD
    assert _manifest.artifact(GOOD, "redis")["size"] == 3
    assert _manifest.artifact(GOOD, "ollama") is None


@pytest.mark.parametrize(
    "manifest",
    [
        changed("verified", value=PROOF),
        changed("backup_tag", value="v4.0.20250115-070000"),
        changed("release", value={}),
        # The field acl came later than the rest.
        changed("artifacts", value=[{**ENVIRONMENT, "files": [ENV_FILE, {**ENV_FILE, "acl": "AgAAAA=="}]}]),
        changed("artifacts", value=[ENVIRONMENT, {**ENVIRONMENT, "name": "redis", "seconds": 1}]),
        {name: value for name, value in GOOD.items() if name not in ("made_by", "message", "host", "verified")},
    ],
)
def test_what_is_written_is_read(manifest):
    assert _manifest.decode(_manifest.encode(manifest)) == manifest


def test_a_newer_version_is_refused_and_both_are_named():
    with pytest.raises(_manifest.ManifestError, match=r"version 2, and this collection reads up to version 1"):
        _manifest.validate(changed("version", value=2))


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ([], "no JSON object"),
        (changed("version", value="1"), "no version"),
        (changed("version", value=True), "no version"),
        (changed("artifacts", value={}), "no artifacts"),
        (changed("release", value=None), "no release"),
        (changed("id", value="20250115T070000Z-other"), "that of"),
        (changed("artifacts", value=GOOD["artifacts"] * 2), "twice"),
        (changed("artifacts", 0, "path", value="/etc"), "outside of its folder"),
        (changed("artifacts", 0, "path", value="redis/../.."), "outside of its folder"),
        (changed("artifacts", 0, "files", value=None), "no files"),
        (changed("artifacts", 0, "files", 0, "path", value="../x"), "outside of its folder"),
        (changed("artifacts", 0, "files", 0, "path", value=None), "without a path"),
        (changed("artifacts", 0, "files", 0, "path", value="a//b"), "shortest form"),
        (changed("artifacts", 0, "files", 0, "path", value="redis/\ud800"), r"'redis/\\ud800', which no file can have"),
        (changed("artifacts", 0, "path", value="\ud800"), "which no file can have"),
        (changed("artifacts", 0, "files", 0, "size", value=-1), "no size or SHA-256 for redis/dump.rdb"),
        (changed("artifacts", 0, "files", 0, "sha256", value="0"), "no size or SHA-256 for redis/dump.rdb"),
        (changed("artifacts", 0, "files", 0, "size", value=True), "no size or SHA-256 for redis/dump.rdb"),
        (changed("kind", value="other"), "the kind 'other', which is none of deploy"),
        (changed("verified", value=True), "its verification is no JSON object"),
        (changed("verified", value={"at": "", "how": "restore", "result": "pass"}), "no seconds that is a number"),
        (changed("verified", value={**PROOF, "how": None}), "its verification has no how that is a text"),
        (changed("verified", value={**PROOF, "seconds": float("nan")}), "no seconds that is a number"),
        (changed("host", value=1), "its manifest has no host that is a text or null"),
        (changed("message", value=["x"]), "no message that is a text or null"),
        (changed("backup_tag", value={}), "no backup_tag that is a text or null"),
        (changed("release", "commit", value=7), "its release has no commit that is a text or null"),
        (changed("skipped", value=["ollama"]), "what it skipped is no JSON object"),
        (changed("skipped", value=[{"name": "ollama"}]), "what it skipped has no reason that is a text"),
        (changed("artifacts", 0, "type", value=None), "its artifact 'redis' has no type that is a text"),
        (changed("artifacts", 0, "size", value="3"), "no size that is a whole number"),
        (changed("artifacts", 0, "seconds", value=-1), "no seconds that is a number"),
        (changed("artifacts", 0, "meta", value=[]), "no meta that is a JSON object"),
        (changed("artifacts", value=[{**ENVIRONMENT, "meta": {"absent": {}}}]), "no list of the files"),
        (changed("artifacts", value=[{**ENVIRONMENT, "meta": {"links": []}}]), "no table of the links"),
        (changed("artifacts", value=[{**ENVIRONMENT, "files": [{**ENV_FILE, "acl": 1}]}]), "no acl that is a text"),
        (changed("artifacts", value=[{**ENVIRONMENT, "files": [{**ENV_FILE, "acl": "%"}]}]), "no acl that is base64"),
        (changed("artifacts", value=[{**ENVIRONMENT, "files": [FILE]}]), "its file redis/dump.rdb has no target"),
        (
            changed("artifacts", value=[{**ENVIRONMENT, "files": [{**FILE, "target": ".env", "uid": "0"}]}]),
            "no uid that is a whole number or null",
        ),
    ],
)
def test_what_is_not_believed(manifest, message):
    with pytest.raises(_manifest.ManifestError, match=message):
        _manifest.validate(manifest)


def test_it_must_be_that_of_its_folder():
    with pytest.raises(_manifest.ManifestError, match="that of"):
        _manifest.decode(json.dumps(GOOD), "20250115T070001Z-deploy")
    with pytest.raises(_manifest.ManifestError, match="no JSON"):
        _manifest.decode(json.dumps(GOOD)[:-9])


def test_one_that_is_nested_too_deep_is_refused():
    with pytest.raises(_manifest.ManifestError, match="nested too deep"):
        _manifest.decode('{"meta":' * 100_000)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD, *FILE]), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(sorted(GOOD)), JSON)
def test_nothing_else_than_its_own_error_comes_of_it(key, value):
    with contextlib.suppress(_manifest.ManifestError):
        assert _manifest.validate(changed(key, value=value))["version"] == 1


@given(JSON)
def test_no_file_of_an_artifact_leads_outside(value):
    try:
        _manifest.validate(changed("artifacts", 0, "files", value=[value]))
    except _manifest.ManifestError:
        return
    assert not value["path"].startswith("/") and ".." not in value["path"].split("/")
