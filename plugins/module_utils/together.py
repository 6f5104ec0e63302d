# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several checks in one module, all at once: each takes its own options, and none can spoil another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

Measure = Callable[[], dict[str, Any]]


def without_secrets(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The options that may be among those of another module, which would show them."""
    return {
        name: {**given, "options": without_secrets(given["options"])} if "options" in given else given
        for name, given in spec.items()
        if not given.get("no_log")
    }


def validated(spec: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with their defaults, as a module of its own would get them; those with a secret are None.

    Raises:
        ValueError: they can't be used.
    """
    checked = ArgumentSpecValidator(without_secrets(spec)).validate(options)
    if checked.error_messages:
        raise ValueError("; ".join(checked.error_messages))
    return {**dict.fromkeys(spec), **checked.validated_parameters}


def together(measures: Mapping[str, Measure]) -> dict[str, dict[str, Any]]:
    """Return what all of them answer."""
    with ThreadPoolExecutor(max_workers=len(measures) or 1) as pool:
        begun = {name: pool.submit(measure) for name, measure in measures.items()}
    found = {}
    for name, future in begun.items():
        problem = future.exception()
        found[name] = (
            {"verdict": "error", "evidence": f"the measurement itself broke: {problem!r}"}
            if problem
            else future.result()
        )
    return found
