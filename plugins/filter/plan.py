# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin filters over the pure functions that plan and sum up a rollback."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.sparklio.rollback.plugins.module_utils import (
    _config,
    _plan,
    _schema_plan,
    _settings,
    _summary,
)


def level1_plan(facts):
    try:
        return _plan.level1(facts)
    except (KeyError, TypeError) as exc:
        raise AnsibleFilterError(f"sparklio.rollback.level1_plan lacks a fact: {exc}") from exc


def level2_plan(facts):
    try:
        return _config.level2(facts)
    except (KeyError, TypeError) as exc:
        raise AnsibleFilterError(f"sparklio.rollback.level2_plan lacks a fact: {exc}") from exc


def level3_plan(facts):
    try:
        return _schema_plan.level3(facts)
    except (KeyError, TypeError) as exc:
        raise AnsibleFilterError(f"sparklio.rollback.level3_plan lacks a fact: {exc}") from exc


def setting_problems(given, takes_back=False):
    return _settings.problems(given, takes_back)


class FilterModule:
    def filters(self):
        return {
            "level1_plan": level1_plan,
            "level2_plan": level2_plan,
            "level3_plan": level3_plan,
            "setting_problems": setting_problems,
            "refusal_line": _plan.refusal_line,
            "plan_lines": _plan.plan_lines,
            "outcome": _summary.outcome,
            "outcome_of_hosts": _summary.of_hosts,
            "summary_lines": _summary.lines,
        }
