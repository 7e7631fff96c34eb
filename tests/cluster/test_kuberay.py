"""Test descriptors for the KubeRay operator: they are complete, and unknown fields are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import yaml

from cluster.description import Description, Storage
from cluster.kuberay import render_kuberay, schema
from tests.cluster.described import GPU, WHOLE


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [one for group in groups for one in group["template"]["spec"]["containers"]]


def test_kuberay_has_a_head_without_work_and_the_nodes_that_were_asked_for() -> None:
    content = yaml.safe_load(render_kuberay(WHOLE))
    assert (content["apiVersion"], content["kind"]) == ("ray.io/v1", "RayCluster")
    spec = content["spec"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert spec["authOptions"] == {"mode": "token"}
    assert [(group["groupName"], group["replicas"]) for group in spec["workerGroupSpecs"]] == [("gpu", 4), ("cpu", 2)]
    marks = [json.loads(json.loads(group["rayStartParams"]["resources"])) for group in spec["workerGroupSpecs"]]
    assert marks == [{"encode": 1, "train": 1}, {"decode": 1}]
    head, gpu, cpu = containers(spec)
    assert gpu["resources"]["limits"] == {"cpu": "96", "memory": "768Gi", "nvidia.com/gpu": "8"}
    assert "nvidia.com/gpu" not in head["resources"]["limits"] | cpu["resources"]["limits"]
    assert all(
        isinstance(value, str) for group in spec["workerGroupSpecs"] for value in group["rayStartParams"].values()
    )
    for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == volumes == {"storage", "shm"}


def test_kuberay_lets_nodes_mount_buckets_with_keys_from_a_secret() -> None:
    spec = yaml.safe_load(render_kuberay(Description(gpu=GPU, storage=Storage(bucket_secret="lab-keys"))))["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert container["securityContext"] == {"privileged": True}
        assert container["envFrom"] == [{"secretRef": {"name": "lab-keys"}}]
        assert {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}["storage"] == "/dev/fuse"
        assert not [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    with pytest.raises(ValueError, match="claim and bucket_secret exclude each other"):
        Storage(claim="shared", bucket_secret="lab-keys")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda spec: spec.pop("headGroupSpec"), "'headGroupSpec' is a required property"),
        (lambda spec: spec.update(workerGroups=[]), "'workerGroups' was unexpected"),
        (lambda spec: spec["authOptions"].update(mode="tokens"), "'tokens' is not one of"),
        (lambda spec: spec["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}), "0 is not of type 'string'"),
        (lambda spec: spec["headGroupSpec"]["rayStartParams"].update(resources='{"a": 1}'), "does not match"),
        (lambda spec: spec["workerGroupSpecs"][0].pop("maxReplicas"), "'maxReplicas' is a required property"),
        (lambda spec: spec["workerGroupSpecs"][0].update(groupName="GPU"), "'GPU' does not match"),
        (lambda spec: containers(spec)[0]["resources"]["limits"].update(memory="16GB"), "'16GB' does not match"),
        (lambda spec: containers(spec)[0].update(volumeMount=[]), "'volumeMount' was unexpected"),
    ],
)
def test_a_descriptor_that_the_operator_would_misread_is_told(break_it: Callable[[Any], None], message: str) -> None:
    """Check that the schema refuses unknown fields, which an API server would drop silently."""
    content = yaml.safe_load(render_kuberay(WHOLE))
    jsonschema.validate(content, schema())
    break_it(content["spec"])
    with pytest.raises(jsonschema.ValidationError) as caught:
        jsonschema.validate(content, schema())
    assert message in caught.value.message


def test_kuberay_runs_a_command_as_a_job_of_its_own() -> None:
    content = yaml.safe_load(render_kuberay(WHOLE, ["sweep", "hcl", "--set", "name=a b"]))
    assert content["kind"] == "RayJob"
    assert content["spec"]["entrypoint"] == "hcl sweep hcl --set 'name=a b'"
    assert content["spec"]["rayClusterSpec"] == yaml.safe_load(render_kuberay(WHOLE))["spec"]
