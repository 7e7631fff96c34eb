"""Render the autoscaler's cluster file for `ray up` on AWS, validated by Ray's own schema."""

from __future__ import annotations

import importlib.resources
import json
from typing import Any

import jsonschema
import yaml

from cluster.description import N_TRIAL_DRIVERS, Description, Nodes
from cluster.errors import DescriptionError

REGIONS_WITH_AMI = (
    "us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "eu-central-1", "eu-west-1", "eu-west-2",
    "eu-west-3", "sa-east-1", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-southeast-1", "ap-southeast-2",
)  # fmt: skip
"""Regions in which Ray 2.60 has a default AMI, Ubuntu 18.04 with CUDA 11.2: it starts containers, but its driver is too
old for a current PyTorch. In other regions `ray up` fails without an AMI."""


def render_ray_up(description: Description) -> str:
    """Render YAML for `ray up`.

    Raises:
        DescriptionError: nodes have no instance type, no usable AMI, or no storage that they can mount.
    """
    for name, nodes in {"head": description.head, **description.groups}.items():
        if nodes.machine is None:
            raise DescriptionError(
                "is missing: AWS must know which machines to start",
                where=f"{name}.machine",
                remedy="name an instance type, such as m6i.xlarge for the head and g5.12xlarge for four GPUs",
            )
    _check_ami(description)
    if description.storage.server is None:
        raise DescriptionError(
            "is missing: new machines share no folder",
            where="storage.server",
            remedy="name an NFS export that they can mount, such as fs-0123.efs.us-west-2.amazonaws.com:/",
        )
    content = _content(description)
    schema = json.loads((importlib.resources.files("ray.autoscaler") / "ray-schema.json").read_text())
    jsonschema.validate(content, schema)  # a failure is a bug of this module
    return yaml.safe_dump(content, sort_keys=False, width=120)


def _check_ami(description: Description) -> None:
    if description.ami is not None or (description.gpu is None and description.region in REGIONS_WITH_AMI):
        return
    problem = (
        "the one that Ray would take has CUDA 11.2" if description.gpu else f"Ray knows none in {description.region}"
    )
    raise DescriptionError(
        f"is missing: {problem}",
        where="ami",
        remedy=f"name an AMI of {description.region} with Ubuntu and Docker, and for GPUs a current NVIDIA driver and "
        "the NVIDIA container toolkit, such as AWS's Deep Learning Base OSS Nvidia Driver GPU AMI",
    )


def _content(description: Description) -> dict[str, Any]:
    storage, token = description.storage, "~/.ray/auth_token"
    types = {"head": _type(description.head, description.ami, 0, {"CPU": 0, "GPU": 0, "trial_driver": N_TRIAL_DRIVERS})}
    for name, nodes in description.groups.items():
        resources = {"CPU": nodes.cpus, "GPU": nodes.gpus, **description.roles(name)}
        types[name] = _type(nodes, description.ami, nodes.count, resources)
    return {
        "cluster_name": description.name,
        "max_workers": sum(nodes.count for nodes in description.groups.values()),
        "provider": {"type": "aws", "region": description.region},
        "auth": {"ssh_user": "ubuntu"},
        "docker": {
            "image": description.image,
            "container_name": "hcl",
            "run_options": [
                f"--shm-size={description.shm_gib}g",
                f"--volume={storage.path}:{storage.path}",
                "--env=RAY_AUTH_MODE=token",
                "--env=RAY_AUTH_TOKEN_PATH=/tmp/ray_auth_token",
            ],
        },
        "file_mounts": {"/tmp/ray_auth_token": token},  # on the machine that calls `ray up`
        "head_node_type": "head",
        "available_node_types": types,
        "initialization_commands": [
            f"sudo mkdir -p {storage.path}",
            "which mount.nfs4 || (sudo apt-get update && sudo apt-get install -y nfs-common)",
            f"mountpoint -q {storage.path} || sudo mount -t nfs4 -o nfsvers=4.1,hard {storage.server} {storage.path}",
            # The root folder of a new export belongs to root; this user and the image's have uid 1000.
            f"test -w {storage.path} || sudo chmod 1777 {storage.path}",
        ],
        "head_start_ray_commands": [
            "ray stop",
            "ulimit -n 65536; ray start --head --port=6379 --dashboard-host=0.0.0.0 "
            "--autoscaling-config=~/ray_bootstrap_config.yaml",
        ],
        "worker_start_ray_commands": [
            "ray stop",
            "ulimit -n 65536; ray start --address=$RAY_HEAD_IP:6379",
        ],
    }


def _type(nodes: Nodes, ami: str | None, count: int, resources: dict[str, int]) -> dict[str, Any]:
    return {
        "node_config": {"InstanceType": nodes.machine} | ({"ImageId": ami} if ami else {}),
        "resources": resources,
        "min_workers": count,
        "max_workers": count,
    }
