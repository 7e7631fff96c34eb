"""Kubernetes: a RayCluster or RayJob for the KubeRay operator, held against what its types say. From 1.5.1 on it makes
the token, from 1.6 on it takes one that is named (`token_secret`)."""

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
    """YAML for `kubectl apply`.

    Args:
        command: of hcl; given, a RayJob runs it on a cluster of its own, which ends with it. None: a RayCluster that
            stays, for `hcl submit`.
    """
    spec = _cluster(description)
    about: dict[str, Any] = {"apiVersion": API, "kind": "RayCluster", "metadata": {"name": description.name}}
    if not command:
        return _checked_yaml(about | {"spec": spec})
    job = {
        "entrypoint": shlex.join(["hcl", *command]),
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "backoffLimit": 2,  # a cluster that was lost is made again, and the command goes on where it stopped
        "rayClusterSpec": spec,
    }
    return _checked_yaml(about | {"kind": "RayJob", "spec": job})


def schema() -> dict[str, Any]:
    """What may stand in a descriptor, as a JSON schema."""
    return yaml.safe_load((importlib.resources.files("cluster") / "kuberay-schema.yaml").read_text())


def _cluster(description: Description) -> dict[str, Any]:
    auth = {"mode": "token"} | ({"secretName": description.token_secret} if description.token_secret else {})
    head = {
        # No work on the head; the resource is what drivers of several-worker trials take.
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
    """As the operator passes them on to a shell."""
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
    """A volume that all share, or what a container needs to mount buckets by itself: FUSE, and keys."""
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
