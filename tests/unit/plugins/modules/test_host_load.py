from __future__ import annotations

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import host_load
from ansible_collections.sparklio.rollback.plugins.module_utils._load import Cpu, Load, Memory
from ansible_collections.sparklio.rollback.plugins.modules import host_load as module

MEMORY = Memory(16 << 30, 8 << 30)
LIMITS = {"window": 5.0, "cpu_max_percent": 70.0, "memory_max_percent": 80.0}


def measure(*readings, **options):
    left, time = list(readings), [0.0]

    def sleep(seconds):
        time[0] += seconds

    found = host_load.measure({**LIMITS, **options}, lambda: left.pop(0), lambda: time[0], sleep)
    assert not left
    return found


def busy(percent, memory=MEMORY):
    return [Load(Cpu(1000, 5000), memory), Load(Cpu(1000 + 10 * percent, 6000), memory)]


def test_under_both_limits():
    found = measure(*busy(25))
    assert (found["verdict"], found["cpu_percent"], found["memory_percent"]) == ("pass", 25, 50)
    assert [item["name"] for item in found["verdicts"]] == ["cpu", "memory"]
    assert found["evidence"].startswith("CPU 25.0 % of ")
    assert found["evidence"].endswith(" over 5.0 s is under 70 %; memory 50.0 % of 16.0 GiB is under 80 %")
    assert (found["memory_total_mib"], found["seconds"]) == (16384, 5.0)


@pytest.mark.parametrize(
    ("percent", "limits", "verdicts"),
    [
        (70, {}, ["fail", "pass"]),
        (69, {"memory_max_percent": 50.0}, ["pass", "fail"]),
        (95, {"memory_max_percent": None}, ["fail"]),
        (95, {"cpu_max_percent": None}, ["pass"]),
    ],
)
def test_a_limit_that_is_reached(percent, limits, verdicts):
    found = measure(*busy(percent), **limits)
    assert [item["verdict"] for item in found["verdicts"]] == verdicts
    assert found["verdict"] == ("fail" if "fail" in verdicts else "pass")


def test_without_limits_there_is_no_verdict():
    found = measure(*busy(25), cpu_max_percent=None, memory_max_percent=None)
    assert (found["verdict"], found["verdicts"]) == ("inconclusive", [])
    assert found["evidence"].startswith("there is no limit to judge by; CPU 25.0 %")


def test_what_the_system_does_not_tell_is_an_error():
    lost = Load(None, MEMORY, ("CPU: no such file",))
    found = measure(lost, lost)
    assert found["verdict"] == "error"
    assert found["evidence"].startswith("CPU: no such file; memory 50.0 %")
    assert [item["verdict"] for item in found["verdicts"]] == ["error", "pass"]


def test_what_no_limit_asks_for_may_be_missing():
    lost = Load(None, MEMORY, ("CPU: no such file",))
    assert measure(lost, lost, cpu_max_percent=None)["verdict"] == "pass"


def test_times_that_stand_still_are_an_error():
    still = Load(Cpu(1000, 5000), MEMORY)
    assert "did not grow" in measure(still, still)["evidence"]


def test_on_this_machine(call):
    found = call(module, window=0.2, cpu_max_percent=101, memory_max_percent=100.5)
    assert found["verdict"] == "pass", found["evidence"]
    assert found["cores"] >= 1 and found["load1"] >= 0 and found["changed"] is False


def test_settings_that_make_no_sense(call):
    assert call(module, window=0)["msg"] == "window must be over 0, not 0.0."
    assert call(module, cpu_max_percent=-1)["failed"]
