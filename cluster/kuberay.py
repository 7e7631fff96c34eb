"""Render a RayCluster or RayJob for the KubeRay operator, validated by its types' schema.

KubeRay generates the token from version 1.5.1 on, and accepts a given one (`token_secret`) from 1.6 on."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema
import yaml

from cluster.description import N_TRIAL_DRIVERS, Description, Nodes

API = "ray.io/v1"
_PORTS = {"gcs-server": 6379, "dashboard": 8265, "client": 10001}


def render_kuberay(description: Description, command: Sequence[str] = ()) -> str:
    """Render YAML for `kubectl apply`.

    Args:
        command: a command of hcl, which a RayJob runs on its own cluster, deleted afterwards. An empty one gives a
            RayCluster that stays, for `hcl submit`.
    """
    spec = _cluster(description)
    about: dict[str, Any] = {"apiVersion": API, "kind": "RayCluster", "metadata": {"name": description.name}}
    if not command:
        return _checked_yaml(about | {"spec": spec})
    job = {
        "entrypoint": shlex.join(["hcl", *command]),
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "backoffLimit": 2,  # a lost cluster is created again, and the command resumes where it stopped
        "rayClusterSpec": spec,
    }
    return _checked_yaml(about | {"kind": "RayJob", "spec": job})


def schema() -> dict[str, Any]:
    """Return the JSON schema of descriptors."""
    return yaml.safe_load((importlib.resources.files("cluster") / "kuberay-schema.yaml").read_text())


def _cluster(description: Description) -> dict[str, Any]:
    auth = {"mode": "token"} | ({"secretName": description.token_secret} if description.token_secret else {})
    head = {
        # The head does no work; drivers of trials with several workers take the resource.
        "rayStartParams": {
            "num-cpus": "0",
            "resources": _resources({"trial_driver": N_TRIAL_DRIVERS}),
            "dashboard-host": "0.0.0.0",
        },
        "template": _pod(description, description.head, "ray-head", ports=True),
    }
    return {
        "rayVersion": importlib.metadata.version("ray"),
        "authOptions": auth,
        "headGroupSpec": head,
        "workerGroupSpecs": [
            {
                "groupName": name,
                "replicas": nodes.count,
                "minReplicas": nodes.count,
                "maxReplicas": nodes.count,
                "rayStartParams": {"resources": _resources(description.roles(name))},
                "template": _pod(description, nodes, f"ray-{name}"),
            }
            for name, nodes in description.groups.items()
        ],
    }


def _resources(amounts: Mapping[str, int]) -> str:
    """Quote the resources for the shell to which the operator passes them."""
    return json.dumps(json.dumps(amounts))


def _pod(description: Description, nodes: Nodes, name: str, *, ports: bool = False) -> dict[str, Any]:
    resources: dict[str, str] = {"cpu": str(nodes.cpus), "memory": f"{nodes.memory_gib}Gi"}
    if nodes.gpus:
        resources["nvidia.com/gpu"] = str(nodes.gpus)
    container: dict[str, Any] = {
        "name": name,
        "image": description.image,
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
    }
    if ports:
        container["ports"] = [{"name": port, "containerPort": number} for port, number in _PORTS.items()]
    spec: dict[str, Any] = {
        "containers": [container],
        "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{description.shm_gib}Gi"}}],
    }
    _add_storage(description, container, spec["volumes"])
    if nodes.gpus:
        spec["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    return {"spec": spec}


def _add_storage(description: Description, container: dict[str, Any], volumes: list[dict[str, Any]]) -> None:
    """Add a shared volume, or FUSE and keys for a container that mounts buckets itself."""
    storage = description.storage
    if storage.bucket_secret:
        container["securityContext"] = {"privileged": True}
        container["envFrom"] = [{"secretRef": {"name": storage.bucket_secret}}]
        volume, path = {"hostPath": {"path": "/dev/fuse", "type": "CharDevice"}}, "/dev/fuse"
    else:
        claim = storage.claim or f"{description.name}-storage"
        volume, path = {"persistentVolumeClaim": {"claimName": claim}}, storage.path
    container["volumeMounts"].append({"name": "storage", "mountPath": path})
    volumes.append({"name": "storage", **volume})


def _checked_yaml(content: dict[str, Any]) -> str:
    jsonschema.validate(content, schema())  # a failure is a bug of this module
    return yaml.safe_dump(content, sort_keys=False, width=120)
