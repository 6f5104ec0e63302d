#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: metric_error_rate
short_description: Judge the share of bad requests by the counters of metrics endpoints or of a Prometheus server
version_added: "0.1.0"
description:
  - Judges which share of a counter's increase is bad. The counter is read from one or several metrics endpoints again
    and again, or from what a Prometheus server has stored.
  - The increase is taken for each series by itself and survives a restart of the process.
  - V(pass) when the rate lies under O(threshold_percent), V(fail) when it lies over it, V(inconclusive) when the
    requests are too few to tell. It answers as soon as the evidence decides. From endpoints it takes five readings
    at the least, within a second; from Prometheus one query may do.
  - V(error) when there is nothing to measure by. The endpoint is down, answers something else, has no such metric,
    or several processes take turns behind it; or Prometheus can not scrape the process now.
  - A verdict is a result. The module fails only on settings that make no sense.
extends_documentation_fragment: sparklio.rollback.metrics
options:
  urls:
    description: Addresses of C(/metrics), one for each process. Several are summed. Either this or O(prometheus_url).
    type: list
    elements: str
    required: false
    aliases: [url]
  prometheus_url:
    description:
      - Address of a Prometheus server, or of what has its HTTP API, with the path before C(/api/v1) if there is one.
      - O(bad) and O(total) may then name the labels of the target, such as C(job) and C(instance).
      - The window then lies before the beginning of the measurement, and is answered from at once if that decides.
        O(window) should hold three scrapes or more.
    type: str
  metric:
    description: Name of the counter.
    type: str
    default: sparklio_http_requests_total
  bad:
    description:
      - Which of the counted series are bad, as in PromQL.
      - A series that does not exist counts as none. Counters with labels do not exist before their first use.
    type: str
    default: status_code=~"5.."
  total:
    description: Which series are counted at all, as in PromQL. The empty string counts all.
    type: str
    default: ""
  threshold_percent:
    description: The rate that is too high, in percent, over 0 and under 100.
    type: float
    default: 5
  min_requests:
    description: Below so many requests there is no verdict.
    type: int
    default: 20
  max_wrong_percent:
    description:
      - Chance of a wrong verdict, in percent, over 0 and under 50. It bounds the chance of V(pass) at a rate that is
        too high, and that of V(fail) at one that is not, whatever the rate and however often the evidence is looked at.
      - It takes requests that succeed or fail independently of each other, as every such bound does.
    type: float
    default: 1
  confidence_percent:
    description: Confidence of the interval that is shown. It has to be clear of the threshold for a verdict, too.
    type: float
    default: 95
  window:
    description: Seconds to observe.
    type: float
    default: 60
  deadline:
    description:
      - Seconds after which the module answers in any case. By default as long as O(window).
      - With O(prometheus_url) it goes on so long where the stored window does not decide; V(0) asks once.
    type: float
  interval:
    description: Seconds between two readings.
    type: float
    default: 2
  fresh_process:
    description:
      - A process that began at most so many seconds before the first reading is counted from its beginning, where its
        counters were 0. Else the first reading is the origin.
      - V(0) always takes the first reading as the origin, as does a clock that is set during the measurement. One that
        was set back after the process had begun can make it look fresher than it is.
    type: float
    default: 0
notes:
  - With 0 bad requests, a threshold of 5 % and a chance of 1 % to be wrong, V(pass) takes 90 requests at the deadline
    and about 120 at the beginning.
  - How the error of repeated looks is kept in bounds is told, with its sources, in C(module_utils/_error_rate.py).
  - Two processes behind one port are told by C(process_start_time_seconds), by the C(_created) of the counter, since
    the workers of one server often begin in the same clock tick, or by counters that fall.
    Five readings miss two that answer equally often once in 16 times; later ones make up for it where the traffic does
    not decide at once. One process that answers alone is counted rightly, it is only not all.
  - Counts are made from the samples that Prometheus has stored. They differ a little from C(increase()) in RV(query),
    which extrapolates to the ends of the window and leaves out the value that a series begins with.
attributes:
  check_mode:
    support: full
    description: The module changes nothing, so it does the same.
  diff_mode:
    support: none
    description: There is nothing to compare.
seealso:
  - name: Prometheus HTTP API
    description: Instant queries, which this module asks.
    link: https://prometheus.io/docs/prometheus/latest/querying/api/
  - name: Prometheus query functions
    description: How increase() extrapolates.
    link: https://prometheus.io/docs/prometheus/latest/querying/functions/#increase
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Measure the errors since the backend was started, for 30 seconds at the most
  sparklio.rollback.metric_error_rate:
    urls: [http://127.0.0.1:8000/metrics]
    total: endpoint!~"/health|/metrics"
    window: 20
    deadline: 30
    fresh_process: 300
  register: error_rate

- name: Measure the failures of agent runs
  sparklio.rollback.metric_error_rate:
    urls: [http://127.0.0.1:8000/metrics]
    metric: sparklio_agent_executions_total
    bad: status=~"error|timeout"
    threshold_percent: 20

- name: Judge the last five minutes by what Prometheus has stored, at once
  sparklio.rollback.metric_error_rate:
    prometheus_url: https://prometheus.example.org
    bearer_token_file: /etc/sparklio/prometheus.token
    total: job="sparklio"
    window: 300
    deadline: 0
"""

RETURN = r"""
verdict:
  description: V(pass), V(fail), V(inconclusive) or V(error).
  returned: always
  type: str
  sample: pass
evidence:
  description: What was measured, in one line.
  returned: always
  type: str
  sample: "0 of 214 bad = 0.00 % (95 % interval 0.00 to 1.76 %), threshold 5 %; 7 readings in 4.1 s"
reason:
  description: Why the verdict is what it is.
  returned: always
  type: str
  sample: the interval is under the threshold
rate_percent:
  description: Bad of total, in percent. Null without requests.
  returned: always
  type: float
  sample: 0.0
interval_percent:
  description: Ends of the rate's interval at O(confidence_percent), in percent (Wilson). Null without a reading.
  returned: always
  type: list
  elements: float
  sample: [0.0, 1.76]
threshold_percent:
  description: As given.
  returned: always
  type: float
  sample: 5.0
counts:
  description: Increase over all series, C(bad) and C(total).
  returned: always
  type: dict
  sample: {"bad": 0.0, "total": 214.0}
limits:
  description:
    - What the last look at the evidence asked for. C(pass_at_most) is the number of bad requests up to which it would
      pass, C(fail_from) that from which it would fail. Null where no number would do.
  returned: always
  type: dict
  sample: {"pass_at_most": 3, "fail_from": 23}
samples:
  description:
    - Every reading. Seconds after the first one, the counts so far, or what went wrong.
    - With O(prometheus_url) every query, and the counts of the window up to then.
  returned: always
  type: list
  elements: dict
  sample: [{"at": 0.0, "bad": 0.0, "total": 12.0}, {"at": 2.0, "bad": 0.0, "total": 80.0}]
restarts:
  description: How often a process was seen to begin anew.
  returned: always
  type: int
  sample: 0
since_start:
  description: Whether the counts go back to the beginning of the process.
  returned: always
  type: bool
  sample: true
query:
  description: What was measured, as PromQL.
  returned: always
  type: str
  sample: 'sum(increase(m{status_code=~"5.."}[20s])) / sum(increase(m[20s]))'
seconds:
  description: Seconds used.
  returned: always
  type: float
  sample: 6.1
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import scrape
from ansible_collections.sparklio.rollback.plugins.module_utils.error_rate import ARGUMENT_SPEC, prepare


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        mutually_exclusive=[*scrape.EXCLUSIVE, ("urls", "prometheus_url")],
        required_one_of=[("urls", "prometheus_url")],
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
