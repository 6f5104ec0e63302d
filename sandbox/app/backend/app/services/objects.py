"""Asset bodies, on any S3 server."""

import io
from functools import cache
from urllib.parse import urlsplit

import urllib3
from minio import Minio

from app.settings import settings


@cache
def client() -> Minio:
    """Made at the first use: the backend starts while S3 is away. Few retries, so that a request fails soon."""
    address = urlsplit(settings.s3_endpoint)
    pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=1, read=5), retries=urllib3.Retry(1))
    return Minio(
        address.netloc,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
        region=settings.s3_region,
        secure=address.scheme == "https",
        http_client=pool,
    )


def put(key: str, body: bytes, content_type: str) -> None:
    client().put_object(settings.s3_bucket, key, io.BytesIO(body), len(body), content_type=content_type)


def get(key: str) -> bytes:
    answer = client().get_object(settings.s3_bucket, key)
    try:
        return answer.read()
    finally:
        answer.close()
        answer.release_conn()


def ensure_bucket() -> None:
    if not client().bucket_exists(settings.s3_bucket):
        client().make_bucket(settings.s3_bucket)
