from __future__ import annotations

from ansible_collections.sparklio.rollback.plugins.module_utils import _retention
from hypothesis import given
from hypothesis import strategies as st

DAY = 86400
NAMES = ("database", "environment", "redis")


def unknown(item):
    return {"whole": False, "artifacts": [], "verified": None} if item["unread"] else {}


POINTS = st.lists(
    st.fixed_dictionaries(
        {
            "age_seconds": st.integers(0, 100 * DAY),
            "whole": st.booleans(),
            "verified": st.sampled_from([None, {"how": "restore"}]),
            "artifacts": st.lists(st.sampled_from(NAMES), unique=True),
            "unread": st.sampled_from([None, "newer"]),
        }
    ),
    max_size=12,
).map(lambda items: [{**item, **unknown(item), "id": str(number)} for number, item in enumerate(items)])


def point(name, days, whole=True, verified=None, artifacts=("database",), unread=None):
    about = {"whole": whole, "verified": verified, "artifacts": list(artifacts), "unread": unread}
    return {"id": name, "age_seconds": days * DAY, **about}


def test_both_limits_have_to_be_passed():
    points = [point("a", 1), point("b", 40), point("c", 50), point("d", 60)]
    assert _retention.expired(points, keep=2, days=30) == ["d", "c"]
    assert _retention.expired(points, keep=2, days=55) == ["d"]
    assert _retention.expired(points, keep=4, days=0) == []


def test_other_artifacts_do_not_push_out_the_last_database():
    points = [point(f"e{age}", age, artifacts=["environment"]) for age in range(40, 60)]
    points.append(point("all", 90, artifacts=["database", "environment"]))
    gone = _retention.expired(points, keep=3, days=30)
    assert "all" not in gone
    assert len(gone) == 17


def test_the_newest_verified_one_stays_beyond_any_count():
    proven = {"how": "restore"}
    points = [point("a", 40), point("b", 50, verified=proven), point("c", 60, verified=proven)]
    assert _retention.expired(points, keep=1, days=30) == ["c"]


def test_damaged_ones_count_for_nothing():
    points = [point("bad", 40, whole=False), point("good", 50), point("old", 60)]
    assert _retention.expired(points, keep=1, days=30) == ["old", "bad"]
    assert _retention.expired([point("bad", 40, whole=False)], keep=1, days=30) == []
    unreadable = point("dark", 40, whole=False, artifacts=[])
    assert _retention.expired([unreadable], keep=1, days=30) == []


def test_what_only_could_not_be_read_never_goes():
    closed = [point(why, 40, whole=False, artifacts=[], unread=why) for why in ("newer", "unreadable")]
    points = [point("good", 1), *closed, point("young", 2, whole=False, artifacts=[], unread="newer")]
    assert _retention.expired([*points, point("bad", 40, whole=False, artifacts=[])], keep=1, days=30) == ["bad"]
    assert _retention.unread(points, days=30) == ["newer", "unreadable"]
    assert _retention.unread(points, days=30, referred={"newer"}) == ["unreadable"]


@given(POINTS, st.integers(0, 4), st.integers(0, 60), st.sets(st.integers(0, 11).map(str)))
def test_what_never_goes(points, keep, days, referred):
    gone = set(_retention.expired(points, keep, days, referred))
    left = [item for item in points if item["id"] not in gone]
    assert not gone & referred
    assert not any(item["unread"] for item in points if item["id"] in gone)
    assert all(item["age_seconds"] > days * DAY for item in points if item["id"] in gone)
    for name in NAMES:
        before = sorted(i["age_seconds"] for i in points if i["whole"] and name in i["artifacts"])
        after = sorted(i["age_seconds"] for i in left if i["whole"] and name in i["artifacts"])
        count = max(1, keep)
        assert after[:count] == before[:count]
        proven = sorted(i["age_seconds"] for i in points if i["whole"] and i["verified"] and name in i["artifacts"])
        assert not proven or proven[0] in after
        if not before:
            assert all(i["id"] not in gone for i in points if name in i["artifacts"] and not i["whole"])


@given(POINTS, st.integers(0, 4), st.integers(0, 60))
def test_what_is_left_is_left_alone(points, keep, days):
    gone = set(_retention.expired(points, keep, days))
    assert _retention.expired([item for item in points if item["id"] not in gone], keep, days) == []


def test_only_what_nothing_works_on_is_stale():
    items = [
        {"id": "a", "idle_seconds": DAY + 1},
        {"id": "b", "idle_seconds": DAY},
        {"id": "c", "idle_seconds": 2 * DAY},
    ]
    assert _retention.stale(items) == ["a", "c"]
    assert _retention.stale(items, own="c") == ["a"]


def test_what_a_journal_refers_to():
    text = (
        '{"point": "20250115T070000Z-level2", "dir": "/x/backups/20250115T070001Z-deploy-2/db"} 20250115T070000Z-nope'
    )
    assert _retention.mentioned("20250115-070000-level2", text) == {
        "20250115T070000Z-level2",
        "20250115T070001Z-deploy-2",
    }
    assert _retention.mentioned("20250115-070000-backup", text) == set()
    assert _retention.mentioned("20250115-070000-backup-2", text) == set()
