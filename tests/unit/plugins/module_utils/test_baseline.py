from __future__ import annotations

import json
import os

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _baseline as b
from ansible_collections.sparklio.rollback.plugins.module_utils import _watch as w
from ansible_collections.sparklio.rollback.plugins.module_utils import baselines
from ansible_collections.sparklio.rollback.plugins.module_utils._histogram import Histogram

COMMIT, OTHER = "a" * 40, "b" * 40
RELEASE = {"commit": COMMIT, "tag": "v4.0.20250115-1430"}
INF = float("inf")


def counts(requests=200.0, errors=0.0, seconds=20.0, last=0.0):
    return w.Counts(requests, errors, 10.0, 1.0, Histogram((0.5, 1.0, INF), (requests - last, 0.0, last), seconds))


def made(commit=COMMIT, at=0.0):
    return b.make({**RELEASE, "commit": commit}, at, 60.0, counts(), w.Load(12.5, 40.0))


def test_what_is_stored():
    assert made() == {
        "version": 1,
        "commit": COMMIT,
        "tag": "v4.0.20250115-1430",
        "made_at": "1970-01-01T00:00:00Z",
        "window_seconds": 60.0,
        "requests": 200.0,
        "error_rate_percent": 0.0,
        "mean_seconds": 0.1,
        "quantiles": {"0.5": 0.25, "0.95": 0.475, "0.99": 0.495},
        "agent_failure_percent": 10.0,
        "cpu_percent": 12.5,
        "memory_percent": 40.0,
    }


def test_a_quantile_that_is_only_known_to_be_at_least_so_much_is_left_open():
    found = b.make(RELEASE, 0.0, 60.0, counts(last=4.0), w.Load())
    assert found["quantiles"]["0.99"] is None
    assert found["quantiles"]["0.95"] is not None


@pytest.mark.parametrize(
    ("measured", "load", "verdict", "said"),
    [
        (counts(), w.Load(), "pass", "mean latency 0.1 s"),
        (counts(errors=40.0), w.Load(), "fail", "error rate 20.0 %"),
        (counts(errors=8.0), w.Load(), "inconclusive", "error rate 4.0 %"),
        (counts(10.0), w.Load(), "inconclusive", "10 are fewer than the 20"),
        (counts()._replace(latency=Histogram()), w.Load(), "inconclusive", "no latency was measured"),
        (counts(seconds=800.0), w.Load(), "fail", "mean 4 s"),
        (counts(), w.Load(97.0, 40.0), "fail", "CPU 97 %"),
    ],
)
def test_only_a_time_that_is_proven_good_will_do(measured, load, verdict, said):
    found, evidence = b.judge(measured, load, w.Limits())
    assert found == verdict
    assert said in evidence


def test_its_own_baseline_is_chosen_before_a_newer_one_of_another_commit():
    old, new, own = made(OTHER, 1.0), made("c" * 40, 9.0), made(COMMIT, 5.0)
    assert b.choose([old, new, own], COMMIT) == own
    assert b.choose([old, new], COMMIT) == new
    assert b.choose([], COMMIT) is None


def test_files_are_private_and_survive_being_read_back(tmp_path):
    path = baselines.write(str(tmp_path), made())
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(tmp_path / "baselines").st_mode & 0o777 == 0o700
    assert baselines.load(path) == made()
    assert baselines.every(str(tmp_path)) == [made()]


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"version": 1}', json.dumps({**made(), "version": 2}), json.dumps({**made(), "mean_seconds": None})],
)
def test_a_file_that_is_no_baseline_is_none(tmp_path, text):
    baselines.write(str(tmp_path), made(OTHER))
    (tmp_path / "baselines" / f"{COMMIT}.json").write_text(text)
    assert baselines.load(baselines.path_of(str(tmp_path), COMMIT)) is None
    assert [item["commit"] for item in baselines.every(str(tmp_path))] == [OTHER]


@pytest.mark.parametrize("commit", ["", "../../etc/passwd", "v4.0.20250115-1430", "ABCDEF0", "a" * 65])
def test_what_is_no_commit_names_no_file(tmp_path, commit):
    with pytest.raises(ValueError, match="is not the id of a commit"):
        baselines.path_of(str(tmp_path), commit)
