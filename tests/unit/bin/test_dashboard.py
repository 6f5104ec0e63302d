# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Grafana dashboard: as its generator makes it, whole, and asking only for metrics that somebody exposes."""

from __future__ import annotations

import importlib.util
import json
import re
from itertools import combinations
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[3]
FILES = PROJECT / "roles/monitor/files"
SPEC = importlib.util.spec_from_file_location("dashboard", PROJECT / "bin/dashboard.py")
dashboard = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(dashboard)

MADE = dashboard.dashboard()
PANELS = MADE["panels"]
PICTURES = [panel for panel in PANELS if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PICTURES for target in panel["targets"]] + [
    entry["expr"] for entry in MADE["annotations"]["list"]
]
RULES = [
    rule["expr"]
    for group in yaml.safe_load((FILES / "sparklio.rules.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
# What Prometheus, prometheus_client and the node_exporter of Linux and of macOS expose by themselves.
STANDARD = {
    *("up", "ALERTS", "process_start_time_seconds", "process_cpu_seconds_total", "process_resident_memory_bytes"),
    *("node_cpu_seconds_total", "node_memory_MemAvailable_bytes", "node_memory_MemTotal_bytes"),
    *(f"node_memory_{kind}_bytes" for kind in ("active", "wired", "compressed", "total")),
}


def of_the_application() -> set[str]:
    """The series that the application makes, read from its source."""
    source = (PROJECT / "sandbox/app/backend/app/metrics.py").read_text(encoding="utf-8")
    found = set()
    for kind, name in re.findall(r'(Counter|Histogram|Gauge)\(\s*"(\w+)"', source):
        found |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "Histogram" else {name}
    return found


def metrics(expression: str) -> set[str]:
    """Names that select series: no label of a matcher or of a grouping, and no word of PromQL."""
    expression = re.sub(r'"[^"]*"', "", expression)
    expression = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\boffset \w+", "", expression)
    expression = re.sub(r"\b(by|without|on|ignoring) *\([^)]*\)", "", expression)
    return set(re.findall(r"\b[A-Za-z_:][\w:]*\b(?! *\()", expression)) - {
        *("or", "and", "unless"),
    }


def test_the_file_is_what_the_generator_makes() -> None:
    committed = (FILES / "sparklio-v4.json").read_text(encoding="utf-8")
    assert committed == json.dumps(MADE, indent=2) + "\n", "bin/dashboard.py > roles/monitor/files/sparklio-v4.json"


def test_it_answers_at_the_address_of_the_runbook() -> None:
    assert MADE["uid"] == "sparklio-v4"


def test_ids_are_unique_and_panels_have_names() -> None:
    ids = [panel["id"] for panel in PANELS]
    assert len(ids) == len(set(ids)) > 10
    assert all(panel["title"] for panel in PANELS)


@pytest.mark.parametrize("panel", PICTURES, ids=lambda panel: panel["title"])
def test_the_datasource_is_the_variable(panel: dict) -> None:
    variables = [(entry["name"], entry["type"], entry["query"]) for entry in MADE["templating"]["list"]]
    assert variables == [("datasource", "datasource", "prometheus")]
    for place in (panel, *panel["targets"]):
        assert place["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    names = [target["refId"] for target in panel["targets"]]
    assert len(names) == len(set(names)) > 0


def test_panels_fit_in_and_do_not_overlap() -> None:
    places = [panel["gridPos"] for panel in PANELS]
    assert all(place["x"] >= 0 and place["w"] > 0 and place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart or above, f"{one} and {other} overlap"


def test_names_are_found_in_expressions() -> None:
    assert metrics('sum by (a) (rate(x_total{b="c (d)"}[5m] offset 1h)) / on (e) y:z > 2 and time() - w') == {
        *("x_total", "y:z", "w"),
    }


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_metric_of_the_dashboard_is_known(expression: str) -> None:
    assert metrics(expression)
    assert metrics(expression) <= of_the_application() | STANDARD


def test_every_metric_of_the_rules_is_known() -> None:
    rules = yaml.safe_load((FILES / "sparklio.rules.yml").read_text(encoding="utf-8"))["groups"]
    records = {rule["record"] for group in rules for rule in group["rules"] if "record" in rule}
    used = set().union(*(metrics(expression) for expression in RULES))
    assert used <= of_the_application() | STANDARD | records


def test_the_runbook_gets_what_it_watches() -> None:
    used = set().union(*(metrics(expression) for expression in EXPRESSIONS))
    assert of_the_application() - used == {
        "sparklio_agent_execution_duration_seconds_sum",
        "sparklio_agent_execution_duration_seconds_count",
    }
