"""Describe a cluster in a small file, from which all descriptors are rendered."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cluster.errors import DescriptionError

N_TRIAL_DRIVERS = 64
"""Amount of the resource `trial_driver`: the driver of a trial with several workers takes one instead of a CPU."""

ROLES = ("decode", "encode", "train")
"""Resources that mark the roles of nodes, one of each on a node; tasks request only a tiny share of them."""

_NAME = r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Nodes(_Part):
    """Describe nodes of one kind. `gpu` nodes train and encode; `cpu` nodes decode videos."""

    count: Annotated[int, Field(ge=1, le=10_000)] = 1
    gpus: Annotated[int, Field(ge=0, le=64)] = 0
    cpus: Annotated[int, Field(ge=1, le=1024)] = 8
    memory_gib: Annotated[int, Field(ge=1, le=16_384)] = 32
    machine: str | None = None  # the cloud's instance type, such as g5.xlarge; only `ray up` needs it


class Storage(_Part):
    """Describe the storage of data and runs: a folder with the same path on every node, or buckets that nodes mount."""

    path: Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/-]*$")] = "/shared"
    claim: Annotated[str, Field(pattern=_NAME)] | None = None  # Kubernetes: a PersistentVolumeClaim, ReadWriteMany
    server: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:/_-]+$")] | None = None  # NFS, HOST:/export: `ray up` mounts it
    bucket_secret: Annotated[str, Field(pattern=_NAME)] | None = None  # Kubernetes: keys of buckets, instead of a claim

    @field_validator("path")
    @classmethod
    def _is_folder(cls, path: str) -> str:
        parts = PurePosixPath(path).parts
        if len(parts) < 2 or ".." in parts:
            raise ValueError("expected a folder below /, without ..")
        return path

    @model_validator(mode="after")
    def _is_one(self) -> Storage:
        if self.claim and self.bucket_secret:
            raise ValueError("claim and bucket_secret exclude each other")
        return self


class Description(_Part):
    """Describe a cluster: a head that does no work, GPU nodes, CPU nodes, and their shared storage."""

    name: Annotated[str, Field(pattern=_NAME)] = "hcl"
    image: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$")] = "hcl:latest"
    head: Nodes = Nodes(cpus=4, memory_gib=16)
    gpu: Nodes | None = None
    cpu: Nodes | None = None
    storage: Storage = Storage()
    shm_gib: Annotated[int, Field(ge=1)] = 8  # /dev/shm of a node: Ray's object store and the loaders' batches
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] = "us-west-2"  # `ray up` only
    ami: Annotated[str, Field(pattern=r"^ami-[0-9a-f]{8,17}$")] | None = None  # `ray up`: image of all nodes
    token_secret: Annotated[str, Field(pattern=_NAME)] | None = None  # KubeRay 1.6: secret with auth_token
    hours: Annotated[int, Field(ge=1, le=8760)] = 24  # SLURM: time limit of a job
    partition: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] | None = None  # SLURM

    @field_validator("gpu")
    @classmethod
    def _has_gpus(cls, nodes: Nodes | None) -> Nodes | None:
        if nodes is not None and nodes.gpus < 1:
            raise ValueError("gpu nodes need gpus: at least 1")
        return nodes

    @field_validator("cpu", "head")
    @classmethod
    def _has_none(cls, nodes: Nodes | None) -> Nodes | None:
        if nodes is not None and nodes.gpus:
            raise ValueError("only gpu nodes have gpus")
        return nodes

    @model_validator(mode="after")
    def _works(self) -> Description:
        if self.gpu is None and self.cpu is None:
            raise ValueError("there are neither gpu nor cpu nodes to do the work")
        if self.head.count != 1:
            raise ValueError("head.count: a cluster has one head")
        return self

    def roles(self, group: str) -> dict[str, int]:
        """Return the role resources of a group's nodes.

        With both groups, videos are decoded on CPU nodes, and all other work is done on GPU nodes."""
        alone = len(self.groups) == 1
        return {role: 1 for role in ROLES if alone or (role == "decode") == (group == "cpu")}

    @property
    def groups(self) -> dict[str, Nodes]:
        """Return the working nodes by kind."""
        return {name: nodes for name, nodes in (("gpu", self.gpu), ("cpu", self.cpu)) if nodes is not None}


def read_description(path: Path | None, changes: dict[str, Any]) -> Description:
    """Read a description from a YAML file, if any, and apply the changes of the command line.

    Raises:
        DescriptionError: the file cannot be read, or a value is invalid.
    """
    content: Any = {}
    where = str(path) if path else "the options"
    if path is not None:
        try:
            content = yaml.safe_load(path.read_text()) or {}
        except (OSError, yaml.YAMLError, RecursionError, *_OF_TAGS) as error:
            problem = " ".join(str(error).split())
            raise DescriptionError(f"cannot be read: {problem}", where=where, remedy="give a YAML file") from error
        if not isinstance(content, dict):
            raise DescriptionError("expected a mapping", where=where, remedy="cluster/SETUP.md shows one")
    try:
        return Description.model_validate(_merged(content, changes))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        problem = first["msg"].removeprefix("Value error, ")
        shown = "" if isinstance(first["input"], dict | BaseModel) else f", got {first['input']!r}"
        raise DescriptionError(
            f"{field + ': ' if field else ''}{problem}{shown}", where=where, remedy="cluster/SETUP.md names the fields"
        ) from error


# PyYAML raises these for values that do not fit their tag, such as `!!int x` and `!!float ""`.
_OF_TAGS = (ValueError, LookupError, AttributeError, TypeError, ArithmeticError)


def counted(text: str, option: str) -> tuple[int, int]:
    """Parse `4x8` to (4, 8): nodes, and GPUs or CPUs of each. Raises DescriptionError."""
    if not (match := re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,3})", text)):
        raise DescriptionError(
            f"{text!r} is not NODESxNUMBER", where=option, remedy="4x8 means four nodes with eight each"
        )
    return int(match[1]), int(match[2])


def _merged(content: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(content)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(value, dict) and isinstance(old, dict) else value
    return merged
