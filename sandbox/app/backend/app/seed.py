"""First data for an empty database: python -m app.seed [--scale N]. A second run adds nothing."""

import argparse
import logging

from minio.error import MinioException
from sqlalchemy import func, select
from urllib3.exceptions import HTTPError

from app.database import SessionLocal
from app.models import Agent, Asset, Brand, User, Workflow
from app.services import objects

log = logging.getLogger("sparklio.seed")
AGENTS = {
    "copywriter": "Write a short advertisement",
    "strategist": "Propose a campaign in three steps",
    "designer": "Describe a key visual",
    "reviewer": "Check the text against the brand's tone",
}
TONES = ("warm and plain", "bold", "playful", "precise")
PIXEL = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><rect width="64" height="64" fill="#%06x"/></svg>'
)


def embedding(number: int) -> list[float]:
    return [((number * 37 + place * 11) % 100) / 100 for place in range(8)]


def seed(scale: int) -> bool:
    with SessionLocal() as session:
        if session.scalar(select(func.count(User.id))):
            return False
        users = [User(email=f"User{n}@example.com", name=f"User {n}") for n in range(1, 10 * scale + 1)]
        session.add_all(users)
        session.add_all(Agent(name=name, instructions=text) for name, text in AGENTS.items())
        session.flush()
        brands = [
            Brand(owner_id=users[n % len(users)].id, name=f"Brand {n}", tone=TONES[n % 4], embedding=embedding(n))
            for n in range(1, 20 * scale + 1)
        ]
        session.add_all(brands)
        session.flush()
        session.add_all(
            Workflow(brand_id=brands[n % len(brands)].id, workflow_type="campaign", status="completed")
            for n in range(50 * scale)
        )
        try:
            objects.ensure_bucket()
            for brand in brands[:10]:
                body, key = PIXEL % (brand.id * 7919 % 0xFFFFFF), f"brands/{brand.id}/logo.svg"
                objects.put(key, body, "image/svg+xml")
                session.add(Asset(brand_id=brand.id, object_key=key, content_type="image/svg+xml", size=len(body)))
        except (MinioException, HTTPError) as problem:
            log.warning("no assets: the object store is away (%s)", type(problem).__name__)
        session.commit()
    return True


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=int, default=1)
    log.info("seeded" if seed(parser.parse_args().scale) else "nothing to do: there is data")
