"""`ray up` on AWS: the autoscaler's cluster file, held against Ray's own schema."""

from __future__ import annotations

import importlib.resources
import json
from typing import Any

import jsonschema
import yaml

from cluster.description import N_TRIAL_DRIVERS, Description, Nodes
from cluster.errors import DescriptionError


def render_ray_up(description: Description) -> str:
    """YAML for `ray up`.

    Raises:
        DescriptionError: a kind of nodes without the cloud's name for its machine, or no storage that they could mount.
    """
    for name, nodes in {"head": description.head, **description.groups}.items():
        if nodes.machine is None:
            raise DescriptionError(
                "is missing: AWS must know which machines to start",
                where=f"{name}.machine",
                remedy="name an instance type, such as m6i.xlarge for the head and g5.12xlarge for four GPUs",
            )
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


def _content(description: Description) -> dict[str, Any]:
    storage, token = description.storage, "~/.ray/auth_token"
    types = {"head": _type(description.head, 0, {"CPU": 0, "GPU": 0, "trial_driver": N_TRIAL_DRIVERS})}
    for name, nodes in description.groups.items():
        types[name] = _type(nodes, nodes.count, {"CPU": nodes.cpus, "GPU": nodes.gpus, **description.roles(name)})
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
        "file_mounts": {"/tmp/ray_auth_token": token},  # of the machine that calls `ray up`
        "head_node_type": "head",
        "available_node_types": types,
        "initialization_commands": [
            f"sudo mkdir -p {storage.path}",
            "which mount.nfs4 || (sudo apt-get update && sudo apt-get install -y nfs-common)",
            f"mountpoint -q {storage.path} || sudo mount -t nfs4 -o nfsvers=4.1,hard {storage.server} {storage.path}",
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


def _type(nodes: Nodes, count: int, resources: dict[str, int]) -> dict[str, Any]:
    return {
        "node_config": {"InstanceType": nodes.machine},
        "resources": resources,
        "min_workers": count,
        "max_workers": count,
    }
