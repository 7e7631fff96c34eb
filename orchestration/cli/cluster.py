"""`hcl cluster render KIND`: descriptors of clusters from one small description. `hcl cluster plan RUN`: how long, how
much."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hcl.errors import ConfigError
from hcl.files.atomic import write_atomically
from orchestration.cli.options import RUNS, Runs, run_folder
from orchestration.console import out

if TYPE_CHECKING:
    from cluster.description import Storage

app = typer.Typer(
    help="Describe clusters: Kubernetes, AWS, SLURM, a laptop; plan what is to run on one.", no_args_is_help=True
)


class Kind(StrEnum):
    kuberay = "kuberay"
    ray_up = "ray-up"
    slurm = "slurm"
    laptop = "laptop"


@app.callback()
def cluster() -> None:
    """Describe clusters: Kubernetes, AWS, SLURM, a laptop; plan what is to run on one."""


@app.command("render")
def render(
    kind: Annotated[Kind, typer.Argument(help="What it is for; cluster/README.md tells the way of each.")],
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- COMMAND...]",
            help="A command of hcl to run: a SLURM job needs one; kuberay makes a RayJob of it, else a RayCluster.",
            show_default=False,
        ),
    ] = None,
    description: Annotated[
        Path | None,
        typer.Option("--from", help="A YAML description; the options below come over it.", show_default=False),
    ] = None,
    gpus: Annotated[
        str | None, typer.Option(metavar="NODESxGPUS", help="4x8: four nodes of eight GPUs.", show_default=False)
    ] = None,
    cpus: Annotated[
        str | None,
        typer.Option(metavar="NODESxCPUS", help="2x16: two nodes of 16 CPUs, for extraction.", show_default=False),
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="Container image with hcl (cluster/Dockerfile makes one).", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the cluster: lower-case letters, digits and dashes.", show_default=False)
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Folder that every node sees under this path.", show_default=False)
    ] = None,
    claim: Annotated[
        str | None,
        typer.Option(help="kuberay: the PersistentVolumeClaim (ReadWriteMany) behind it.", show_default=False),
    ] = None,
    to: Annotated[Path | None, typer.Option(help="A file; default: standard output.", show_default=False)] = None,
) -> None:
    """Print the descriptor of a cluster: a head without work, GPU nodes, CPU nodes, storage that all of them see.

    kuberay: for kubectl apply. ray-up: for ray up, on AWS. slurm: for sbatch. laptop: a script that starts a head with
    a job server here. What a description can say, with defaults, stands in cluster/README.md.
    """
    from cluster.description import counted, read_description
    from cluster.kuberay import render_kuberay
    from cluster.ray_up import render_ray_up
    from cluster.scripts import render_laptop, render_slurm

    changes: dict[str, Any] = {"image": image, "name": name}
    for key, option, text in (("gpu", "gpus", gpus), ("cpu", "cpus", cpus)):
        if text is not None:
            count, number = counted(text, f"--{option}")
            changes[key] = {"count": count, option: number}
    changes["storage"] = {key: value for key, value in (("path", storage), ("claim", claim)) if value is not None}
    described = read_description(description, {key: value for key, value in changes.items() if value})
    words = [*(command or [])][1:] if (command or [])[:1] == ["hcl"] else [*(command or [])]
    if words and kind in (Kind.ray_up, Kind.laptop):
        raise ConfigError(
            f"{kind} takes no command",
            where=words[0],
            remedy="start the cluster, then hcl submit -- COMMAND",
        )
    if words:
        _check_job(kind, words, described.storage)
    if kind is Kind.kuberay:
        text = render_kuberay(described, words)
    elif kind is Kind.ray_up:
        text = render_ray_up(described)
    elif kind is Kind.slurm:
        text = render_slurm(described, words)
    else:
        text = render_laptop(described)
    if to is None:
        print(text, end="")
    else:
        write_atomically(to, text.encode())
        out.print(f"{kind} descriptor: {to}", soft_wrap=True, highlight=False)


def _check_job(kind: Kind, words: list[str], storage: Storage) -> None:
    """Refuse a command that does not exist, that is no job, or that would lose or miss files where it runs.

    A SLURM job runs in the folder from which sbatch is called, which its nodes see: relative paths mean there what they
    mean here. A pod has the image and the storage, and nothing from here.
    """
    from orchestration.cli import app as program
    from orchestration.clusters.submission import check_command
    from orchestration.storage.buckets import URI

    group = typer.main.get_command(program)
    job = check_command(group, words, stays_here=kind is Kind.slurm)  # type: ignore[arg-type]
    if kind is Kind.slurm:
        return
    for option, folder in job.folders.items():
        is_local = option == "--cache-dir"  # a copy on a node's own disk
        if not is_local and not URI.match(str(folder).lstrip("/")) and not _is_kept(folder, storage):
            kept = "an s3:// URI" if storage.bucket_secret else f"a folder below {storage.path}, the storage's path"
            raise ConfigError(
                f"'{folder}' would lie in a pod, and go with it", where=option, remedy=f"give {option} {kept}"
            )
    named = [Path(word) for word, sent in zip(words, job.words, strict=True) if word != sent]
    for file in [*named, *job.files.values()]:
        if not _is_kept(file, storage):
            place = "into the image" if storage.bucket_secret else f"on the storage, below {storage.path}"
            raise ConfigError(
                "is a file here, which no pod has",
                where=str(file),
                remedy=f"put it and its bases {place}, and name it by its absolute path there; or hcl submit sends it",
            )


def _is_kept(path: Path, storage: Storage) -> bool:
    """Whether it lies on the volume that all pods share."""
    return not storage.bucket_secret and path.is_relative_to(storage.path) and ".." not in path.parts


@app.command("plan")
def plan_study(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run that was trained, and evaluated if that is asked.")],
    runs: Runs = RUNS,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes that train and encode.")] = 1,
    gpus_per_node: Annotated[
        int, typer.Option(min=1, help="GPUs of each: one for a worker. Of CPU nodes: workers for which each has room.")
    ] = 1,
    trials: Annotated[int, typer.Option(min=1, help="Trials of the study.")] = 100,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Workers of a trial; default: the run's.", show_default=False)
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of a trial; default: the run's.", show_default=False)
    ] = None,
    batches: Annotated[
        int | None, typer.Option(min=1, help="Steps of an epoch; default: the run's.", show_default=False)
    ] = None,
    datasets: Annotated[int, typer.Option(min=0, help="Data sets that the best trial is evaluated on.")] = 5,
    clips: Annotated[int, typer.Option(min=1, help="Clips of each.")] = 2857,
    speed: Annotated[
        float, typer.Option(min=0.001, help="How many times as fast a worker is there as where the run was trained.")
    ] = 1.0,
) -> None:
    """Say how many trials of a study run at once on a cluster, how long all take, and what they store.

    By arithmetic on what RUN has cost: seconds of a clip, of a validation and of a pair of clips, bytes of a run, of
    features and of a score table. No trial is taken to be stopped early and no node to fail, and workers are taken to
    share an epoch without loss. How much faster the cluster's GPUs are than this machine only a run there can tell:
    --speed.
    """
    from cluster.plan import Task, plan
    from hcl.assembly.models import clips_per_step
    from orchestration.clusters.plan_table import show_plan
    from orchestration.clusters.unit_costs import measured

    costs, experiment = measured(run_folder(run, runs), runs)
    train = experiment.train
    of_epoch = clips_per_step(experiment) * (batches or train.batches_per_epoch)
    task = Task(trials, workers or train.workers, epochs or train.epochs, of_epoch, datasets, clips, speed)
    show_plan(
        plan(costs, task, n_nodes=nodes, per_node=gpus_per_node), costs, task, n_nodes=nodes, per_node=gpus_per_node
    )
