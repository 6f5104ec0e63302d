# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backup came to, and what changed between two restore points. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.sparklio.rollback.plugins.module_utils import _content_manifest, _manifest

_SHOWN = 8
_LEVEL2 = "ansible-playbook -i INVENTORY playbooks/level2.yml"


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _names(what: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{what} {', '.join(names[:_SHOWN])}{more}"


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say what was added, removed and changed between two mappings, by name only; nothing where they are equal."""
    found = []
    for what, names in (
        ("added", [name for name in new if name not in old]),
        ("removed", [name for name in old if name not in new]),
        ("changed", [name for name in new if name in old and old[name] != new[name]]),
    ):
        if names:
            found.append(_names(what, sorted(names)))
    return found


def _meta(manifest: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return (_manifest.artifact(manifest, name) or {}).get("meta") or {}


def tables(manifest: Mapping[str, Any]) -> dict[str, int]:
    """Rows of each table in the database's artifact."""
    found = _meta(manifest, "database").get("tables") or {}
    if isinstance(found, Mapping):
        rows = {name: item.get("rows") if isinstance(item, Mapping) else item for name, item in found.items()}
    else:
        rows = {str(item.get("name")): item.get("rows") for item in found if isinstance(item, Mapping)}
    return {name: count for name, count in rows.items() if isinstance(count, int)}


def _models(manifest: Mapping[str, Any]) -> dict[str, str]:
    return {item["name"]: item["digest"] for item in _meta(manifest, "ollama").get("models") or []}


def _content_changes(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[str]:
    """Say which tables hold as many rows as they did, and others. How many there are is said elsewhere."""
    if old is None or new is None:
        return []
    former = {_content_manifest.table_name(table): table for table in old["tables"]}
    found, unknown = [], []
    for table in new["tables"]:
        name = _content_manifest.table_name(table)
        before = former.get(name)
        if before is None:
            continue
        if before["columns"] != table["columns"]:
            found.append(f"table {name}: other columns")
        elif before["rows"] == table["rows"] and None in (before["hash"], table["hash"]):
            unknown.append(name)
        elif before["rows"] == table["rows"] and before["hash"] != table["hash"]:
            found.append(f"table {name}: other contents, {table['rows']} rows as before")
    large = old["large_objects"], new["large_objects"]
    if None not in large and large[0] != large[1]:
        found.append(f"large objects: other ones, {large[0]['rows']} -> {large[1]['rows']}")
    if unknown:
        found.append("contents are not known, since only rows were counted")
    return found


def _object_changes(old: Mapping[str, str] | None, new: Mapping[str, str] | None) -> list[str]:
    """Say how many objects came, went and have other contents. Their names are those that users gave them."""
    if old is None or new is None:
        return []
    counts = {
        "added": len([key for key in new if key not in old]),
        "removed": len([key for key in old if key not in new]),
        "with other contents": len([key for key in new if key in old and old[key] != new[key]]),
    }
    texts = [f"{count} {word}" for word, count in counts.items() if count]
    return [", ".join(texts)] if texts else []


def changes(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    keys: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {}),
    packages: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {}),
    contents: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None] = (None, None),
    etags: tuple[Mapping[str, str] | None, Mapping[str, str] | None] = (None, None),
) -> list[dict[str, str]]:
    """Say what changed from one restore point to another, each with ``what`` and ``change``. No value is in it.

    Args:
        old: the earlier manifest.
        new: the later one.
        keys: the environment files' variables in each, ``<file>: <name>`` to anything that can be compared.
        packages: names of what is installed in each, to their versions.
        contents: the content manifest of the database in each, None where there is none.
        etags: the objects' names in each, to their ETags.
    """
    found: list[dict[str, str]] = []

    def add(what: str, texts: Sequence[str]) -> None:
        found.extend({"what": what, "change": text} for text in texts)

    before, after = old["release"], new["release"]
    if before.get("commit") != after.get("commit"):
        names = [item.get("tag") or str(item.get("commit"))[:12] for item in (before, after)]
        add("release", [f"{names[0]} -> {names[1]}"])
    sizes = [{item["name"]: _bytes(item) for item in manifest["artifacts"]} for manifest in (old, new)]
    for name in sorted({*sizes[0], *sizes[1]}):
        if name not in sizes[0] or name not in sizes[1]:
            add(name, ["only in the later one" if name in sizes[1] else "only in the earlier one"])
        elif sizes[0][name] != sizes[1][name]:
            add(name, [f"{size(sizes[0][name])} -> {size(sizes[1][name])}"])
    rows = tables(old), tables(new)
    if rows[0] and rows[1]:
        counted = [
            f"{name} {rows[0].get(name, 'absent')} -> {rows[1].get(name, 'absent')} rows"
            for name in sorted({*rows[0], *rows[1]})
            if rows[0].get(name) != rows[1].get(name)
        ]
        add("database", counted)
    add("database", _content_changes(*contents))
    add("environment", difference(*keys))
    redis = [sum((_meta(manifest, "redis").get("keys") or {}).values()) for manifest in (old, new)]
    if redis[0] != redis[1]:
        add("redis", [f"{redis[0]} -> {redis[1]} keys"])
    objects = [_meta(manifest, "objects").get("objects") for manifest in (old, new)]
    if None not in objects and objects[0] != objects[1]:
        add("objects", [f"{objects[0]} -> {objects[1]} objects"])
    add("objects", _object_changes(*etags))
    if _manifest.artifact(old, "ollama") and _manifest.artifact(new, "ollama"):
        add("ollama", difference(_models(old), _models(new)))
    add("packages", difference(*packages))
    return found


def _bytes(artifact: Mapping[str, Any]) -> int:
    """Size of what an artifact stands for: of the objects, not of their list."""
    meta = artifact.get("meta") or {}
    counted = meta.get("bytes") if artifact["name"] == "objects" else None
    return counted if isinstance(counted, int) else sum(item["size"] for item in artifact["files"])


def _about(artifact: Mapping[str, Any]) -> str:
    meta = artifact.get("meta") or {}
    name = artifact["name"]
    if name == "objects":
        return f"{meta.get('objects')} objects in bucket {meta.get('snapshot')}"
    if name == "ollama":
        return f"{len(meta.get('models') or [])} models"
    if name == "redis":
        return f"{sum((meta.get('keys') or {}).values())} keys"
    if name == "database" and tables({"artifacts": [artifact]}):
        return f"{len(tables({'artifacts': [artifact]}))} tables"
    return f"{len(artifact['files'])} files" if len(artifact["files"]) != 1 else "1 file"


def age(seconds: float) -> str:
    """How long ago, as people read it."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def table(found: Mapping[str, Any]) -> list[str]:
    """The list of restore points, newest first, and what else lies there.

    Args:
        found: what ``restore_point_info`` returns.
    """
    lines = []
    for item in found["restore_points"]:
        proof = f"verified by {item['verified']['how']}" if item["verified"] else "not verified"
        runs = item["release"].get("tag") or str(item["release"].get("commit"))[:12]
        wrong = "NOT READ / 읽지 못함" if item["unread"] else "DAMAGED / 손상"
        what = f"{runs}, {', '.join(item['artifacts'])}" if item["whole"] else f"{wrong}: {item['problem']}"
        lines.append(f"{item['id']:<26} {age(item['age_seconds']):>7} {size(item['size']):>10}  {proof}; {what}")
    lines += [
        f"{item['id']:<26} {age(item['idle_seconds']):>7} {size(item['size']):>10}  unfinished, no restore point"
        for item in found["unfinished"]
    ]
    lines += [f"made by hand: {item['path']} ({item['what']}, {size(item['size'])})" for item in found["hand_made"]]
    return lines or ["There is no restore point. To make one: ansible-playbook -i INVENTORY playbooks/backup.yml"]


def outcome(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Decide what a backup came to, as the summary shows it.

    Args:
        facts: ``failure`` (a message, or none), ``check_mode``, ``point`` (``id``, ``seconds``), ``artifacts``,
            ``skipped``, ``warnings``, ``verified``, ``tag``, ``removed`` (ids), ``changes``, ``compare_to``, ``run``
            (``id``, ``dir``).
    """
    point, run = facts.get("point") or {}, facts.get("run") or {}
    result: dict[str, Any] = {
        "level": "backup",
        "run_id": run.get("id"),
        "run_dir": run.get("dir"),
        "restore_point_id": None,
        "message": "",
        "seconds": {},
        "verdicts": [],
        "details": [],
        "next": [],
        "serves": None,
    }
    if facts.get("failure"):
        text = " ".join(str(facts["failure"]).split())
        kept = "Nothing half-made is listed, and the earlier restore points are as they were."
        if point.get("path"):
            # Whatever came to light afterwards, such as damage: that it is whole is for the list to say.
            kept = (
                f"Restore point {point['id']} was made before that; what is there is listed by ansible-playbook -i "
                "INVENTORY playbooks/restore_points.yml."
            )
        return {**result, "outcome": "failed", "message": f"{text} {kept}"}
    details = [
        f"{item['name']:<12} {size(_bytes(item)):>10} {item.get('seconds') or 0:>7.1f} s  {_about(item)}"
        for item in facts.get("artifacts") or []
    ]
    details += [f"skipped: {item['name']}: {item['reason']}" for item in facts.get("skipped") or []]
    if facts.get("check_mode"):
        return {**result, "outcome": "planned", "details": details, "next": ["run it without --check"]}
    verified = facts.get("verified") or {}
    proof = f"verified by {verified['how']} in {verified['seconds']} s" if verified else "not verified"
    held = sum(_bytes(item) for item in facts.get("artifacts") or [])
    head = f"restore point / 복원 지점: {point['id']} ({size(held)} in {point.get('seconds') or 0:.1f} s, {proof})"
    tag = [f"tag: {facts['tag']}"] if facts.get("tag") else []
    warnings = [f"warning / 주의: {text}" for text in facts.get("warnings") or []]
    changed = [
        f"since {facts.get('compare_to')}: {item['what']}: {item['change']}" for item in facts.get("changes") or []
    ]
    if facts.get("compare_to") and not changed:
        changed = [f"since {facts['compare_to']}: nothing changed"]
    removed = [f"removed by retention: {name}" for name in facts.get("removed") or []]
    return {
        **result,
        "outcome": "backed_up",
        "restore_point_id": point["id"],
        "details": [head, *tag, *details, *warnings, *changed, *removed],
        "next": [f"to go back to its configuration: {_LEVEL2} -e restore_point={point['id']}"],
    }
