"""Which restore point a table comes from. What it does with it is in tests/integration, which has a database."""

from __future__ import annotations

import os

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _manifest, restore_points
from ansible_collections.sparklio.rollback.plugins.modules import pg_restore_table as module


@pytest.fixture
def make(tmp_path):
    """Make a restore point with one file in each of its parts. Returns its id."""

    def run(point_id, parts=("database",)):
        place = tmp_path / point_id
        artifacts = []
        for part in parts:
            restore_points.write(str(place / part / "content.json"), {})
            artifacts.append(restore_points.artifact(part, str(place / part), {}, 0.1))
        release = {"commit": "c" * 40, "tag": None, "branch": None}
        manifest = {"version": 1, "id": point_id, "kind": point_id.split("-")[1], "made_at": "", "release": release}
        text = _manifest.encode({**manifest, "artifacts": artifacts, "skipped": []})
        restore_points.write_private(str(place / "manifest.json"), text)
        return point_id

    return run


def test_the_newest_is_whole_has_a_database_and_was_made_by_no_rollback(make, tmp_path):
    make("20250101T000000Z-deploy")
    good = make("20250102T000000Z-manual")
    damaged = make("20250103T000000Z-deploy")
    (tmp_path / damaged / "database/content.json").write_text("[]")
    make("20250104T000000Z-deploy", parts=["redis"])
    make("20250105T000000Z-level3")
    found, path, passed_over = module.find_point(str(tmp_path), "newest")
    assert found == good and path == os.path.join(tmp_path, good, "database")
    assert len(passed_over) == 1 and f"{damaged} is damaged: database/content.json" in passed_over[0]
    # One that is named is taken or refused, whoever made it.
    assert module.find_point(str(tmp_path), "20250105T000000Z-level3")[0] == "20250105T000000Z-level3"
    with pytest.raises(module.Refused, match=f"{damaged} is damaged"):
        module.find_point(str(tmp_path), damaged)


def test_without_any_there_is_no_newest(make, tmp_path):
    damaged = make("20250103T000000Z-deploy")
    (tmp_path / damaged / "database/content.json").unlink()
    make("20250104T000000Z-deploy", parts=["redis"])
    make("20250105T000000Z-level3")
    with pytest.raises(module.Refused, match=f"no backup has made a whole .*; restore point {damaged} is damaged"):
        module.find_point(str(tmp_path), "newest")
