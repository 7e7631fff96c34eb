"""Descriptors: typed, whole, and as each tool wants them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from cluster.description import Description, Nodes, Storage, counted, read_description
from cluster.errors import DescriptionError
from cluster.kuberay import render_kuberay, schema
from cluster.ray_up import REGIONS_WITH_AMI, render_ray_up
from cluster.scripts import render_laptop, render_slurm
from hcl.errors import ConfigError
from orchestration.cli import app

GPU = Nodes(count=4, gpus=8, cpus=96, memory_gib=768, machine="p4d.24xlarge")
CPU = Nodes(count=2, cpus=16, machine="c6i.4xlarge")
HEAD = Nodes(cpus=4, machine="m6i.xlarge")
AMI = "ami-0123456789abcdef0"
STORAGE = Storage(path="/shared", server="fs-1.example:/")
WHOLE = Description(gpu=GPU, cpu=CPU, head=HEAD, storage=STORAGE, ami=AMI)


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
    ("break_it", "told"),
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
def test_a_descriptor_that_the_operator_would_misread_is_told(break_it: Callable[[Any], None], told: str) -> None:
    """An API server drops fields that it does not know; the schema does not let them pass."""
    content = yaml.safe_load(render_kuberay(WHOLE))
    jsonschema.validate(content, schema())
    break_it(content["spec"])
    with pytest.raises(jsonschema.ValidationError) as caught:
        jsonschema.validate(content, schema())
    assert told in caught.value.message


def test_nodes_of_one_kind_do_all_work() -> None:
    for name, only in (("gpu", Description(gpu=GPU)), ("cpu", Description(cpu=CPU))):
        assert only.roles(name) == {"decode": 1, "encode": 1, "train": 1}


def test_kuberay_runs_a_command_as_a_job_of_its_own() -> None:
    content = yaml.safe_load(render_kuberay(WHOLE, ["sweep", "hcl", "--set", "name=a b"]))
    assert content["kind"] == "RayJob"
    assert content["spec"]["entrypoint"] == "hcl sweep hcl --set 'name=a b'"
    assert content["spec"]["rayClusterSpec"] == yaml.safe_load(render_kuberay(WHOLE))["spec"]


def rendered(kind: str, words: str, *options: str) -> Result:
    return CliRunner().invoke(app, ["cluster", "render", kind, "--gpus", "1x1", *options, "--", *words.split()])


PLACES = "--data /shared/data --runs /shared/runs"


@pytest.mark.parametrize("kind", ["kuberay", "slurm"])
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (f"trian hcl {PLACES}", "No such command 'trian'"),
        (f"train hcl {PLACES} --no-such", "No such option: --no-such"),
        ("jobs list", "-- COMMAND: hcl jobs is no job"),
        (f"train hcl {PLACES} --address head:6379", "--address: a job uses the cluster that it runs on"),
        ("train hcl --data s3://A:/x --runs /shared/runs", "--data: 's3://A:/x' is neither"),
    ],
)
def test_a_command_that_cannot_be_a_job_is_not_rendered(kind: str, words: str, text: str) -> None:
    done = rendered(kind, words)
    assert done.exit_code and text in f"{done.stderr}{done.exception}" and not done.stdout


def test_what_a_pod_would_lose_or_lack_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("base: hcl\n")
    keys = tmp_path / "keys.yml"
    keys.write_text("storage: {bucket_secret: lab-keys}\n")
    here = f"{tmp_path}/mine.yaml"
    for words, options, text in (
        ("train hcl", (), "--data: 'data' would lie in"),
        ("train hcl --data=/shared/data", (), "--runs: 'runs' would lie in"),
        ("train hcl --data /shared/data --runs /runs", (), "--runs: '/runs' would lie in a pod.*\n.*below /shared"),
        ("train hcl --data=/shared/../data --runs=/shared", (), "--data: '/shared/../data' would lie in a pod"),
        (f"train hcl {PLACES}", ("--from", str(keys)), "--data: '/shared/data' would lie in a pod.*\n.*s3://"),
        (f"train mine.yaml {PLACES}", (), "^mine.yaml: is a file here, which no pod has\n.*below /shared"),
        (f"train {here} {PLACES}", (), f"^{here}: is a file here"),
        (f"train {here} --data s3://lab/d --runs s3://lab/r", ("--from", str(keys)), f"^{here}: .*\n.*the image"),
    ):
        error = rendered("kuberay", words, *options).exception
        assert isinstance(error, ConfigError) and re.search(text, str(error)), words


def test_commands_whose_files_a_pod_has_become_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("base: hcl\n")
    (tmp_path / "keys.yml").write_text("storage: {bucket_secret: lab-keys}\n")
    for words, options in (
        (f"train hcl {PLACES}", ()),
        (f"hcl train {tmp_path}/mine.yaml --data {tmp_path} --runs {tmp_path}/runs", ("--storage", str(tmp_path))),
        ("train hcl --data s3://lab/data --runs s3://lab/runs", ("--from", "keys.yml")),
    ):
        done = rendered("kuberay", words, *options)
        assert done.exit_code == 0, done.exception
        assert yaml.safe_load(done.stdout)["spec"]["entrypoint"] == f"hcl {words.removeprefix('hcl ')}"


def test_a_slurm_jobs_paths_may_be_relative_to_where_it_is_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("base: hcl\n")
    for words in ("train hcl", "train mine.yaml --data data --runs=runs", f"train hcl {PLACES}"):
        assert f" hcl {words} ||" in rendered("slurm", words).stdout


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
    assert len(mounts) == len(opens) == 1 and mounts < opens  # what is opened is the export's folder


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


SAYS = """printf "%s\\n" "$@"; echo "token $(wc -c < "$RAY_AUTH_TOKEN_PATH")"
echo "mode $(stat -c %a "$RAY_AUTH_TOKEN_PATH")"; echo "umask $(umask)"; echo "waits $RAY_py_gcs_connect_timeout_s"
"""
RUNS = SAYS + 'while [ "$1" != -- ]; do shift; done; shift; "$@"; exit "${RAY_ENDS_WITH:-$?}"'


def by_bash(
    folder: Path, script: str, programs: dict[str, str], **environment: str
) -> subprocess.CompletedProcess[str]:
    """What a script does where programs are replaced by others, and home is the folder."""
    (folder / "script.sh").write_text(script)
    for name, body in programs.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    environment |= {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder)}
    return subprocess.run(
        ["bash", "-c", "umask 022; exec bash script.sh"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def slurm(folder: Path, srun: str, *, names: str = "node7\nnode8", **more: str) -> subprocess.CompletedProcess[str]:
    """A SLURM job whose `srun` does as given, and whose command says its words and the umask and ends with HCL_ENDS."""
    programs = {
        "scontrol": f"printf '{names}\n'",
        "srun": srun,
        "hcl": 'echo "hcl of $RAY_ADDRESS: $*"; umask; exit "${HCL_ENDS:-0}"',
    }
    script = render_slurm(Description(gpu=GPU), ["sweep", "hcl", "--space", "my space.yaml"])
    return by_bash(folder, script, programs, SLURM_JOB_ID="70123", SLURM_JOB_NODELIST="node[7-8]", **more)


def test_a_slurm_job_starts_ray_on_its_nodes_and_the_command_on_the_first(tmp_path: Path) -> None:
    """Run by bash, with SLURM's programs replaced by ones that say what they were given."""
    done = slurm(tmp_path, RUNS)
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()
    assert words[words.index("--address") + 1] == "node7:30123"
    assert words[words.index("--min-nodes") + 1] == "4"
    assert words[words.index("--") :][1:3] == ["env", "RAY_ADDRESS=node7:30123"]
    assert {"--cpus-per-task=96", "--cpu-bind=none"} < {*words[: words.index("ray")]}  # else a step may have one core
    assert "hcl of node7:30123: sweep hcl --space my space.yaml" in words and "my space.yaml" in words
    assert "token 64" in words and "mode 600" in words
    assert "umask 0022" in words and words[-1] == "0022"  # what the job writes, others may read as ever
    assert "waits 300" in words
    assert not list((tmp_path / ".ray").iterdir())  # token and status are gone with the job
    script = (tmp_path / "script.sh").read_text()
    assert "#SBATCH --nodes=4" in script and "#SBATCH --gpus-per-node=8" in script


@pytest.mark.parametrize("of_ray", ["0", "1", "143"])
@pytest.mark.parametrize("of_hcl", ["0", "3"])
def test_a_slurm_job_ends_as_its_command_does(tmp_path: Path, of_hcl: str, of_ray: str) -> None:
    """Whatever becomes of Ray's workers after it."""
    assert slurm(tmp_path, RUNS, HCL_ENDS=of_hcl, RAY_ENDS_WITH=of_ray).returncode == int(of_hcl)


@pytest.mark.parametrize("of_ray", [0, 1])
def test_a_slurm_job_whose_head_does_not_start_has_failed(tmp_path: Path, of_ray: int) -> None:
    """`ray symmetric-run` tells of it and ends with 0; what a job left that was requeued does not count."""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "job-70123.status").write_text("0\n")
    done = slurm(tmp_path, f"echo 'Failed to start Ray' >&2; exit {of_ray}")
    assert done.returncode == 1
    assert "Failed to start Ray" in done.stderr and "the command did not run to its end" in done.stderr
    assert not list((tmp_path / ".ray").iterdir())


def test_the_head_of_a_slurm_job_is_an_address_of_its_own(tmp_path: Path) -> None:
    """Its name, which /etc/hosts may give an address that no other node reaches, only where nothing else is known."""
    way = slurm(tmp_path, RUNS, names="node7\n127.0.0.1")
    assert "hcl of 127.0.0.1:30123" in way.stdout
    told = slurm(tmp_path, RUNS, names="node7\n127.0.0.1", HCL_HEAD_ADDRESS="10.1.2.3")
    assert "hcl of 10.1.2.3:30123" in told.stdout


def test_slurm_refuses_two_kinds_of_nodes_and_no_command() -> None:
    with pytest.raises(DescriptionError, match="nodes of one kind"):
        render_slurm(WHOLE, ["sweep", "hcl"])
    with pytest.raises(DescriptionError, match="the command: is missing"):
        render_slurm(Description(gpu=GPU), [])


def test_a_laptops_script_listens_on_the_machine_alone_and_only_its_token_is_private(tmp_path: Path) -> None:
    ray = 'echo "ray $* $(umask)"; if [ "$1" = get-auth-token ]; then mkdir ~/.ray; echo x > ~/.ray/auth_token; fi'
    script = render_laptop(Description(cpu=Nodes(cpus=2)))
    for _ in range(2):  # the second time the token is there
        done = by_bash(tmp_path, script, {"ray": ray})
        assert done.returncode == 0, done.stderr
        (line,) = done.stdout.splitlines()
        assert line.startswith("ray start --head --block ") and line.endswith(" 0022")
        assert {"--num-cpus=2", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"} < {*line.split()}
        assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("gpu: {count: 1, gpus: 0}", "gpu nodes need gpus"),
        ("cpu: {gpus: 1}", "only gpu nodes have gpus"),
        ("gpus: 4", "gpus: Extra inputs"),
        ("name: Upper\ncpu: {}", "name: .*got 'Upper'"),
        ("image: 'a b'\ncpu: {}", "image"),
        ("cpu: {}\nstorage: {path: relative}", "storage.path"),
        ("cpu: {}\nstorage: {path: /a; rm -rf /}", "storage.path"),
        ("cpu: {}\nstorage: {path: /}", "storage.path: expected a folder below /.*got '/'"),
        ("cpu: {}\nstorage: {path: //.}", "storage.path: expected a folder below /"),
        ("cpu: {}\nstorage: {path: /shared/..}", "storage.path: expected a folder below /"),
        ("cpu: {}\nami: us-west-2", "ami: .*got 'us-west-2'"),
        ("{}", "nothing would do the work"),
        ("- a", "expected a mapping"),
        ("cpu: {", "cannot be read"),
        ("cpu: !!python/object/apply:os.system [touch pwned]", "cannot be read"),
    ],
)
def test_descriptions_that_mean_nothing(tmp_path: Path, content: str, text: str) -> None:
    path = tmp_path / "place.yaml"
    path.write_text(content)
    with pytest.raises(DescriptionError, match=text) as raised:
        read_description(path, {})
    assert str(path) in str(raised.value) and raised.value.remedy


def test_options_come_over_a_file_field_by_field(tmp_path: Path) -> None:
    path = tmp_path / "place.yaml"
    path.write_text("gpu: {count: 1, gpus: 4, cpus: 48}\nname: lab\n")
    found = read_description(path, {"gpu": {"count": 3, "gpus": 8}, "image": "hcl:2"})
    assert found.gpu == Nodes(count=3, gpus=8, cpus=48) and (found.name, found.image) == ("lab", "hcl:2")


@given(st.integers(1, 99_999), st.integers(1, 9_999))
def test_counts_are_read_as_written(nodes: int, number: int) -> None:
    assert counted(f"{nodes}x{number}", "--gpus") == (nodes, number)


@pytest.mark.parametrize("text", ["4", "4x0", "0x4", "x8", "4x8x2", "-1x2", "4 x 8", ""])
def test_other_counts_are_refused(text: str) -> None:
    with pytest.raises(DescriptionError, match="NODESxNUMBER"):
        counted(text, "--gpus")
