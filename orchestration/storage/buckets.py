"""Use buckets as folders: `s3://BUCKET/PATH` or `gs://` is mounted on every node that works.

Runs and data are files that are appended to, renamed and mapped into memory, which a file system supports and an object
store alone does not.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from hcl.errors import ConfigError, StorageError
from orchestration.runtime.mounts import CONNECT_S, INSTALL, Bucket, mount_for_command

URI = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/+")  # pathlib turns s3://bucket into s3:/bucket

_ANSWER_S = 10.0
_GOOGLE = "https://storage.googleapis.com"
_QUERY = {"endpoint_override", "scheme", "region"}


def mounted(uri: str, option: str) -> Path:
    """Return the folder of a URI, and mount it here and in the workers of this command.

    Args:
        uri: `s3://BUCKET/PATH`, or `gs://BUCKET/PATH` of Google, which accepts S3 with HMAC keys; with
            `?endpoint_override=HOST:PORT&scheme=http&region=NAME` as pyarrow reads it, if AWS_ENDPOINT_URL and
            AWS_REGION are not set. Keys come from where AWS's tools look for them.
        option: the option that named it, for messages.

    Raises:
        ConfigError: if the scheme is another one, or s3fs is not installed.
        StorageError: if the bucket is missing, unreachable or not readable; raised within seconds.
    """
    bucket, path = _parsed(uri, option)
    if not shutil.which("s3fs"):
        raise ConfigError(f"{uri} needs s3fs, which is not installed", where=option, remedy=INSTALL)
    bucket = _probed(bucket, path, uri)
    mount_for_command(bucket)
    return bucket.folder / path


def check_uri(uri: str, option: str) -> None:
    """Raise ConfigError unless the URI names a bucket and a path in it."""
    _parsed(uri, option)


def _parsed(uri: str, option: str) -> tuple[Bucket, str]:
    uri = URI.sub(r"\1://", uri)
    parts = urlsplit(uri)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    scheme = parts.scheme.lower()
    if scheme not in ("s3", "gs") or not re.fullmatch(r"[a-z0-9][a-z0-9.-]+", parts.netloc) or {*query} - _QUERY:
        raise ConfigError(
            f"{uri!r} is neither a folder nor s3://BUCKET/PATH or gs://BUCKET/PATH",
            where=option,
            remedy="use s3://BUCKET/PATH, with ?endpoint_override=HOST:PORT&scheme=http for a server of your own, or "
            "a folder that every node sees",
        )
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None
    if scheme == "gs":
        endpoint, region = _GOOGLE, "auto"
    if "endpoint_override" in query:
        endpoint = f"{query.get('scheme', 'https')}://{query['endpoint_override']}"
    region = query.get("region", region)
    path = os.path.normpath(parts.path.strip("/"))
    if path.startswith(".."):
        raise ConfigError(f"{uri!r} leads out of its bucket", where=option, remedy="use a path inside it")
    return Bucket(parts.netloc, endpoint, region), path


def _probed(bucket: Bucket, path: str, uri: str) -> Bucket:
    """Return the bucket after it has answered, with whether files can be written there."""
    from pyarrow import fs

    where: Mapping[str, Any] = {}
    if bucket.endpoint:
        scheme, _, host = bucket.endpoint.partition("://")
        where = {"scheme": scheme, "endpoint_override": host}
    store = fs.S3FileSystem(
        region=bucket.region,
        connect_timeout=CONNECT_S,
        request_timeout=_ANSWER_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=2),
        **where,
    )
    at = f"at {bucket.endpoint}" if bucket.endpoint else "at AWS"
    try:
        exists = store.get_file_info(bucket.name).type != fs.FileType.NotFound
    except OSError as error:
        raise StorageError(
            f"cannot be reached {at}: {_details(error)}",
            where=uri,
            remedy="check endpoint, network and keys (AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, ~/.aws)",
        ) from error
    if not exists:
        raise StorageError(
            f"there is no bucket {bucket.name!r} {at}", where=uri, remedy="create it, or correct its name"
        )
    probe = f"{bucket.name}/{path}/.{uuid.uuid4().hex}.partial"
    try:
        with store.open_output_stream(probe) as stream:
            stream.write(b"may this be written?")
        store.delete_file(probe)
    except OSError:
        return Bucket(bucket.name, bucket.endpoint, bucket.region, writable=False)
    return bucket


def _details(error: OSError) -> str:
    """Return the part of pyarrow's message that describes the problem."""
    text = str(error)
    return text.partition("Details: ")[2] or text
