"""Buckets as folders: `s3://BUCKET/PATH` or `gs://` is mounted on every node that works, and is a folder from then on.

Runs and data are files that are appended to, renamed and mapped into memory, which a file system gives and an object
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

URI = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/+")  # pathlib makes s3:/bucket of s3://bucket

_ANSWER_S = 10.0
_GOOGLE = "https://storage.googleapis.com"
_QUERY = {"endpoint_override", "scheme", "region"}


def mounted(uri: str, option: str) -> Path:
    """The folder that a URI stands for, mounted here now, and in the workers of this command.

    Args:
        uri: `s3://BUCKET/PATH`, or `gs://BUCKET/PATH` of Google's, which speak S3 to HMAC keys; with
            `?endpoint_override=HOST:PORT&scheme=http&region=NAME` as pyarrow reads it, where AWS_ENDPOINT_URL and
            AWS_REGION do not say so. Keys come from where AWS's tools look for them.
        option: who named it, for the message.

    Raises:
        ConfigError: another scheme, or s3fs is not installed.
        StorageError: no such bucket, no answer, or no leave to read it; told within seconds.
    """
    bucket, path = _parsed(uri, option)
    if not shutil.which("s3fs"):
        raise ConfigError(f"{uri} is mounted by s3fs, which is not installed", where=option, remedy=INSTALL)
    bucket = _probed(bucket, path, uri)
    mount_for_command(bucket)
    return bucket.folder / path


def check_uri(uri: str, option: str) -> None:
    """Raise ConfigError unless it is one of a bucket and a path in it."""
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
            remedy="give s3://BUCKET/PATH, with ?endpoint_override=HOST:PORT&scheme=http for a server of your own, or "
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
        raise ConfigError(f"{uri!r} leads out of its bucket", where=option, remedy="name a path in it")
    return Bucket(parts.netloc, endpoint, region), path


def _probed(bucket: Bucket, path: str, uri: str) -> Bucket:
    """The bucket, known to answer, and whether a file can be written where it is meant to be."""
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
        found = store.get_file_info(bucket.name).type != fs.FileType.NotFound
    except OSError as error:
        raise StorageError(
            f"cannot be reached {at}: {_said(error)}",
            where=uri,
            remedy="check endpoint, network and keys (AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, ~/.aws)",
        ) from error
    if not found:
        raise StorageError(f"there is no bucket {bucket.name!r} {at}", where=uri, remedy="make it, or mend its name")
    probe = f"{bucket.name}/{path}/.{uuid.uuid4().hex}.partial"
    try:
        with store.open_output_stream(probe) as stream:
            stream.write(b"may this be written?")
        store.delete_file(probe)
    except OSError:
        return Bucket(bucket.name, bucket.endpoint, bucket.region, writable=False)
    return bucket


def _said(error: OSError) -> str:
    """The part of pyarrow's message that tells what is wrong."""
    text = str(error)
    return text.partition("Details: ")[2] or text
