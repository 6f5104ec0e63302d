#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_snapshot
short_description: Keep the models of an Ollama under tags of their own
version_added: "0.1.0"
description:
  - A tag of Ollama can come to mean another model, a digest can't. So each model gets a second tag,
    C(<name>-backup-<id>), which no pull moves. Both share their data, so it costs no disk.
  - Tags of that id that are there already are somebody else's, such as those of another host which began a backup in
    the same second. They stay, and those of this one bear the next number. What is made is noted beside O(dest) before,
    in the restore point, so that only that is ever removed.
  - Names, digests and sizes are written to C(models.json). Works over Ollama's API, without a login on its host.
options:
  state:
    description: V(present) makes the tags for O(id), V(absent) removes those with O(marks), and never any other.
    type: str
    choices: [present, absent]
    default: present
  url:
    description: Address of Ollama.
    type: str
    required: true
  id:
    description: The restore point; part of each tag. Required with O(state=present).
    type: str
  marks:
    description: With O(state=absent), what the tags bear that are removed, as restore points name it.
    type: list
    elements: str
    default: []
  dest:
    description: Directory for C(models.json), in the restore point that is being made. Required with O(state=present).
    type: path
  timeout:
    description: Seconds that each answer may take.
    type: float
    default: 10
attributes:
  check_mode:
    support: full
    description: Lists the models, and changes nothing.
  diff_mode:
    support: none
    description: There is nothing to compare.
author:
  - Sparklio infrastructure team (@sparklio)
"""

EXAMPLES = r"""
- name: Keep the models
  sparklio.rollback.ollama_snapshot:
    url: http://100.123.51.5:11434
    id: "{{ point.id }}"
    dest: "{{ point.partial }}/ollama"
"""

RETURN = r"""
artifact:
  description: >-
    The artifact for the manifest. Its C(meta) holds C(server), C(version), C(mark), which the tags bear (O(id), or the
    same with another number), and C(models), each with C(name), C(digest), C(size) in bytes and C(copy), the tag that
    keeps it.
  returned: state is present
  type: dict
  sample:
    name: ollama
    type: ollama
    path: ollama
    size: 310
    seconds: 0.2
    files: [{path: ollama/models.json, size: 310, sha256: 9b1c…}]
    meta:
      server: http://100.123.51.5:11434
      version: 0.5.4
      mark: 20250115T070000Z-deploy
      models:
        - {name: 'qwen2.5:7b', digest: b03a…, size: 4683087332, copy: 'qwen2.5:7b-backup-20250115T070000Z-deploy'}
removed:
  description: The tags that were removed.
  returned: state is absent
  type: list
  elements: str
"""

import json
import os
import time
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sparklio.rollback.plugins.module_utils import _manifest, _ollama, fetch, restore_points
from ansible_collections.sparklio.rollback.plugins.module_utils._mask import mask

_MOST = 16 << 20


class OllamaError(Exception):
    """Ollama says no, or nothing."""


class Ollama:
    def __init__(self, url: str, timeout: float) -> None:
        self.url, self.timeout = url.rstrip("/"), timeout
        self.shown = mask(self.url)

    def ask(self, method: str, path: str, data: Optional[dict[str, Any]] = None) -> Any:
        """Return what it answers, parsed; None for nothing."""
        body = None if data is None else json.dumps(data).encode()
        headers = {"Content-Type": "application/json"} if data is not None else {}
        try:
            with fetch.send(method, self.url + path, self.timeout, _MOST, headers, body=body) as response:
                status, text = response.status, response.body()
            if status >= 300:
                raise OllamaError(f"{self.shown} answered {status} to {method} {path}")
            return json.loads(text) if text.strip() else None
        except fetch.FetchError as exc:
            raise OllamaError(str(exc)) from exc
        except ValueError as exc:
            raise OllamaError(f"{self.shown} does not answer {path} as Ollama does") from exc

    def models(self) -> list[dict[str, Any]]:
        try:
            return _ollama.models(self.ask("GET", "/api/tags"))
        except ValueError as exc:
            raise OllamaError(f"{self.shown} does not answer as Ollama does: {exc}") from exc


def present(params: dict[str, Any], check: bool) -> dict[str, Any]:
    started = time.monotonic()
    server = Ollama(params["url"], params["timeout"])
    version = (server.ask("GET", "/api/version") or {}).get("version", "unknown")
    found = server.models()
    partial = os.path.dirname(params["dest"].rstrip("/"))
    mark = restore_points.noted(partial).get("ollama") or _ollama.free_mark(found, params["id"])
    wanted = [{**item, "copy": _ollama.copy_name(item["name"], mark)} for item in _ollama.own(found)]
    if not check:
        restore_points.note(partial, "ollama", mark)
        for item in wanted:
            server.ask("POST", "/api/copy", {"source": item["name"], "destination": item["copy"]})
        digests = {item["name"]: item["digest"] for item in server.models()}
        for item in wanted:
            if item["copy"] not in digests:
                raise OllamaError(f"{server.shown} said that it copied {item['name']}, and does not list the copy")
            # The tag may have come to mean another model since it was listed; the copy is what can be restored.
            item["digest"] = digests[item["copy"]]
        restore_points.write(os.path.join(params["dest"], "models.json"), {"version": version, "models": wanted})
    meta = {"server": server.shown, "version": version, "mark": mark, "models": wanted}
    return {"artifact": restore_points.artifact("ollama", params["dest"], meta, time.monotonic() - started)}


def absent(params: dict[str, Any], check: bool) -> dict[str, Any]:
    server = Ollama(params["url"], params["timeout"])
    gone = [item["name"] for item in server.models() if _ollama.copied_for(item["name"]) in params["marks"]]
    for name in [] if check else gone:
        server.ask("DELETE", "/api/delete", {"model": name})
    return {"removed": gone}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "url": {"type": "str", "required": True},
            "id": {"type": "str"},
            "marks": {"type": "list", "elements": "str", "default": []},
            "dest": {"type": "path"},
            "timeout": {"type": "float", "default": 10},
        },
        required_if=[("state", "present", ["id", "dest"]), ("state", "absent", ["marks"])],
        supports_check_mode=True,
    )
    params = module.params
    is_present = params["state"] == "present"
    for name in [params["id"]] if is_present else params["marks"]:
        if not _manifest.is_id(name):
            module.fail_json(msg=f"{name!r} is not the id of a restore point, such as 20250115T050000Z-deploy.")
    try:
        result = (present if is_present else absent)(params, module.check_mode)
    except (OllamaError, restore_points.RestorePointError) as exc:
        what = "were not kept" if is_present else "of old restore points were not removed"
        module.fail_json(msg=f"The tags of Ollama's models {what}: {exc}.")
    except OSError as exc:
        module.fail_json(msg=f"{params['dest']} can't be written: {exc.strerror}. Free some space there.")
    module.exit_json(changed=is_present or bool(result["removed"]), **result)


if __name__ == "__main__":
    main()
