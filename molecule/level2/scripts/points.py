"""Run on the app host: turns the one restore point that config_snapshot made into good and bad ones with known ids."""

import hashlib
import json
import shutil
from pathlib import Path

ROOT = Path.home() / "sparklio_ai_marketing_studio"
BACKUPS = Path(f"{ROOT}.rollback/backups")
MADE = next(BACKUPS.glob("*-manual"))


def point(day, files=None, **manifest):
    """A copy of the restore point with another id, other contents of some files, and other words in its manifest."""
    place = BACKUPS / f"202501{day:02d}T000000Z-deploy"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(MADE, place)
    data = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
    data.update(id=place.name, kind="deploy", **manifest)
    for item in data["artifacts"][0]["files"]:
        path = place / item["path"]
        if files and item["target"] in files:
            path.write_bytes(files[item["target"]](path.read_bytes()))
            item.update(size=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    (place / "manifest.json").write_text(json.dumps(data, sort_keys=True), encoding="utf-8")
    return place, data


def write(place, data):
    (place / "manifest.json").write_text(json.dumps(data), encoding="utf-8")


def without(key):
    return lambda body: b"\n".join(line for line in body.split(b"\n") if not line.startswith(key))


def wrong_password(body):
    head, _, rest = body.partition(b"DATABASE_URL=postgresql://sparklio_user:")
    return head + b"DATABASE_URL=postgresql://sparklio_user:cnry-wrong-9a11" + rest[rest.index(b"@") :]


# 28: the good one, the newest that is whole and that no rollback made.
point(28)
# 29: altered, 3: cut off, 4: a file is missing.
place, _data = point(29)
kept = place / "environment/backend/.env"
kept.write_bytes(kept.read_bytes().replace(b"cnry-", b"crny-"))
place, _data = point(3)
kept = place / "environment/backend/.env"
kept.write_bytes(kept.read_bytes()[:-5])
place, _data = point(4)
(place / "environment/.env").unlink()
# 5: of a newer version, 6: with a path outside of its folder.
point(5, version=2)
place, data = point(6)
data["artifacts"][0]["files"][0]["path"] = "../../../.ssh/authorized_keys"
write(place, data)
# 7: lacks what the code needs, 8: a password that the database refuses.
point(7, {"backend/.env": without(b"DATABASE_URL=")})
point(8, {"backend/.env": wrong_password})
# 9: another NEXT_PUBLIC_*, and what ran with another tag.
release = {"commit": "0" * 40, "tag": "v4.0.20250110-0900", "branch": None}
point(9, {"frontend/.env.local": lambda body: body + b"NEXT_PUBLIC_LEVEL=two\n"}, release=release)
# One that was never finished.
shutil.copytree(BACKUPS / "20250128T000000Z-deploy", BACKUPS / ".partial-20250120T000000Z-deploy")
# What people make by hand.
for name in (".env", "backend/.env", "frontend/.env.local"):
    shutil.copyfile(ROOT / name, ROOT / f"{name}.backup.20250115_140000")
shutil.rmtree(MADE)
