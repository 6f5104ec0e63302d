#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: metric_watch
short_description: Watch a release for a while, window after window, and say what came of it
version_added: "0.1.0"
description:
  - Reads the metrics and the host's load at the end of each window, judges what grew since the reading before, and
    shows a line of progress for it. Ends with the first breach, otherwise after O(duration).
  - A window is bad when the whole interval of its error rate or of its agent failures is over the limit, or when its
    latency or the host's load reaches a limit. It is good when there were enough requests and nothing of that holds.
  - With fewer than O(limits.min_requests) requests it is inconclusive, counts as neither, and is judged together with
    the next one. A reading that fails is an error, with limits of its own.
  - Counters start anew with a process; that is recognised, and shown as a restart.
  - The series is kept on the host, in C(monitor/<id>.jsonl) of the state directory, complete after each window. A watch
    that was cut off goes on when it is started again for the same release. What grew while nobody watched is one window
    too, marked as a gap, which can be bad but never good, and whose time does not count.
  - The controller waits between the windows; on the host each reading is a short module call.
options:
  app_root:
    description: >-
      The application's clone. What it has checked out is the release that is watched; the watch ends when that changes.
    type: path
    required: true
  state_dir:
    description: State directory on the host.
    type: path
    required: true
  watch:
    description: A watch to take the next reading of. Set between the windows; leave it out.
    type: str
  restart:
    description: Whether to begin anew although a watch of this release was cut off.
    type: bool
    default: false
  resume_within:
    description: A watch whose last reading is older than so many seconds is not continued.
    type: float
    default: 3600
  duration:
    description: Seconds to watch.
    type: float
    default: 1800
  window:
    description: Seconds of a window.
    type: float
    default: 30
  until:
    description: Whether to watch to the end, or only until the release has recovered.
    type: str
    choices: [end, recovered]
    default: end
  recovered_after:
    description: So many good windows in a row are a recovery.
    type: int
    default: 5
  bad_in_row:
    description: So many bad windows without a good one in between are a breach.
    type: int
    default: 3
  bad_total:
    description: So many bad windows in all are a breach.
    type: int
    default: 6
  errors_in_row:
    description: After so many readings in a row that failed the watch is given up.
    type: int
    default: 4
  errors_total:
    description: After so many readings in all that failed the watch is given up.
    type: int
    default: 10
extends_documentation_fragment:
  - sparklio.rollback.metrics
  - sparklio.rollback.readings
attributes:
  check_mode:
    support: full
    description: Takes one reading, shows that it can be judged, and keeps nothing.
  diff_mode:
    support: none
    description: Nothing but its own series is written.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Watch what serves for half an hour
  sparklio.rollback.metric_watch:
    app_root: ~/sparklio_ai_marketing_studio
    state_dir: ~/sparklio_ai_marketing_studio.rollback
    urls: [http://127.0.0.1:8000/metrics]
    selector: endpoint!~"/metrics|/health"
  register: watch

- name: Only until it has recovered, with stricter limits and without the load
  sparklio.rollback.metric_watch:
    app_root: ~/sparklio_ai_marketing_studio
    state_dir: ~/sparklio_ai_marketing_studio.rollback
    urls: [http://127.0.0.1:8000/metrics]
    until: recovered
    limits: {error_rate_percent: 2, mean_seconds: 1}
"""

RETURN = r"""
outcome:
  description: C(good), C(breached), C(inconclusive) or C(error); none in check mode, where nothing was watched.
  type: str
  returned: success
  sample: good
why:
  description: What decided, in one line.
  type: str
  returned: success
  sample: 57 of 60 windows were good, 1 bad, 2 undecided, 0 not readable
watch:
  description: Identifier of the watch.
  type: str
  returned: success
  sample: 20250115-160231
path:
  description: File on the host with the series.
  type: str
  returned: success
release:
  description: What was watched.
  type: dict
  returned: success
  sample: {commit: 3f2a9c5e41b07d68a1c2, tag: v4.0.20250115-1430}
began:
  description: When the watch began, in seconds since the epoch.
  type: float
  returned: success
continued:
  description: Whether an earlier watch was continued.
  type: bool
  returned: success
recovered_at:
  description: Seconds after its begin at which it had recovered, and stayed so; else none.
  type: float
  returned: success
  sample: 150.1
tally:
  description: How many windows were good, bad, inconclusive or an error, in all and in a row.
  type: dict
  returned: success
windows:
  description: All windows with their figures and breaches, oldest first.
  type: list
  elements: dict
  returned: success
limits:
  description: The limits that were used.
  type: dict
  returned: success
baseline:
  description: The baseline that was compared with, or none.
  type: dict
  returned: success
left:
  description: Seconds until the end.
  type: float
  returned: success
"""

import contextlib
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
from ansible_collections.sparklio.rollback.plugins.module_utils.git import GitError

RULES = {
    "duration": {"type": "float", "default": 1800},
    "window": {"type": "float", "default": 30},
    "until": {"type": "str", "choices": ["end", "recovered"], "default": "end"},
    "recovered_after": {"type": "int", "default": 5},
    "bad_in_row": {"type": "int", "default": 3},
    "bad_total": {"type": "int", "default": 6},
    "errors_in_row": {"type": "int", "default": 4},
    "errors_total": {"type": "int", "default": 10},
}


def unfinished(
    store: watches.Store, rules: _watch.Rules, commit: str, within: float, warnings: list[str]
) -> tuple[str, _watch.Watch] | None:
    """Return the newest watch where it was cut off, is of this release and not too old."""
    name = store.newest()
    if name is None:
        return None
    try:
        watch = store.load(name, rules)
    except _watch.WatchError as exc:
        warnings.append(f"{exc}; a new watch begins")
        return None
    seen = watch.attempt.at if watch.attempt else watch.head["began"]
    if watch.end or watch.head["release"]["commit"] != commit or abs(time.time() - seen) > within:
        return None
    return name, watch


def begin(module: AnsibleModule, release: dict[str, Any], rules: _watch.Rules) -> _watch.Watch:
    baseline = _baseline.choose(baselines.every(module.params["state_dir"]), release["commit"])
    return _watch.Watch({"began": round(time.time(), 3), "release": release, "baseline": baseline}, rules)


def step(
    watch: _watch.Watch, source: readings.Source, release: dict[str, Any], limits: _watch.Limits, warnings: list[str]
) -> dict[str, Any] | None:
    """Take the next reading, and return the window that it ends, if any; close the watch where it is over.

    Raises:
        NothingToMeasure, ExpositionError: the first reading shows that nothing can be measured there.
    """
    now = time.time()
    was = watch.head["release"]
    if was["commit"] != release["commit"]:
        names = watches.name_of(release), watches.name_of(was)
        why = f"{names[0]} was checked out while {names[1]} was being watched; start a new watch"
        watch.close("inconclusive", why, now)
        return None
    try:
        if watch.reading is None:
            reading, found = source.first()
            warnings += found
        else:
            reading = source.take()
    except (scrape.NothingToMeasure, ExpositionError, fetch.FetchError) as exc:
        if watch.reading is None and not isinstance(exc, fetch.FetchError):
            raise
        window: dict[str, Any] | None = watch.miss(_watch.Instant(now, time.monotonic()), str(exc))
    else:
        baseline = watch.head["baseline"] or {}
        window = watch.observe(reading, limits, source.failed_request, source.failed_run, baseline.get("mean_seconds"))
    if watch.mixed:
        raise scrape.NothingToMeasure(scrape.MIXED)
    verdict = watch.verdict()
    if verdict:
        watch.close(*verdict, now)
    return window


def shown(window: dict[str, Any] | None) -> dict[str, Any] | None:
    return window and {key: value for key, value in window.items() if key != "counts"}


def run(module: AnsibleModule, source: readings.Source, rules: _watch.Rules, limits: _watch.Limits) -> dict[str, Any]:
    params = module.params
    store = watches.Store(params["state_dir"])
    warnings: list[str] = []
    release = watches.release_of(params["app_root"])
    guard = contextlib.nullcontext() if module.check_mode else store.guard()
    with guard:
        name, watch, found = params["watch"], None, None
        if name:
            watch = store.load(name, rules)
        elif not params["restart"]:
            found = unfinished(store, rules, release["commit"], params["resume_within"], warnings)
        if found:
            name, watch = found
        if watch is None:
            name, watch = store.new(time.time()), begin(module, release, rules)
        window, due_in = None, rules.window
        if watch.end is None:
            now = _watch.Instant(time.time(), time.monotonic())
            since = _watch.elapsed(watch.attempt, now) if watch.attempt else rules.window
            if found and since < rules.window:
                due_in = rules.window - since
            else:
                window = step(watch, source, release, limits, warnings)
        if not module.check_mode:
            store.save(name, watch)
    for text in warnings:
        module.warn(text)
    tally = watch.tally()
    return {
        "watch": name,
        "path": store.path(name),
        "release": watch.head["release"],
        "began": watch.head["began"],
        "baseline": watch.head["baseline"],
        "continued": found is not None,
        "window": shown(window),
        "windows": [] if params["watch"] else [shown(item) for item in watch.windows],
        "tally": tally._asdict(),
        "recovered_at": tally.recovered_at,
        "limits": limits._asdict(),
        "left": round(watch.left, 3),
        "due_in": round(due_in, 3),
        "over": watch.end is not None,
        "outcome": watch.end["outcome"] if watch.end else None,
        "why": watch.end["why"] if watch.end else "",
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **scrape.SPEC,
            **readings.SPEC,
            **RULES,
            "app_root": {"type": "path", "required": True},
            "state_dir": {"type": "path", "required": True},
            "watch": {"type": "str"},
            "restart": {"type": "bool", "default": False},
            "resume_within": {"type": "float", "default": 3600},
        },
        supports_check_mode=True,
        mutually_exclusive=scrape.EXCLUSIVE,
        required_together=scrape.TOGETHER,
    )
    params = module.params
    rules = _watch.Rules(**{name: params[name] for name in RULES})
    try:
        problem = _watch.rules_problem(rules)
        if problem:
            raise ValueError(problem)
        limits, source = readings.limits_of(params), readings.Source(params)
    except ValueError as exc:
        module.fail_json(msg=f"These settings can't be used: {exc}.")
    try:
        result = run(module, source, rules, limits)
    except (scrape.NothingToMeasure, ExpositionError) as exc:
        module.fail_json(msg=f"Nothing can be watched: {exc}.")
    except GitError as exc:
        module.fail_json(msg=f"{params['app_root']} can't be read as the application's clone: {exc}.")
    except _watch.WatchError as exc:
        module.fail_json(msg=f"The watch can't go on: {exc}. Begin anew with -e monitor_restart=true.")
    except OSError as exc:
        module.fail_json(msg=f"The series can't be kept in {params['state_dir']}: {exc.strerror or exc}.")
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
