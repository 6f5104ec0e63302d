from __future__ import annotations

import json

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _config
from hypothesis import given
from hypothesis import strategies as st

State = _config.State
KEYS = st.from_regex(r"[A-Z][A-Z0-9_]{0,8}", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126, blacklist_characters="'\"#\\$`"), max_size=12)


def point(point_id, tag="v4.0.20250115-1430", usable=True, problem=None, at=None, **more):
    return {"id": point_id, "tag": tag, "usable": usable, "problem": problem, "at": at or int(point_id[:8]), **more}


POINTS = [
    point("20250117T000000Z-level2"),
    point("20250116T000000Z-deploy"),
    point("20250115T000000Z-deploy", tag="v4.0.20250110-0900"),
    point("20250114T000000Z-manual", usable=False),
]
GROUPS = _config.hand_made({".env": {"20250115_140000": 1000}, "backend/.env": {"20250115_140001": 1001}})


def wanted(restore_point="", timestamp="", tag="", at=None):
    return {"restore_point": restore_point, "timestamp": timestamp, "tag": tag, "at": at}


def test_changes_are_counted_by_key():
    changes = _config.key_changes(b"A=1\nB=22\nC=3\n", b"A=1\nB=333\nD=\n")
    assert changes == ({"B": (2, 3)}, {"D": 0}, {"C": 1}, False)
    assert _config.change_lines("backend/.env", changes) == [
        "changed  B in backend/.env (2 characters to 3 characters)",
        "removed  C in backend/.env (1 character)",
        "added    D in backend/.env (empty)",
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"A=1\n", b"# a\nA=1\n"),
        (b"A=1\n", b"A=1"),
        (b"A=1\r\n", b"A=1\n"),
        (b"A=1\n", b'export A="1"\n'),
        (b"A=1\n", b"\xef\xbb\xbfA=1\n"),
        (b"A=1\nB=2\n", b"B=2\nA=1\n"),
        ("# 한국어\n".encode(), "# 한국말\n".encode()),
    ],
)
def test_bytes_that_change_no_value_are_told_as_such(before, after):
    changes = _config.key_changes(before, after)
    assert changes == ({}, {}, {}, True)
    assert "no value" in _config.change_lines(".env", changes)[0]


@given(st.dictionaries(KEYS, VALUES), st.dictionaries(KEYS, VALUES))
def test_every_key_is_changed_added_removed_or_the_same(old, new):
    text = {name: "".join(f"{key}={value}\n" for key, value in side.items()) for name, side in (("o", old), ("n", new))}
    changes = _config.key_changes(text["o"].encode(), text["n"].encode())
    assert set(changes.changed) == {key for key in old if key in new and old[key] != new[key]}
    assert set(changes.added) == set(new) - set(old)
    assert set(changes.removed) == set(old) - set(new)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_can_be_compared(before, after):
    changes = _config.key_changes(before, after)
    assert changes.other == (before != after and not (changes.changed or changes.added or changes.removed))


@given(st.dictionaries(KEYS, st.from_regex(r"canary[0-9a-f]{8}", fullmatch=True), min_size=1))
def test_no_value_is_ever_shown(values):
    before = "".join(f"{key}={value}\n# {value}\n" for key, value in values.items()).encode()
    after = b"".join(line + b"x\n" for line in before.splitlines())
    for pair in ((before, after), (before, None), (None, before)):
        changes = _config.key_changes(*pair)
        said = json.dumps([_config.change_lines(".env", changes), _config.masked_diff(".env", changes)])
        assert "canary" not in said


def test_the_lines_of_a_key_that_nobody_quoted_are_no_names():
    body = b"PRIVATE=-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0=\nq8Xb=\n"
    said = json.dumps(_config.change_lines(".env", _config.key_changes(b"", body)))
    assert "MIIE" not in said and "q8Xb" not in said and "not shown" in said


def test_a_diff_of_equal_lengths_still_differs():
    shown = _config.masked_diff(".env", _config.key_changes(b"A=12\n", b"A=34\n"))
    assert (shown["before"], shown["after"]) == ("A=<2 characters>\n", "A=<2 characters, another value>\n")


@pytest.mark.parametrize(
    ("found", "then", "action"),
    [
        (State("f", None), State("f", None), "none"),
        (State("f", None), State("f", b""), "create"),
        (State("f", b""), State("f", None), "remove"),
        (State("f", b"a", 0o600), State("f", b"b", 0o600), "replace"),
        (State("f", b"a", 0o644), State("f", b"a", 0o600), "attributes"),
        (State("f", b"a", 0o600, 1, 1), State("f", b"a", 0o600, 2, 1), "attributes"),
        (State("f", b"a", 0o600, 1, 1, "x"), State("f", b"a", 0o600, 1, 1, None), "none"),
        (State("f", b"a", selinux="x"), State("f", b"a", selinux="y"), "attributes"),
        (State("f", b"a", acl=b""), State("f", b"a", acl=b"x"), "attributes"),
        (State("f", b"a", acl=b"x"), State("f", b"a", acl=b""), "attributes"),
        (State("f", b"a", acl=b"x"), State("f", b"a", acl=b"x"), "none"),
        (State("f", b"a", acl=b"x"), State("f", b"a"), "none"),
        (State("f", b"a"), State("f", b"a", acl=b"x"), "none"),
        (State("f", b"a"), State("f", b"a", symlink="../.env"), "attributes"),
        (State("f", b"a", symlink="../.env"), State("f", b"a"), "attributes"),
        (State("f", b"a", 0o600), State("f", b"a"), "none"),
    ],
)
def test_what_has_to_be_done(found, then, action):
    assert _config.action(found, then) == action


def test_only_readers_of_what_differs_are_concerned():
    readers = {".env": ["backend", "frontend"], "backend/.env": ["backend"], "frontend/.env.local": ["frontend"]}
    assert _config.concerned(["backend/.env"], readers) == ["backend"]
    assert _config.concerned([".env"], readers) == ["backend", "frontend"]
    assert _config.concerned(["other"], readers) == []


@pytest.mark.parametrize(
    ("is_now", "then", "besides", "keys"),
    [
        (b"HOST=a\nURL=$HOST/v1", b"HOST=b\nURL=$HOST/v1", b"", {"HOST", "URL"}),
        (b"HOST=a\nURL=${HOST}/v1", b"HOST=b\nURL=${HOST}/v1", b"", {"HOST", "URL"}),
        (b"URL='${HOST:-x}/v1'\nHOST=a", b"URL='${HOST:-x}/v1'\nHOST=b", b"", {"HOST", "URL"}),
        (b"A=1\nB=$A\nC=x$B", b"A=2\nB=$A\nC=x$B", b"", {"A", "B", "C"}),
        (b"HOST=a", b"HOST=b", b"URL=$HOST\nOTHER=$PORT", {"HOST", "URL"}),
        (b"HOST=a\nURL=\\$HOST", b"HOST=b\nURL=\\$HOST", b"", {"HOST"}),
        (b'HOST=a\nURL="\\$HOST"', b'HOST=b\nURL="\\$HOST"', b"", {"HOST"}),
        (b"HOST=a\nURL=$HOSTS", b"HOST=b\nURL=$HOSTS", b"", {"HOST"}),
        (b"URL=${MISSING}", b"URL=", b"", {"URL"}),
        (b"A=$B\nB=$A", None, b"C=$A", {"A", "B", "C"}),
        (b"A=1 # x", b"A='1'", b"B=$A", set()),
    ],
)
def test_what_refers_to_another_variable_differs_with_it(is_now, then, besides, keys):
    assert _config.differing_for_next([(is_now, then)], [besides]) == keys


def test_build_keys_are_found_by_their_pattern():
    assert _config.matching(["NEXT_PUBLIC_A", "PUBLIC_B", "next_public_c"], ["NEXT_PUBLIC_*"]) == ["NEXT_PUBLIC_A"]


def test_a_process_tells_what_it_has_from_a_file_and_what_from_elsewhere():
    environment = {"A": "1", "B": "other", "PATH": "/bin"}
    assert _config.in_process(environment, {"A": "1", "B": "2", "C": "3"}, ["A", "B", "C"]) == (["A"], ["B"])


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        ("20250115_140000", "20250115_140000"),
        ("20250115-140000", "20250115_140000"),
        ("20250115140000", "20250115_140000"),
        ("20250115T140000Z", "20250115_140000"),
        ("20250115_1400", "20250115_140000"),
        ("20250115-1400", "20250115_140000"),
        ("20250115_14000", None),
        ("yesterday", None),
        ("../20250115_140000", None),
    ],
)
def test_timestamps(text, stamp):
    assert _config.timestamp(text) == stamp


def test_copies_of_the_same_deploy_belong_together():
    groups = _config.hand_made(
        {
            ".env": {"20250115_140000": 1000, "20250116_140000": 90000},
            "backend/.env": {"20250115_140001": 1001},
            "frontend/.env.local": {"20250115_140003": 1003},
        }
    )
    assert [group["timestamp"] for group in groups] == ["20250116_140000", "20250115_140000"]
    assert set(groups[1]["files"]) == {".env", "backend/.env", "frontend/.env.local"}


@pytest.mark.parametrize(
    ("given_", "chosen"),
    [
        (wanted("20250115T000000Z-deploy"), "20250115T000000Z-deploy"),
        (wanted(tag="v4.0.20250115-1430"), "20250116T000000Z-deploy"),
        (wanted(tag="v4.0.20250110-0900"), "20250115T000000Z-deploy"),
        (wanted(timestamp="20250116_120000", at=20250116), "20250116T000000Z-deploy"),
        (wanted(timestamp="20250301_120000", at=20250301), "20250116T000000Z-deploy"),
    ],
)
def test_the_restore_point_is_found(given_, chosen):
    assert _config.choose(POINTS, GROUPS, given_) == ({"restore_point": chosen}, None)


def test_the_newest_is_whole_and_was_made_by_no_rollback():
    damaged = point("20250118T000000Z-deploy", problem="Restore point x is damaged: y is missing")
    other = point("20250119T000000Z-deploy", usable=False)
    choice, refused = _config.choose([other, damaged, *POINTS], GROUPS, wanted("newest"))
    assert POINTS[0]["id"] == "20250117T000000Z-level2" and refused is None
    assert choice == {"restore_point": "20250116T000000Z-deploy", "passed_over": [damaged["problem"]]}
    by_hand = point("20250120T000000Z-manual")
    assert _config.choose([by_hand, damaged], [], wanted("newest"))[0]["restore_point"] == by_hand["id"]
    choice, refused = _config.choose([other, damaged, POINTS[0]], [], wanted("newest"))
    assert choice is None and refused["code"] == "unknown" and "y is missing" in refused["message"]
    assert "restore_point=20250117T000000Z-level2" in refused["cure"]


def test_what_a_level_went_away_from_is_taken_only_where_there_is_no_other():
    choice, _refusal = _config.choose(POINTS[:1], [], wanted(tag="v4.0.20250115-1430"))
    assert choice == {"restore_point": "20250117T000000Z-level2"}


@pytest.mark.parametrize(
    ("tag", "commit", "chosen"),
    [
        # That of a backup means its restore point, however many there are of that release.
        ("v4.0.20250116-050000", "a", "20250116T050000Z-deploy"),
        ("v4.0.20250117-050000", None, "20250117T050000Z-deploy"),
        # A second tag on the commit means the release.
        ("v4.0.20250115-1500", "a", "20250117T050000Z-deploy"),
        # The first backup of a release without a tag gave it one.
        ("v4.0.20250110-050000", "b", "20250111T050000Z-deploy"),
        ("v4.0.20250115-1500", None, None),
    ],
)
def test_a_tag_means_the_backup_that_it_was_made_for_or_the_commit_that_it_is_on(tag, commit, chosen):
    points = [
        point("20250118T050000Z-level2", commit="a"),
        point("20250117T050000Z-deploy", commit="a", backup_tag="v4.0.20250117-050000"),
        point("20250116T050000Z-deploy", commit="a", backup_tag="v4.0.20250116-050000"),
        point("20250111T050000Z-deploy", "v4.0.20250110-050000", commit="b", backup_tag="v4.0.20250111-050000"),
        point("20250110T050000Z-deploy", None, commit="b", backup_tag="v4.0.20250110-050000"),
        point("20250109T050000Z-deploy", None, commit=None, backup_tag=None),
    ]
    choice, refused = _config.choose(points, [], {**wanted(tag=tag), "commit": commit})
    assert choice == ({"restore_point": chosen} if chosen else None)
    assert chosen or refused["code"] == "unknown"


def test_a_damaged_one_without_environment_files_is_passed_over():
    points = [point("20250118T000000Z-deploy", usable=False, problem="redis/dump.rdb is missing"), *POINTS[1:]]
    choice, _refusal = _config.choose(points, [], wanted(timestamp="20260101_000000", at=20260101))
    assert choice == {"restore_point": "20250116T000000Z-deploy"}
    choice, _refusal = _config.choose(points, [], wanted(tag="v4.0.20250115-1430"))
    assert choice == {"restore_point": "20250116T000000Z-deploy"}


def test_a_time_means_what_was_in_force_then():
    points = [
        point("20250115T150000Z-level2", at=1500),
        point("20250115T143000Z-level3", at=1430),
        point("20250115T140000Z-deploy", at=1400),
    ]

    def at(seconds, points=points):
        return _config.choose(points, [], wanted(timestamp="20250115_153000", at=seconds))

    assert at(1530)[0] == {"restore_point": "20250115T143000Z-level3"}
    assert at(1500)[0] == {"restore_point": "20250115T150000Z-level2"}
    assert at(1429)[0] == {"restore_point": "20250115T140000Z-deploy"}
    choice, refused = at(1530, points[:1])
    assert choice is None and refused["message"].endswith(", but for what a rollback went away from")
    assert "restore_point=20250115T150000Z-level2" in refused["cure"]


@pytest.mark.parametrize(
    ("in_name", "given_"), [("20250115-140000", "20250115_140000"), ("20250115_1400", "20250115_1400")]
)
def test_copies_by_hand_are_found_however_their_time_is_written(in_name, given_):
    assert _config.copied_at(f".env.backup.{in_name}", ".env") == in_name
    groups = _config.hand_made({".env": {in_name: 1000}})
    assert f"config_timestamp={_config.timestamp(in_name)} " in _config.offer([], groups)
    choice, _refusal = _config.choose([], groups, wanted(timestamp=given_, at=1000))
    assert choice["hand_made"]["files"] == {".env": in_name}


@pytest.mark.parametrize("stamp", ["20250115_140000", "20250115_140001"])
def test_copies_by_hand_go_before_restore_points(stamp):
    choice, _refusal = _config.choose(POINTS, GROUPS, wanted(timestamp=stamp, at=20260101))
    assert choice["hand_made"]["files"] == {".env": "20250115_140000", "backend/.env": "20250115_140001"}


@pytest.mark.parametrize(
    ("given_", "code", "says"),
    [
        (wanted(), "no_target", "Nothing was named"),
        (wanted("20250115T000000Z-deploy", tag="v4.0.20250110-0900"), "ambiguous", "restore_point and target_tag"),
        (wanted("20240101T000000Z-deploy"), "unknown", "There is no restore point"),
        (wanted("../../etc"), "unknown", "There is no restore point '../../etc'"),
        (wanted(timestamp="noon"), "bad_timestamp", "'noon' is not a time"),
        (wanted(timestamp="20000101_000000", at=1), "unknown", "Nothing was kept up to 20000101_000000"),
        (wanted(tag="v9"), "unknown", "No restore point was made while 'v9' ran"),
        (wanted("20250114T000000Z-manual"), "no_files", "holds no environment files"),
    ],
)
def test_nothing_is_guessed(given_, code, says):
    choice, refused = _config.choose(POINTS, GROUPS, given_)
    assert choice is None and refused["code"] == code and says in refused["message"]
    if code not in ("ambiguous",):
        assert "restore_point=20250116T000000Z-deploy" in refused["cure"]
        assert "20250114T000000Z-manual" not in refused["cure"]


def test_a_damaged_one_is_refused_and_none_is_taken_in_its_place():
    damaged = [point("20250118T000000Z-deploy", problem="Restore point x is damaged: y is missing"), *POINTS]
    for given_ in (
        wanted("20250118T000000Z-deploy"),
        wanted(tag="v4.0.20250115-1430"),
        wanted(timestamp="20260101_000000", at=20260101),
    ):
        choice, refused = _config.choose(damaged, [], given_)
        assert choice is None and "y is missing" in refused["message"]
        assert "20250118T000000Z-deploy" not in refused["cure"]


def test_without_anything_it_says_how_to_make_a_restore_point():
    assert "playbooks/backup.yml" in _config.choose([], [], wanted())[1]["cure"]


@pytest.mark.parametrize("target", ["/etc/passwd", "../.env", "backend/../../x", "backend/app/main.py", "./.env", ""])
def test_only_environment_files_are_written(target):
    assert _config.target_problem(target, [".env", "backend/.env"])
    assert _config.target_problem("backend/.env", [".env", "backend/.env"]) is None


def facts(**more):
    diff = {
        "release": {"tag": "v4.0.20250115-1430", "commit": "c" * 40, "branch": None},
        "source": {"name": "20250116T000000Z-deploy", "restore_point": "/b/20250116T000000Z-deploy"},
        "files": [
            {
                "target": "backend/.env",
                "readers": ["backend"],
                "action": "replace",
                "does": "keys: 1 changed",
                "modified": 5.0,
            },
            {"target": ".env", "readers": ["backend"], "action": "none", "does": "as it is", "modified": 5.0},
        ],
        "lines": ["changed  A in backend/.env (1 character to 2 characters)"],
        "services": ["backend"],
        "keys": {"backend": ["A"]},
        "missing": [],
        "unmet": [],
        "refusals": [],
        "warnings": [],
        "unchanged": False,
    }
    diff.update(more.pop("diff", {}))
    return {
        "diff": diff,
        "backend": {"running": True, "how": "stopped and started", "serving_since": 9.0},
        "frontend": {},
        "build": None,
        "dirty": [],
        "settings": {"allow_missing": []},
        "history": [],
        **more,
    }


def test_the_plan_names_what_is_touched_and_what_is_left_alone():
    plan = _config.level2(facts())
    does = [(step["step"], step["skip"]) for step in plan["steps"]]
    assert does == [("restore_point", False), ("config_files", False), ("backend", False), ("frontend", True)]
    assert plan["refusals"] == [] and not plan["unchanged"]
    assert plan["to"]["name"] == "v4.0.20250115-1430 with the configuration of 20250116T000000Z-deploy"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"backend": {"conflict": "a process of user 0"}}, "can't be replaced: a process of user 0"),
        ({"backend": {"stuck": ["A"]}}, "pm2 keeps A for the backend itself"),
        ({"backend": {"refusal": "This user can't become root", "cure": "Give it"}}, "can't become root"),
        (
            {"diff": {"missing": [{"key": "DB", "service": "backend", "how": "read without a default at x.py:1"}]}},
            "DB for the backend (read without a default at x.py:1)",
        ),
        ({"build": {"action": "build"}, "dirty": ["frontend/x.js"]}, "uncommitted changes: frontend/x.js"),
    ],
)
def test_the_plan_refuses(change, says):
    assert any(says in item["message"] for item in _config.level2(facts(**change))["refusals"])


def test_what_pm2_has_of_the_frontend_is_refused_or_told():
    diff = {"services": ["frontend"], "keys": {"frontend": ["API_URL", "OTHER"]}}
    plan = _config.level2(facts(diff=diff, frontend={"running": True, "stuck": ["API_URL"], "overridden": ["OTHER"]}))
    assert [item["code"] for item in plan["refusals"]] == ["stuck"]
    assert "pm2 keeps API_URL for the frontend itself" in plan["refusals"][0]["message"]
    assert plan["warnings"] == ["the frontend has OTHER from its own environment, where the files count for nothing"]


def test_missing_variables_can_be_agreed_to_or_come_from_elsewhere():
    missing = {"diff": {"missing": [{"key": "DB", "service": "backend", "how": "x"}]}}
    assert _config.level2(facts(**missing, settings={"allow_missing": ["db"]}))["refusals"] == []
    assert _config.level2(facts(**missing, backend={"overridden": ["DB"]}))["refusals"] == []


def test_what_a_unit_may_have_by_itself_is_a_warning_and_no_refusal():
    diff = {"keys": {"backend": ["A", "DB"]}, "missing": [{"key": "DB", "service": "backend", "how": "x"}]}
    plan = _config.level2(facts(diff=diff, backend={"unknown": ["DB", "UNASKED"]}))
    assert plan["refusals"] == []
    (warning,) = plan["warnings"]
    assert warning.startswith("it is not known whether the backend's unit sets DB by itself")


def test_what_is_met_neither_now_nor_then_is_warned_of():
    unmet = {"diff": {"unmet": [{"key": "SEED", "service": "backend", "how": "x"}]}}
    plan = _config.level2(facts(**unmet))
    assert plan["refusals"] == []
    assert plan["warnings"] == ["no file sets, now or then, what some code fails without: SEED for the backend (x)"]
    assert _config.level2(facts(**unmet, settings={"allow_missing": ["seed"]}))["warnings"] == []
    elsewhere = _config.level2(facts(**unmet, backend={"overridden": ["SEED"]}))["warnings"]
    assert not any("no file sets" in text for text in elsewhere)


def test_what_is_the_same_is_never_refused():
    plan = _config.level2(facts(diff={"unchanged": True}, backend={"conflict": "x"}))
    assert plan["unchanged"] and plan["refusals"] == []


def test_a_process_older_than_its_files_is_told():
    assert _config.level2(facts())["warnings"] == []
    late = _config.level2(facts(backend={"running": True, "serving_since": 2.0}))["warnings"]
    assert "before backend/.env, .env was last changed" in late[0]


def test_only_runs_of_this_level_tell_the_expected_time():
    runs = [
        {"outcome": "rolled_back", "level": 1, "seconds": {"check": 50}},
        {"outcome": "rolled_back", "level": 2, "seconds": {"check": 8}},
    ]
    assert _config.level2(facts(history=runs))["expected_seconds"] == 8
