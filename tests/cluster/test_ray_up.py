"""Test descriptors for `ray up`: they fit Ray's own schema, and name an AMI that the nodes can use."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from cluster.description import Description, Nodes, Storage
from cluster.errors import DescriptionError
from cluster.ray_up import REGIONS_WITH_AMI, render_ray_up
from tests.cluster.described import AMI, CPU, HEAD, STORAGE, WHOLE


def test_ray_up_passes_rays_own_schema_and_its_head_does_no_work() -> None:
    content = yaml.safe_load(render_ray_up(WHOLE))
    types = content["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 0 and types["head"]["resources"]["trial_driver"] > 0
    assert (
        types["gpu"]["resources"] == {"CPU": 96, "GPU": 8, "encode": 1, "train": 1} and types["gpu"]["min_workers"] == 4
    )
    assert content["max_workers"] == 6
    assert {kind["node_config"]["ImageId"] for kind in types.values()} == {AMI}
    before = content["initialization_commands"]
    mounts = [index for index, line in enumerate(before) if "fs-1.example:/ /shared" in line]
    opens = [index for index, line in enumerate(before) if line == "test -w /shared || sudo chmod 1777 /shared"]
    assert len(mounts) == len(opens) == 1 and mounts < opens  # chmod must apply to the mounted export


def test_ray_up_takes_rays_own_ami_where_there_is_one_and_no_gpu_needs_a_driver() -> None:
    for region in REGIONS_WITH_AMI:
        content = yaml.safe_load(render_ray_up(Description(cpu=CPU, head=HEAD, storage=STORAGE, region=region)))
        assert all("ImageId" not in kind["node_config"] for kind in content["available_node_types"].values())


def test_the_regions_are_those_that_ray_names_an_ami_for() -> None:
    pytest.importorskip("boto3")
    from ray.autoscaler._private.aws.config import DEFAULT_AMI

    assert {*REGIONS_WITH_AMI} == {*DEFAULT_AMI}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"gpu": Nodes(gpus=1)}, "gpu.machine: is missing"),
        ({"head": Nodes()}, "head.machine: is missing"),
        ({"storage": Storage()}, "storage.server: is missing"),
        ({"ami": None}, "ami: is missing: .* has CUDA 11.2\n.*of us-west-2 .* NVIDIA driver"),
        ({"ami": None, "gpu": None, "region": "eu-north-1"}, "ami: is missing: Ray knows none in eu-north-1"),
    ],
)
def test_ray_up_says_what_it_cannot_guess(change: dict[str, Any], text: str) -> None:
    with pytest.raises(DescriptionError, match=text):
        render_ray_up(WHOLE.model_copy(update=change))
