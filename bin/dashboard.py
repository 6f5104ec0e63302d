#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print the Grafana dashboard: bin/dashboard.py > roles/monitor/files/sparklio-v4.json

It needs the scrape jobs of sparklio.rules.yml, and no recording rule: it works where only the metrics are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

WIDTH = 24
#: Answers to users, not to probes: as the rules and the role "validate" count them.
USERS = 'endpoint!~"/metrics|/health|/api/v1/router/health"'
BACKEND = 'job="sparklio-backend"'
NODE = 'job="sparklio-node"'


class Panel(NamedTuple):
    """One picture: its queries as (legend, expression), and the limit of the runbook where it has one."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    limit: float | None = None
    description: str = ""


class Row(NamedTuple):
    """A line of panels that share the width."""

    title: str
    kind: str
    height: int
    panels: tuple[Panel, ...]


def rate(metric: str, matchers: str = "", by: str = "") -> str:
    """Return the increase a second, summed."""
    return f"sum{f' by ({by}) ' if by else ''}(rate({metric}{{{matchers}}}[$__rate_interval]))"


def share(metric: str, bad: str, matchers: str = "") -> str:
    """Return bad of all, and 0 where nothing bad was ever counted."""
    all_of_it = rate(metric, matchers)
    bad_of_it = rate(metric, f"{bad}, {matchers}" if matchers else bad)
    return f"({bad_of_it} or {all_of_it} * 0) / {all_of_it}"


def quantile(q: float, metric: str, matchers: str = "", by: str = "") -> str:
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', matchers, f'le, {by}' if by else 'le')})"


def mean(metric: str, matchers: str = "") -> str:
    return f"{rate(f'{metric}_sum', matchers)} / {rate(f'{metric}_count', matchers)}"


REQUESTS = "sparklio_http_requests_total"
SECONDS = "sparklio_http_request_duration_seconds"
RUNS = "sparklio_agent_executions_total"
RUN_SECONDS = "sparklio_agent_execution_duration_seconds"

ERROR_RATE = share(REQUESTS, 'status_code=~"5.."', USERS)
AGENT_FAILURES = share(RUNS, 'status=~"error|timeout"')
ACTIVE = "sum(sparklio_active_workflows) or vector(0)"
CPU = (
    f'1 - sum(rate(node_cpu_seconds_total{{{NODE}, mode=~"idle|iowait"}}[$__rate_interval]))'
    f" / sum(rate(node_cpu_seconds_total{{{NODE}}}[$__rate_interval]))"
)
# The second half is for a Mac.
MEMORY = (
    f"1 - node_memory_MemAvailable_bytes{{{NODE}}} / node_memory_MemTotal_bytes{{{NODE}}}"
    f" or (node_memory_active_bytes{{{NODE}}} + node_memory_wired_bytes{{{NODE}}}"
    f" + node_memory_compressed_bytes{{{NODE}}}) / node_memory_total_bytes{{{NODE}}}"
)
LAST_BUCKET = "What lies in the last bucket (over 10 s) is shown as 10 s: it took at least that long."

ROWS = (
    Row(
        "Now",
        "stat",
        4,
        (
            Panel("Backend up", "bool_yes_no", (("", f"min(up{{{BACKEND}}})"),)),
            Panel("Serving since", "s", (("", f"time() - max(process_start_time_seconds{{{BACKEND}}})"),)),
            Panel("Error rate (5xx)", "percentunit", (("", ERROR_RATE),), 0.05),
            Panel("Agent success", "percentunit", (("", f"1 - {AGENT_FAILURES}"),)),
            Panel("95 % within", "s", (("", quantile(0.95, SECONDS, USERS)),), 30, LAST_BUCKET),
            Panel("Active workflows", "short", (("", ACTIVE),)),
        ),
    ),
    Row(
        "HTTP requests",
        "timeseries",
        8,
        (
            Panel("Requests by status", "reqps", (("{{status_code}}", rate(REQUESTS, USERS, "status_code")),)),
            Panel("Error rate (5xx)", "percentunit", (("5xx of all", ERROR_RATE),), 0.05),
        ),
    ),
    Row(
        "Response time",
        "timeseries",
        8,
        (
            Panel(
                "Mean and quantiles",
                "s",
                (
                    ("mean", mean(SECONDS, USERS)),
                    ("50 %", quantile(0.5, SECONDS, USERS)),
                    ("95 %", quantile(0.95, SECONDS, USERS)),
                    ("99 %", quantile(0.99, SECONDS, USERS)),
                ),
                30,
                LAST_BUCKET,
            ),
            Panel(
                "Mean, against an hour and a day before",
                "s",
                (
                    ("now", mean(SECONDS, USERS)),
                    ("an hour before", mean(SECONDS, USERS).replace("]", "] offset 1h")),
                    ("a day before", mean(SECONDS, USERS).replace("]", "] offset 1d")),
                ),
            ),
            Panel(
                "The five slowest endpoints, 95 %",
                "s",
                (("{{endpoint}}", f"topk(5, {quantile(0.95, SECONDS, USERS, 'endpoint')})"),),
                description=LAST_BUCKET,
            ),
        ),
    ),
    Row(
        "Agents",
        "timeseries",
        8,
        (
            Panel("Runs by outcome", "ops", (("{{status}}", rate(RUNS, "", "status")),)),
            Panel("Failures", "percentunit", (("failed of all", AGENT_FAILURES),), 0.2),
            Panel("Time of a run, 95 %", "s", (("{{agent_name}}", quantile(0.95, RUN_SECONDS, by="agent_name")),)),
        ),
    ),
    Row(
        "Workflows",
        "timeseries",
        8,
        (
            Panel(
                "Active by type",
                "short",
                (("{{workflow_type}}", "sum by (workflow_type) (sparklio_active_workflows)"),),
            ),
            Panel("Workflows by status", "ops", (("{{status}}", rate("sparklio_workflows_total", "", "status")),)),
        ),
    ),
    Row(
        "Resources",
        "timeseries",
        8,
        (
            Panel("CPU of the app host", "percentunit", (("busy", CPU),), 0.9),
            Panel("Memory of the app host", "percentunit", (("used", MEMORY),), 0.9),
            Panel(
                "CPU of the backend's process",
                "short",
                (("cores, {{instance}}", f"rate(process_cpu_seconds_total{{{BACKEND}}}[$__rate_interval])"),),
            ),
            Panel(
                "Memory of the backend's process",
                "bytes",
                (("{{instance}}", f"process_resident_memory_bytes{{{BACKEND}}}"),),
            ),
        ),
    ),
)

#: Name, colour, expression, whether its value is the time in ms, and the title of each mark.
ANNOTATIONS = (
    ("Starts (a deploy or a rollback)", "blue", f"process_start_time_seconds{{{BACKEND}}} * 1000", True, "started"),
    ("Alerts", "red", 'ALERTS{alertname=~"Sparklio.+", alertstate="firing"}', False, "{{alertname}}"),
)

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def body(panel: Panel, kind: str) -> dict:
    steps: list[dict] = [{"color": "green", "value": None}]
    if panel.limit is not None:
        steps.append({"color": "red", "value": panel.limit})
    defaults: dict = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    options: dict = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
    if kind == "timeseries":
        style = "off" if panel.limit is None else "dashed"
        defaults["custom"] = {"fillOpacity": 10, "showPoints": "never", "thresholdsStyle": {"mode": style}}
        options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    return {
        "title": panel.title,
        "description": panel.description,
        "type": kind,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "datasource": DATASOURCE,
                "expr": expression,
                "legendFormat": legend or "__auto",
                "refId": chr(65 + number),
            }
            for number, (legend, expression) in enumerate(panel.queries)
        ],
    }


def panels(rows: tuple[Row, ...]) -> Iterator[dict]:
    """Lay the panels out, row under row."""
    number, top = 0, 0
    for row in rows:
        number += 1
        place = {"x": 0, "y": top, "w": WIDTH, "h": 1}
        yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}
        top += 1
        wide = WIDTH // len(row.panels)
        for column, panel in enumerate(row.panels):
            number += 1
            place = {"x": column * wide, "y": top, "w": wide, "h": row.height}
            yield {"id": number, "gridPos": place, **body(panel, row.kind)}
        top += row.height


def annotation(name: str, colour: str, expression: str, timed: bool, title: str) -> dict:
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": colour,
        "expr": expression,
        "titleFormat": title,
        "useValueForTime": timed,
        "step": "15s",
    }


def dashboard() -> dict:
    return {
        "uid": "sparklio-v4",
        "title": "Sparklio V4",
        "description": "What the runbook watches for 30 minutes after a rollback. Made by bin/dashboard.py.",
        "tags": ["sparklio"],
        "schemaVersion": 38,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Prometheus",
                    "type": "datasource",
                    "query": "prometheus",
                    "current": {},
                    "hide": 0,
                    "refresh": 1,
                }
            ]
        },
        "annotations": {"list": [annotation(*fields) for fields in ANNOTATIONS]},
        "panels": list(panels(ROWS)),
    }


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=2))
