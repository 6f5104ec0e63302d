from __future__ import annotations

import threading

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import together
from ansible_collections.sparklio.rollback.plugins.modules import performance_check as module

URLS = ["http://127.0.0.1:1/metrics"]


def test_all_are_measured_at_the_same_time():
    # Each waits for the other two: one after another, the barrier would break.
    barrier = threading.Barrier(3, timeout=5)

    def measure(name):
        def wait():
            barrier.wait()
            return {"verdict": "pass", "evidence": name}

        return wait

    found = together.together({name: measure(name) for name in ("error_rate", "latency", "load")})
    assert {name: answer["evidence"] for name, answer in found.items()} == {name: name for name in found}
    assert list(found) == ["error_rate", "latency", "load"]


def test_a_measurement_that_breaks_is_an_error_and_spoils_no_other():
    found = together.together({"latency": lambda: 1 / 0, "load": lambda: {"verdict": "pass", "evidence": ""}})
    assert found["latency"]["verdict"] == "error" and "ZeroDivisionError" in found["latency"]["evidence"]
    assert found["load"]["verdict"] == "pass"


def test_the_options_are_those_of_the_modules(call):
    found = call(
        module,
        error_rate={"urls": URLS, "window": "0.1", "interval": 0.1},
        latency={"urls": URLS, "window": 0.1, "interval": 0.1, "mean_max_seconds": 3},
        load={"window": 0.01, "memory_max_percent": 100},
    )
    assert (found["error_rate"]["verdict"], found["latency"]["verdict"]) == ("error", "error")
    assert "connection refused" in found["latency"]["evidence"]
    assert [item["name"] for item in found["load"]["verdicts"]] == ["memory"]
    alone = call(module, load={"window": 0.01})
    assert set(alone) >= {"load", "seconds"} and "latency" not in alone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latency": {"window": 1}}, "The settings of latency can't be used: missing required arguments: urls"),
        ({"latency": {"urls": URLS, "window": -1}}, "window must be over 0"),
        ({"error_rate": {"urls": URLS, "treshold": 1}}, "treshold"),
        ({"error_rate": {"urls": URLS, "bearer_token": "hunter22"}}, "bearer_token"),
        ({"load": {"window": "long"}}, "The settings of load can't be used"),
        ({"load": {"window": 0}}, "window must be over 0, not 0"),
    ],
)
def test_settings_that_make_no_sense(call, options, message):
    found = call(module, **options)
    assert found["failed"] and message in found["msg"]
