#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: metric_baseline
short_description: Store how a release performs while all is well, or read it
version_added: "0.1.0"
description:
  - With O(state=present) it measures what serves for O(window) seconds, or takes a watch that ended well, and stores
    the figures as C(baselines/<commit>.json) in the state directory. Later measurements compare their latency with it.
  - It stores nothing unless that time is proven good. The whole interval of the error rate must be under the limit, and
    no other limit may be reached. RV(verdict) and RV(evidence) say why not.
  - With O(state=read) it returns what was stored.
options:
  state:
    description: Whether to measure and store, or to read.
    type: str
    choices: [present, read]
    default: present
  state_dir:
    description: State directory on the host.
    type: path
    required: true
  app_root:
    description: The application's clone, whose checked out commit is meant where no other is named.
    type: path
  commit:
    description: With O(state=read), the full id of a commit.
    type: str
  or_newest:
    description: With O(state=read), whether the newest baseline of another commit will do where this one has none.
    type: bool
    default: false
  urls:
    description: Addresses of C(/metrics), one for each process. Required to measure.
    type: list
    elements: str
    required: false
    aliases: [url]
  window:
    description: Seconds to measure.
    type: float
    default: 60
  watch:
    description: Takes the figures of this watch of M(sparklio.rollback.metric_watch), and does not measure.
    type: str
extends_documentation_fragment:
  - sparklio.rollback.metrics
  - sparklio.rollback.readings
attributes:
  check_mode:
    support: full
    description: It measures, and stores nothing.
  diff_mode:
    support: full
    description: Shows the figures before and after.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Measure a release that is good for a minute
  sparklio.rollback.metric_baseline:
    app_root: ~/sparklio_ai_marketing_studio
    state_dir: ~/sparklio_ai_marketing_studio.rollback
    urls: [http://127.0.0.1:8000/metrics]
    selector: endpoint!~"/metrics|/health"
  register: baseline
  failed_when: not baseline.stored

- name: Read it
  sparklio.rollback.metric_baseline:
    state: read
    state_dir: ~/sparklio_ai_marketing_studio.rollback
    commit: 3f2a9c5e41b07d68a1c2f4e5d6b7a8c9d0e1f203
    or_newest: true
"""

RETURN = r"""
baseline:
  description: >-
    The figures: C(version), C(commit), C(tag), C(made_at), C(window_seconds), C(requests), C(error_rate_percent),
    C(mean_seconds), C(quantiles), C(agent_failure_percent), C(cpu_percent), C(memory_percent). None where none is
    stored, or nothing could be measured.
  type: dict
  returned: success
latency:
  description: The same latencies as the option O(sparklio.rollback.metric_latency#module:baseline) takes them, or none.
  type: dict
  returned: success
  sample: {mean: 0.12, quantiles: {'0.5': 0.08, '0.95': 0.4, '0.99': 0.9}}
stored:
  description: Whether it is stored now.
  type: bool
  returned: success
own:
  description: With O(state=read), whether it is that of the commit itself.
  type: bool
  returned: success
path:
  description: The file, or none.
  type: str
  returned: success
verdict:
  description: C(pass) where that time was good; else C(fail), C(inconclusive) or C(error), and nothing is stored.
  type: str
  returned: state is present
evidence:
  description: Why, in one line.
  type: str
  returned: state is present
"""

import json
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import (
    _baseline,
    _watch,
    baselines,
    fetch,
    readings,
    scrape,
    watches,
)
from ansible_collections.sparklio.rollback.plugins.module_utils._exposition import ExpositionError
from ansible_collections.sparklio.rollback.plugins.module_utils._verdict import one_line
from ansible_collections.sparklio.rollback.plugins.module_utils.git import GitError


def from_watch(state_dir: str, name: str, limits: _watch.Limits) -> tuple[dict[str, Any] | None, str, str]:
    """Return the figures of a watch that ended well, with verdict and evidence."""
    watch = watches.Store(state_dir).load(name, _watch.Rules())
    if not watch.end or watch.end["outcome"] != "good":
        ended = f"ended as {watch.end['outcome']}" if watch.end else "is not over"
        return None, "inconclusive", f"watch {name} {ended}"
    counts, seconds, load = watch.total()
    verdict, evidence = _baseline.judge(counts, load, limits)
    return _baseline.make(watch.head["release"], time.time(), seconds, counts, load), verdict, evidence


def measure(
    source: readings.Source, release: dict[str, Any], window: float, limits: _watch.Limits
) -> tuple[dict[str, Any] | None, str, str]:
    """Measure for a while, and return the figures with verdict and evidence."""
    try:
        before, _warnings = source.first()
        time.sleep(window)
        after = source.take()
    except (scrape.NothingToMeasure, ExpositionError, fetch.FetchError) as exc:
        return None, "error", one_line(exc)
    counts, restarts = _watch.grown(before, after, source.failed_request, source.failed_run)
    load = _watch.load_between(before, after)
    verdict, evidence = _baseline.judge(counts, load, limits)
    if restarts and verdict == "pass":
        verdict, evidence = "inconclusive", "the process was replaced meanwhile; measure again"
    seconds = _watch.elapsed(before.instant, after.instant)
    return _baseline.make(release, time.time(), seconds, counts, load), verdict, evidence


def for_latency(baseline: dict[str, Any] | None) -> dict[str, Any] | None:
    if baseline is None:
        return None
    quantiles = {name: value for name, value in (baseline.get("quantiles") or {}).items() if value is not None}
    return {"mean": baseline["mean_seconds"], "quantiles": quantiles}


def read(params: dict[str, Any]) -> dict[str, Any]:
    state_dir = params["state_dir"]
    commit = params["commit"] or watches.release_of(params["app_root"])["commit"]
    found = baselines.load(baselines.path_of(state_dir, commit))
    if found is None and params["or_newest"]:
        found = _baseline.choose(baselines.every(state_dir), commit)
    return {
        "baseline": found,
        "latency": for_latency(found),
        "stored": found is not None,
        "own": found is not None and found["commit"] == commit,
        "path": baselines.path_of(state_dir, found["commit"]) if found else None,
        "changed": False,
    }


def present(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    limits = readings.limits_of(params)
    if params["watch"]:
        found, verdict, evidence = from_watch(params["state_dir"], params["watch"], limits)
    else:
        source = readings.Source(params)
        found, verdict, evidence = measure(source, watches.release_of(params["app_root"]), params["window"], limits)
    path, diff = None, {}
    good = found is not None and verdict == "pass"
    if found and good:
        path = baselines.path_of(params["state_dir"], found["commit"])
        before = baselines.load(path) or {}
        diff = {"before": json.dumps(before, indent=2) + "\n", "after": json.dumps(found, indent=2) + "\n"}
        if not module.check_mode:
            baselines.write(params["state_dir"], found)
    return {
        "baseline": found,
        "latency": for_latency(found),
        "stored": good and not module.check_mode,
        "own": found is not None,
        "path": path,
        "verdict": verdict,
        "evidence": evidence,
        "changed": good,
        "diff": diff,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **scrape.SPEC,
            **readings.SPEC,
            "urls": {**scrape.SPEC["urls"], "required": False},
            "state": {"type": "str", "choices": ["present", "read"], "default": "present"},
            "state_dir": {"type": "path", "required": True},
            "app_root": {"type": "path"},
            "commit": {"type": "str"},
            "or_newest": {"type": "bool", "default": False},
            "window": {"type": "float", "default": 60},
            "watch": {"type": "str"},
        },
        supports_check_mode=True,
        mutually_exclusive=scrape.EXCLUSIVE,
        required_together=scrape.TOGETHER,
        required_if=[("state", "present", ("urls", "watch"), True), ("state", "read", ("commit", "app_root"), True)],
        required_by={"urls": ("app_root",)},
    )
    params = module.params
    try:
        if params["state"] == "present" and not params["window"] > 0:
            raise ValueError("window must be over 0")
        result = read(params) if params["state"] == "read" else present(module)
    except ValueError as exc:
        module.fail_json(msg=f"These settings can't be used: {exc}.")
    except GitError as exc:
        module.fail_json(msg=f"{params['app_root']} can't be read as the application's clone: {exc}.")
    except _watch.WatchError as exc:
        module.fail_json(msg=f"No baseline can be taken from the watch: {exc}.")
    except OSError as exc:
        module.fail_json(msg=f"The baselines in {params['state_dir']} can't be used: {exc.strerror or exc}.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
