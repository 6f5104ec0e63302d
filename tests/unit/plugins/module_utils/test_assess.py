from __future__ import annotations

import copy

import pytest
from ansible_collections.sparklio.rollback.plugins.module_utils import _assess, _assess_evidence, _summary
from hypothesis import given, settings
from hypothesis import strategies as st

NOW = 1_736_960_000.0
MEASURED = ("error_rate", "agent_failures", "response_time", "load")
NODES = ("ollama", "comfyui")
SERVICES = ("health", "frontend", "router")


def verdict(kind, evidence="seen", **more):
    return {"verdict": kind, "evidence": evidence, **more}


def healthy():
    """Facts of a system that is well, with a baseline of another release."""
    return {
        "host": "app1",
        "scenario": "",
        "inventory": "inventories/sandbox",
        "results": {
            "services": {"verdicts": [verdict("pass", name=name) for name in SERVICES]},
            "upstream": {"verdicts": [verdict("pass", name=name) for name in NODES]},
            "database": verdict("pass", connected=True, heads=["r3"], tree_heads=["r3"]),
            "redis": verdict("pass", server="redis://127.0.0.1:6379/0"),
            "objects": verdict("pass", server="http://127.0.0.1:9000"),
        },
        "measured": [
            {"item": {"name": "error_rate"}, "finished": True, **verdict("pass", "0 of 300 bad")},
            {"item": {"name": "agent_failures"}, "finished": True, **verdict("pass", "1 of 80 bad")},
            {
                "item": {"name": "response_time"},
                "finished": True,
                **verdict("pass", mean_seconds=0.3, count=300, seconds=20.0),
            },
            {"item": {"name": "load"}, "finished": True, "cpu_percent": 30.0, "memory_percent": 40.0},
        ],
        "processes": [
            {"item": {"name": "backend"}, "running": True, "serving_since": NOW - 3600},
            {"item": {"name": "frontend"}, "running": False, "conflict": "process 7, which pm2 would start again"},
        ],
        "release": {
            "current": {
                "commit": "c16",
                "tag": "v16",
                "date": 16,
                "alembic_heads": ["r3"],
                "checked_out_at": NOW - 3700,
            },
            "last_good": [{"tag": "v14"}],
            "bad_releases": [],
        },
        "target": {"commit": "c14", "tag": "v14", "date": 14, "alembic_heads": ["r3"]},
        "runs": {"now": NOW, "holder": None, "unfinished": None, "runs": []},
        "environment": [{"path": "backend/.env", "modified": NOW - 9000}],
        "baselines": {
            "other": {"tag": "v14", "commit": "c14", "mean_seconds": 0.25, "requests": 300, "window_seconds": 20.0}
        },
    }


def put(facts, name, kind, evidence="seen", **more):
    """Give a check another verdict."""
    results = facts["results"]
    for group in ("services", "upstream"):
        for item in results[group]["verdicts"]:
            if item["name"] == name:
                item.update(verdict(kind, evidence, **more))
                return facts
    for item in facts["measured"]:
        if item["item"]["name"] == name:
            item.update(verdict(kind, evidence, **more))
            return facts
    results[name] = verdict(kind, evidence, **more)
    return facts


def without(facts, name):
    for group in ("services", "upstream"):
        verdicts = facts["results"][group]["verdicts"]
        verdicts[:] = [item for item in verdicts if item["name"] != name]
    facts["measured"] = [item for item in facts["measured"] if item["item"]["name"] != name]
    facts["results"].pop(name, None)
    return facts


def database_down(facts):
    facts["results"]["database"] = verdict("error", "connection refused", connected=False, heads=None)
    facts["database_port"] = {"open": False}
    return facts


def backend_down(facts):
    put(facts, "health", "error", "connection refused", data={"status": None, "seconds": 3.0})
    facts["processes"][0] = {"item": {"name": "backend"}, "running": False, "conflict": None}
    for name in ("error_rate", "agent_failures", "response_time"):
        put(facts, name, "error", "connection refused", mean_seconds=None)
    return facts


def rolled_back(facts, minutes, **more):
    run = {
        "run_id": "r1", "outcome": "rolled_back", "ended_at": NOW - 60 * minutes,
        "from": {"tag": "v17", "commit": "c17", "date": 17}, "to": {"tag": "v16", "commit": "c16", "date": 16}, **more,
    }  # fmt: skip
    facts["runs"]["runs"] = [run]
    return facts


def test_a_healthy_system_is_left_alone():
    found = _assess.assess(healthy())
    assert (found["recommendation"], found["scenario"], found["level"]) == ("healthy", "none", None)
    assert (found["confidence"], found["command"]) == ("high", "")


@pytest.mark.parametrize(
    ("name", "scenario"),
    [
        ("error_rate", "emergency"),
        ("response_time", "emergency"),
        ("health", "emergency"),
        ("frontend", "emergency"),
        ("agent_failures", "function"),
        ("router", "function"),
    ],
)
def test_each_trigger_calls_for_a_rollback(name, scenario):
    found = _assess.assess(put(healthy(), name, "fail", "8 % bad"))
    assert (found["recommendation"], found["scenario"]) == ("rollback", scenario)
    assert (found["level"], found["target"]) == (1, "v14")
    assert found["command"] == "ansible-playbook -i inventories/sandbox playbooks/level1.yml -e target_tag=v14"
    assert "8 % bad" in found["message"]
    assert found["scenarios"][0]["checks"] == [name]


def test_of_several_scenarios_the_worst_leads_and_all_are_told():
    facts = put(put(healthy(), "agent_failures", "fail", "25 %"), "error_rate", "fail", "8 %")
    found = _assess.assess(put(facts, "load", "pass", cpu_percent=95.0))
    assert found["scenario"] == "emergency"
    assert [item["name"] for item in found["scenarios"]] == ["emergency", "function", "performance"]


def test_a_backend_that_is_down_is_an_emergency_where_the_database_is_up():
    found = _assess.assess(backend_down(healthy()))
    assert (found["recommendation"], found["scenario"]) == ("rollback", "emergency")
    assert "nothing listens" in found["message"]
    assert found["confidence"] == "medium"


def test_a_backend_that_is_down_for_its_database_is_not_cured_by_a_rollback():
    found = _assess.assess(database_down(backend_down(healthy())))
    assert (found["recommendation"], found["scenario"]) == ("no_rollback", "emergency")
    assert [item["name"] for item in found["vetoes"]] == ["database"]
    assert "PostgreSQL" in found["message"]
    assert "데이터베이스" in found["message_ko"]


def test_a_database_that_takes_connections_is_not_down():
    """The release's own environment may be what is broken."""
    facts = database_down(backend_down(healthy()))
    facts["database_port"] = {"open": True}
    found = _assess.assess(facts)
    assert (found["recommendation"], found["level"]) == ("rollback", 1)
    assert "not known" in found["message"]


@pytest.mark.parametrize(("tree_heads", "expected"), [(["r3"], "no_rollback"), (None, "rollback")])
def test_without_a_port_the_application_must_have_asked(tree_heads, expected):
    facts = database_down(backend_down(healthy()))
    facts["database_port"] = {"open": None}
    facts["results"]["database"]["tree_heads"] = tree_heads
    assert _assess.assess(facts)["recommendation"] == expected


def test_no_answer_says_nothing_while_something_listens():
    facts = put(healthy(), "health", "error", "certificate expired", data={"status": None, "seconds": 3.0})
    assert _assess.assess(facts)["recommendation"] == "unknown"


def test_a_backend_that_keeps_us_waiting_is_an_emergency():
    facts = put(healthy(), "health", "error", "no answer in time", data={"status": None, "seconds": 31.2})
    found = _assess.assess(facts)
    assert (found["recommendation"], found["scenario"]) == ("rollback", "emergency")


@pytest.mark.parametrize("name", ["redis", "objects", "ollama", "comfyui"])
def test_an_upstream_that_is_down_is_named_though_nothing_fails_yet(name):
    found = _assess.assess(put(healthy(), name, "error", "refused", server="redis://h"))
    assert (found["recommendation"], found["scenario"]) == ("no_rollback", "none")
    assert [item["name"] for item in found["vetoes"]] == [name]
    assert _assess.REPAIRS[name] in found["message"]


@pytest.mark.parametrize("name", ["database", "redis", "objects", "ollama"])
@pytest.mark.parametrize("trigger", ["error_rate", "agent_failures", "response_time", "router"])
def test_what_an_upstream_explains_is_vetoed(name, trigger):
    facts = put(healthy(), trigger, "fail", "bad")
    facts = database_down(facts) if name == "database" else put(facts, name, "error", "refused", server="redis://h")
    found = _assess.assess(facts)
    assert found["recommendation"] == "no_rollback"
    assert found["scenarios"][0]["vetoed_by"] == [name]


@pytest.mark.parametrize(
    ("trigger", "elsewhere", "expected"),
    [
        ("error_rate", "fail", "rollback"),
        ("error_rate", "pass", "no_rollback"),
        ("error_rate", "inconclusive", "no_rollback"),
        ("agent_failures", "fail", "rollback"),
        ("agent_failures", "pass", "no_rollback"),
        ("agent_failures", "error", "no_rollback"),
    ],
)
def test_comfyui_explains_only_what_asks_it(trigger, elsewhere, expected):
    facts = put(put(healthy(), "comfyui", "error", "refused"), trigger, "fail", "bad")
    facts["measured"].append({"item": {"name": f"{trigger}_elsewhere"}, "finished": True, **verdict(elsewhere)})
    assert _assess.assess(facts)["recommendation"] == expected


def test_a_dead_backend_is_not_explained_by_a_node():
    found = _assess.assess(put(backend_down(healthy()), "ollama", "error", "refused"))
    assert found["recommendation"] == "rollback"
    assert any("also down: ollama" in text for text in found["hints"])


def test_an_upstream_without_an_address_is_not_known_to_be_down():
    facts = put(healthy(), "redis", "error", ".env sets no REDIS_URL", server=None)
    put(facts, "objects", "inconclusive", "no address is known", server=None)
    found = _assess.assess(put(facts, "error_rate", "fail", "8 %"))
    assert found["recommendation"] == "rollback"
    assert _assess.assess(put(facts, "error_rate", "pass"))["recommendation"] == "unknown"


def test_no_traffic_is_not_health():
    found = _assess.assess(put(healthy(), "error_rate", "inconclusive", "no requests"))
    assert (found["recommendation"], found["confidence"]) == ("unknown", "low")
    assert "no requests" in found["message"]


@pytest.mark.parametrize("name", _assess_evidence.CHECKS)
def test_what_was_not_measured_is_not_health(name):
    facts = healthy()
    for gone in {"slowdown": ["response_time"], "cpu": ["load"], "memory": ["load"]}.get(name, [name]):
        without(facts, gone)
    assert _assess.assess(facts)["recommendation"] == "unknown"


def test_no_facts_at_all_are_no_health():
    found = _assess.assess({})
    assert found["recommendation"] == "unknown"
    assert found["evidence"]


def test_a_check_can_be_switched_off_but_not_all():
    facts = without(healthy(), "comfyui")
    facts["checks"] = [name for name in _assess_evidence.CHECKS if name != "comfyui"]
    assert _assess.assess(facts)["recommendation"] == "healthy"
    assert _assess.assess({**facts, "checks": []})["recommendation"] == "unknown"


def test_measurements_that_were_not_waited_for_say_so():
    facts = put(healthy(), "error_rate", "fail", "30 %")
    facts["measured"][1] = {"item": {"name": "agent_failures"}, "started": True, "finished": False}
    found = _assess.assess(facts)
    agents = next(item for item in found["evidence"] if item["name"] == "agent_failures")
    assert (agents["verdict"], found["recommendation"]) == ("inconclusive", "rollback")
    assert "not waited for" in agents["evidence"]


def test_a_security_hole_is_said_by_a_person():
    found = _assess.assess({**healthy(), "scenario": "security"})
    assert (found["recommendation"], found["scenario"], found["level"]) == ("rollback", "security", 1)


def test_security_comes_before_vetoes_and_before_the_last_rollback():
    facts = rolled_back(put(healthy(), "redis", "error", "refused", server="redis://h"), 2)
    found = _assess.assess({**facts, "scenario": "security"})
    assert found["recommendation"] == "rollback"
    assert [item["name"] for item in found["vetoes"]] == ["redis"]


@pytest.mark.parametrize("outcome", ["rolled_back", "held"])
def test_a_rollback_minutes_ago_is_not_followed_by_another(outcome):
    facts = rolled_back(put(healthy(), "error_rate", "fail", "8 %"), 4, outcome=outcome)
    found = _assess.assess(facts)
    assert (found["recommendation"], found["scenario"]) == ("no_rollback", "emergency")
    assert "4 min ago" in found["message"]
    assert "26 min" in found["message"]


def test_a_rollback_that_was_undone_minutes_ago_is_not_tried_again():
    facts = put(healthy(), "error_rate", "fail", "8 %")
    facts = rolled_back(
        facts, 4, outcome="reverted", **{"from": {"commit": "c16"}, "to": {"tag": "v14", "commit": "c14"}}
    )
    found = _assess.assess(facts)
    assert found["recommendation"] == "no_rollback"
    assert "failed and was undone" in found["message"]


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: rolled_back(facts, 31),
        lambda facts: {**rolled_back(facts, 4), "min_interval_minutes": 0},
        # Something else was deployed since.
        lambda facts: rolled_back(facts, 4, to={"tag": "v15", "commit": "c15"}),
        lambda facts: rolled_back(facts, 4, outcome="abandoned"),
        # It was the way forward, and what it led to is bad.
        lambda facts: rolled_back(facts, 4, **{"from": {"tag": "v14", "commit": "c14", "date": 14}}),
    ],
)
def test_what_is_no_flapping(change):
    assert _assess.assess(change(put(healthy(), "error_rate", "fail", "8 %")))["recommendation"] == "rollback"


def test_a_cut_off_run_comes_first():
    facts = put(healthy(), "error_rate", "fail", "8 %")
    facts["runs"]["unfinished"] = {"run_id": "r9", "act": "switch", "pending": 2}
    found = _assess.assess({**facts, "scenario": "security"})
    assert found["recommendation"] == "resume"
    assert found["command"] == "ansible-playbook -i inventories/sandbox playbooks/resume.yml"


def test_a_run_that_is_under_way_is_waited_for():
    facts = put(healthy(), "error_rate", "fail", "8 %")
    facts["runs"].update(holder={"run_id": "r9", "owner": "minji", "age": 12.0}, unfinished={"run_id": "r9"})
    found = _assess.assess(facts)
    assert found["recommendation"] == "watch"
    assert "r9 of minji" in found["message"]
    facts["runs"]["holder"]["age"] = 301.0
    assert _assess.assess(facts)["recommendation"] == "resume"


def test_without_an_earlier_release_there_is_nowhere_to_go():
    facts = {**put(healthy(), "error_rate", "fail", "8 %"), "target": None}
    found = _assess.assess(facts)
    assert (found["recommendation"], found["target"]) == ("no_rollback", None)
    assert "git fetch --tags" in found["message"]


def test_a_target_that_is_asked_for_and_no_release_says_why():
    facts = {**put(healthy(), "error_rate", "fail", "8 %"), "target": None}
    facts["target_problems"] = [{"message": "There is no release v9 here", "cure": "Choose one: v14"}]
    assert "There is no release v9 here. Choose one: v14" in _assess.assess(facts)["message"]


def test_a_newer_target_is_no_rollback():
    facts = put(healthy(), "error_rate", "fail", "8 %")
    facts["target"] = {**facts["target"], "tag": "v20", "date": 20}
    assert _assess.assess(facts)["recommendation"] == "no_rollback"


def test_a_schema_that_the_target_cannot_run_on_calls_for_level_3():
    facts = put(healthy(), "error_rate", "fail", "8 %")
    facts["target"]["alembic_heads"] = ["r2"]
    found = _assess.assess(facts)
    assert (found["recommendation"], found["level"]) == ("rollback", 3)
    assert "v14 needs the schema at r2, and the database is at r3" in found["message"]
    assert "playbooks/level3.yml -e target_tag=v14" in found["command"]


def test_the_schema_counts_as_the_database_has_it_not_as_the_tree_says():
    facts = put(healthy(), "error_rate", "fail", "8 %")
    facts["release"]["current"]["alembic_heads"] = ["r4"]
    put(facts, "database", "fail", "at r3, but the tree declares r4", connected=True, heads=["r3"])
    assert _assess.assess(facts)["level"] == 1


def slow(mean=0.6, **latency):
    return put(healthy(), "response_time", "pass", mean_seconds=mean, **latency)


def test_slow_by_release():
    found = _assess.assess(slow())
    assert (found["recommendation"], found["scenario"]) == ("rollback", "performance")
    assert "slow by release" in found["message"]
    assert "2.4 times the 0.25 s of v14" in found["message"]


@pytest.mark.parametrize("mean", [0.49, 0.3])
def test_under_the_floor_or_the_ratio_nothing_is_slow(mean):
    assert _assess.assess(slow(mean))["recommendation"] == "healthy"


def test_slow_though_the_same_release_was_fast():
    facts = slow()
    facts["baselines"]["own"] = {"tag": "v16", "mean_seconds": 0.2, "requests": 300, "window_seconds": 20.0}
    found = _assess.assess(facts)
    assert (found["recommendation"], found["scenario"]) == ("no_rollback", "performance")
    assert "not slow by release: the same release took 0.2 s before" in found["message"]
    assert "look at the database" in found["message"]


def test_slow_by_load_where_the_same_release_was_fast_on_an_idle_host():
    facts = put(slow(), "load", "pass", cpu_percent=97.0)
    facts["baselines"]["own"] = {"tag": "v16", "commit": "c16", "mean_seconds": 0.2, "cpu_percent": 20.0}
    found = _assess.assess(facts)
    assert found["recommendation"] == "no_rollback"
    assert "slow by load: CPU 97 %; the same release took 0.2 s before" in found["message"]


def test_slow_by_load_where_there_is_far_more_traffic():
    found = _assess.assess(slow(count=900))
    assert found["recommendation"] == "no_rollback"
    assert "3.0 times those of the baseline" in found["message"]


def test_slow_as_ever_is_compared_with_the_other_release():
    """A bad release's own baseline must not excuse it."""
    facts = slow()
    facts["baselines"]["own"] = {"tag": "v16", "mean_seconds": 0.55, "requests": 300, "window_seconds": 20.0}
    assert _assess.assess(facts)["recommendation"] == "rollback"


def test_slower_than_its_own_baseline_alone_is_not_slow_by_release():
    facts = slow()
    facts["baselines"]["other"]["mean_seconds"] = 0.5
    facts["baselines"]["own"] = {"tag": "v16", "commit": "c16", "mean_seconds": 0.2}
    found = _assess.assess(facts)
    assert (found["recommendation"], found["scenario"]) == ("no_rollback", "performance")
    assert "3.0 times the 0.2 s of v16" in found["message"]


def test_the_only_baseline_is_its_own():
    facts = slow()
    own = {"tag": "v16", "commit": "c16", "mean_seconds": 0.2, "requests": 300, "window_seconds": 20.0}
    facts["baselines"] = {"own": own, "other": own}
    assert _assess.assess(facts)["recommendation"] == "no_rollback"


@pytest.mark.parametrize(("mean", "expected"), [(0.2, "healthy"), (3.5, "unknown")])
def test_without_a_baseline_the_checklists_limit_stands_in(mean, expected):
    facts = {**slow(mean), "baselines": {}}
    found = _assess.assess(facts)
    assert found["recommendation"] == expected
    evidence = next(item for item in found["evidence"] if item["name"] == "slowdown")
    assert evidence["verdict"] == "inconclusive"
    assert "playbooks/baseline.yml" in evidence["evidence"]


def test_a_busy_cpu_that_nobody_feels_is_watched():
    found = _assess.assess(put(healthy(), "load", "pass", cpu_percent=97.0))
    assert (found["recommendation"], found["scenario"], found["level"]) == ("watch", "performance", None)


def test_a_busy_cpu_with_slow_answers_calls_for_a_rollback():
    found = _assess.assess(put(slow(), "load", "pass", cpu_percent=97.0))
    assert found["recommendation"] == "rollback"
    assert "CPU 97 %" in found["message"]


def test_a_busy_cpu_is_load_where_the_same_release_used_less():
    facts = put(slow(), "load", "pass", cpu_percent=97.0)
    facts["baselines"]["own"] = {"tag": "v16", "commit": "c16", "mean_seconds": 0.2, "cpu_percent": 20.0}
    found = _assess.assess(facts)
    assert found["recommendation"] == "no_rollback"
    assert "the same release used 20 % before" in found["message"]


def test_memory_that_grew_under_the_same_release_is_its_leak():
    facts = put(healthy(), "load", "pass", memory_percent=95.0)
    facts["baselines"]["own"] = {"tag": "v16", "commit": "c16", "mean_seconds": 0.3, "memory_percent": 40.0}
    assert _assess.assess(facts)["recommendation"] == "rollback"


def test_full_memory_calls_for_a_rollback_unless_it_always_was():
    facts = put(healthy(), "load", "pass", memory_percent=95.0)
    assert _assess.assess(facts)["recommendation"] == "rollback"
    facts["baselines"]["other"]["memory_percent"] = 93.0
    assert _assess.assess(facts)["recommendation"] == "no_rollback"


def test_a_changed_configuration_is_a_hint():
    facts = put(healthy(), "error_rate", "fail", "8 %")
    facts["release"]["current"]["checked_out_at"] = NOW - 90_000
    facts["environment"][0]["modified"] = NOW - 7200
    found = _assess.assess(facts)
    assert found["level"] == 1
    assert any("Level 2" in text and "backend/.env" in text for text in found["hints"])
    facts["environment"][0]["modified"] = NOW - 60
    found = _assess.assess(facts)
    assert not any("Level 2" in text for text in found["hints"])


def test_uncommitted_changes_are_hinted_at():
    facts = put(healthy(), "error_rate", "fail", "8 %")
    facts["release"]["current"]["dirty"] = ["backend/app/main.py"]
    assert any("rollback_save_changes" in text for text in _assess.assess(facts)["hints"])


KINDS = st.sampled_from(["pass", "fail", "inconclusive", "error", "nonsense", None])
NUMBERS = st.one_of(st.none(), st.floats(), st.integers(-5, 500), st.text(max_size=3))


@st.composite
def systems(draw):
    """Any system: each fact as it should be, bad, unknown, or missing."""
    facts = healthy()
    for name in (*SERVICES, *NODES, "error_rate", "agent_failures", "response_time", "redis", "objects"):
        kind = draw(KINDS)
        if kind is None:
            without(facts, name)
        else:
            put(facts, name, kind, server=draw(st.sampled_from([None, "redis://h"])))
    state = draw(st.sampled_from(["up", "down", "missing", "behind"]))
    if state == "down":
        database_down(facts)
    elif state == "missing":
        facts["results"]["database"] = {}
    elif state == "behind":
        put(facts, "database", "fail", connected=True, heads=["r2"])
    load = draw(st.sampled_from([0, 1]))
    if load:
        put(facts, "load", "pass", cpu_percent=draw(NUMBERS), memory_percent=draw(NUMBERS))
    put(facts, "response_time", draw(KINDS) or "error", mean_seconds=draw(NUMBERS), count=draw(NUMBERS))
    for key in draw(st.sets(st.sampled_from(["processes", "release", "target", "runs", "baselines", "environment"]))):
        facts[key] = draw(st.sampled_from([None, {}]))
    if facts["runs"] and draw(st.booleans()):
        rolled_back(facts, draw(st.integers(0, 90)))
    facts["scenario"] = draw(st.sampled_from(["", "", "security"]))
    facts["database_is"] = state
    return facts


@settings(max_examples=300, deadline=None)
@given(systems())
def test_whatever_is_seen_there_is_a_conclusion_with_evidence(facts):
    before = copy.deepcopy(facts)
    found = _assess.assess(facts)
    assert repr(facts) == repr(before)
    assert found["recommendation"] in _assess.RECOMMENDATIONS
    assert found["evidence"] and all(item["evidence"] for item in found["evidence"])
    assert found["message"] and found["message_ko"]
    assert (found["recommendation"] == "rollback") == (found["level"] is not None) == (found["target"] is not None)
    for item in found["scenarios"]:
        assert item["evidence"]
    kinds = {item["name"]: item["verdict"] for item in found["evidence"]}
    if found["recommendation"] == "healthy":
        # Only the comparison with a baseline that nobody made may be open.
        assert all(kinds[name] == "pass" for name in _assess_evidence.CHECKS if name != "slowdown")
        assert kinds["release"] == kinds["runs"] == "pass"
        assert facts["scenario"] == "" and not found["scenarios"]
    if found["recommendation"] == "rollback" and facts["scenario"] != "security":
        assert not found["vetoes"]
        assert facts["database_is"] != "down"
        chosen = next(item for item in found["scenarios"] if item["name"] == found["scenario"])
        assert chosen["curable"] and not chosen["vetoed_by"]
    if found["recommendation"] == "no_rollback":
        assert found["message"].strip()
    lines = _summary.lines(_assess.overall({"app1": found}))
    assert lines and all("\n" not in line for line in lines)


@given(st.sampled_from(_assess_evidence.CHECKS), st.sampled_from(["inconclusive", "error", "nonsense"]))
def test_nothing_unclear_is_healthy(name, kind):
    facts = healthy()
    if name in ("cpu", "memory"):
        put(facts, "load", "pass", **{f"{name}_percent": None})
    elif name == "slowdown":
        put(facts, "response_time", kind)
    else:
        put(facts, name, kind, connected=True)
    assert _assess.assess(facts)["recommendation"] != "healthy"


def test_the_worst_host_decides_and_is_named():
    good, bad = (
        _assess.assess(healthy()),
        _assess.assess(put({**healthy(), "host": "app2"}, "error_rate", "fail", "8 %")),
    )
    found = _assess.overall({"app1": good, "app2": bad, "app3": None})
    assert (found["recommendation"], found["host"], found["exit_code"]) == ("rollback", "app2", 10)
    assert found["message"].startswith("app2: emergency")
    assert found["hosts"]["app3"]["recommendation"] == "unassessed"
    lines = _summary.lines(found)
    assert lines[0] == "ROLL BACK: Level 1, to v14 / 롤백 필요"
    assert "scenario / 시나리오: emergency (긴급)" in lines
    assert any(line.startswith("app1: healthy") for line in lines)
    assert lines[-1] == "type / 실행: ansible-playbook -i inventories/sandbox playbooks/level1.yml -e target_tag=v14"


def test_a_host_that_cannot_be_assessed_is_worse_than_an_undecided_one():
    unknown = _assess.assess({**healthy(), "results": {}})
    found = _assess.overall({"a": unknown, "b": _assess.unassessed("b", "no route\nto host")})
    assert (found["recommendation"], found["host"], found["exit_code"], found["verdict"]) == (
        "unassessed", "b", 14, "error",
    )  # fmt: skip
    assert "no route to host" in found["message"]


def test_no_host_is_no_health():
    assert _assess.overall({})["exit_code"] == 14


def test_each_recommendation_has_its_code():
    assert set(_assess.EXIT_CODES) == set(_assess.RECOMMENDATIONS)
    assert [name for name, code in _assess.EXIT_CODES.items() if code == 0] == ["healthy"]
    # Those that ansible-playbook uses itself.
    assert not {1, 2, 3, 4, 5, 99, 250} & set(_assess.EXIT_CODES.values())
