#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: metric_latency
short_description: Judge how long requests take by the histogram of a metrics endpoint
version_added: "0.1.0"
description:
  - Reads a histogram from one or several metrics endpoints over a window, and judges the mean and the quantiles of what
    was observed meanwhile against limits and against a baseline.
  - The increase is taken for each series by itself and survives a restart of the process. A histogram starts anew as
    a whole.
  - Quantiles are those of Prometheus' C(histogram_quantile). One that lies in the last bucket is at least that bucket's
    lower bound, and more is not claimed.
  - V(pass) when every comparison holds, V(fail) when one does not, V(inconclusive) when one can't be made.
  - V(error) when there is nothing to measure by. The endpoint is down, answers something else, has no such histogram,
    or several processes take turns behind it.
  - A verdict is a result. The module fails only on settings that make no sense.
extends_documentation_fragment: sparklio.rollback.metrics
options:
  metric:
    description: Name of the histogram, without C(_bucket).
    type: str
    default: sparklio_http_request_duration_seconds
  selector:
    description: Which series are measured, as in PromQL. The empty string takes all.
    type: str
    default: ""
  quantiles:
    description: Quantiles to report, as fractions. Those of O(limits) and O(baseline) are reported too.
    type: list
    elements: float
    default: [0.5, 0.95, 0.99]
  mean_max_seconds:
    description: A mean of so many seconds is too slow. Without it the mean has no limit.
    type: float
  limits:
    description: Quantile, as a fraction, to the seconds that are too slow for it.
    type: dict
    default: {}
  baseline:
    description: What was normal, in seconds. A statistic that it leaves out is not compared.
    type: dict
    suboptions:
      mean:
        description: The mean.
        type: float
      quantiles:
        description: Quantile, as a fraction, to seconds.
        type: dict
        default: {}
  baseline_ratio:
    description: So many times the baseline is too slow.
    type: float
    default: 2
  baseline_floor_seconds:
    description: What takes less than that is never too slow in comparison with the baseline.
    type: float
    default: 0.5
  min_requests:
    description:
      - Below so many requests there is no verdict.
      - A quantile also needs so many that one may lie beyond it. The 0.99 quantile needs 100.
    type: int
    default: 20
  window:
    description: Seconds of observation after which the verdict is due.
    type: float
    default: 60
  deadline:
    description:
      - Seconds after which the module answers in any case. Between O(window) and then it goes on only where the
        requests are too few. By default as long as O(window).
    type: float
  interval:
    description: Seconds between two readings.
    type: float
    default: 2
  fresh_process:
    description:
      - A process that began at most so many seconds ago is counted from its beginning, where its counters were 0.
        Else the first reading is the origin.
      - V(0) always takes the first reading as the origin, which leaves out how a process warms up.
    type: float
    default: 0
notes:
  - Where a limit lies beyond the last finite bucket, and the quantile does too, the histogram tells only the sum of
    those requests. It is V(pass) when that sum is too small for enough of them to reach the limit, V(fail) when they
    reached it on average, and else V(inconclusive). With the buckets of a Sparklio V4 (up to 10 s) that concerns a
    limit of 30 s.
  - What is still being answered is in no histogram. Requests that hang show up when they end.
  - How quantiles are interpolated is told at
    U(https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile).
attributes:
  check_mode:
    support: full
    description: The module changes nothing, so it does the same.
  diff_mode:
    support: none
    description: There is nothing to compare.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Measure the answers for 20 seconds, by the limits of the runbook
  sparklio.rollback.metric_latency:
    urls: [http://127.0.0.1:8000/metrics]
    selector: endpoint!~"/health|/metrics"
    mean_max_seconds: 3
    limits: {"0.95": 30}
    window: 20
    deadline: 30
  register: latency

- name: Compare with what was normal before the deploy
  sparklio.rollback.metric_latency:
    urls: [http://127.0.0.1:8000/metrics]
    baseline:
      mean: 0.08
      quantiles: {"0.95": 0.4}
"""

RETURN = r"""
verdict:
  description: V(pass), V(fail), V(inconclusive) or V(error).
  returned: always
  type: str
  sample: pass
evidence:
  description: What was measured and what decides, in one line.
  returned: always
  type: str
  sample: "mean 0.031 s is under 3 s; p95 0.21 s is under 30 s; 412 requests, 11 readings in 20.1 s"
reason:
  description: Why the verdict is what it is.
  returned: always
  type: str
  sample: mean 0.031 s is under 3 s; p95 0.21 s is under 30 s
mean_seconds:
  description: Mean of the window. Null without requests.
  returned: always
  type: float
  sample: 0.031
quantiles:
  description: Each quantile with C(seconds) and whether it is C(at_least) that. Null without requests.
  returned: always
  type: dict
  sample: {"0.95": {"seconds": 0.21, "at_least": false}}
count:
  description: Number of requests in the window.
  returned: always
  type: float
  sample: 412.0
comparisons:
  description: Every comparison. C(what) was compared, the limit in seconds, its verdict, and the reason.
  returned: always
  type: list
  elements: dict
  sample: [{"what": "mean", "limit": 3.0, "verdict": "pass", "reason": "mean 0.031 s is under 3 s"}]
samples:
  description: Every reading. Seconds after the first one, requests so far and their mean, or what went wrong.
  returned: always
  type: list
  elements: dict
  sample: [{"at": 0.0, "count": 0.0, "mean_seconds": null}, {"at": 2.0, "count": 40.0, "mean_seconds": 0.03}]
restarts:
  description: How often a process was seen to begin anew.
  returned: always
  type: int
  sample: 0
since_start:
  description: Whether the counts go back to the beginning of a process.
  returned: always
  type: bool
  sample: false
query:
  description: What was measured, as PromQL.
  returned: always
  type: list
  elements: str
  sample:
    - sum(increase(m_sum[20s])) / sum(increase(m_count[20s]))
    - histogram_quantile(0.95, sum by (le) (increase(m_bucket[20s])))
seconds:
  description: Seconds used.
  returned: always
  type: float
  sample: 20.1
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import scrape
from ansible_collections.sparklio.rollback.plugins.module_utils.latency import ARGUMENT_SPEC, prepare


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        mutually_exclusive=scrape.EXCLUSIVE,
        required_together=scrape.TOGETHER,
        supports_check_mode=True,
    )
    try:
        measure = prepare(module.params)
    except ValueError as exc:
        module.fail_json(msg=f"These settings can't be used: {exc}.")
    module.exit_json(changed=False, **measure())


if __name__ == "__main__":
    main()
