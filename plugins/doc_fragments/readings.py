# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  requests_metric:
    description: Counter of requests.
    type: str
    default: sparklio_http_requests_total
  latency_metric:
    description: Histogram of the seconds that requests took, without C(_bucket).
    type: str
    default: sparklio_http_request_duration_seconds
  agents_metric:
    description: Counter of agent runs.
    type: str
    default: sparklio_agent_executions_total
  selector:
    description: Which series of O(requests_metric) and O(latency_metric) count, as in PromQL. Empty for all.
    type: str
    default: ''
  failed_request:
    description: Which of the requests failed, as in PromQL.
    type: str
    default: status_code=~"5.."
  failed_run:
    description: Which of the agent runs failed, as in PromQL.
    type: str
    default: status=~"error|timeout"
  limits:
    description: >-
      What makes a window bad. Without it the limits of the runbook, which are the values shown; a limit that it leaves
      out is not judged.
    type: dict
    suboptions:
      error_rate_percent:
        description: Failed requests, in percent. Runbook 5.
        type: float
      agent_failure_percent:
        description: Failed agent runs, in percent. Runbook 20.
        type: float
      mean_seconds:
        description: Mean latency in seconds. Runbook 3.
        type: float
      p95_seconds:
        description: 95th percentile of the latency in seconds. Runbook 30.
        type: float
      baseline_ratio:
        description: Mean latency as a multiple of the baseline's, where there is one. Runbook 2.
        type: float
      baseline_floor_seconds:
        description: A mean latency under this is not bad, whatever the baseline.
        type: float
        default: 0.5
      warm_up_seconds:
        description: Seconds after the start of a process in which the baseline is not compared with.
        type: float
        default: 60
      cpu_percent:
        description: CPU of the host in percent. Runbook 90.
        type: float
      memory_percent:
        description: Memory of the host in percent. Runbook 90.
        type: float
      min_requests:
        description: Fewer requests than this are not judged.
        type: float
        default: 20
      min_agent_runs:
        description: Fewer agent runs than this are not judged.
        type: float
        default: 5
      confidence_percent:
        description: Confidence of the intervals, in percent.
        type: float
        default: 95
"""
