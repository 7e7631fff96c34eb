"""Describe clusters from one small description, and plan work on them: `hcl cluster render` and `hcl cluster plan`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hcl.errors import ConfigError
from hcl.files.atomic import write_atomically
from orchestration.cli.options import RUNS, Runs
from orchestration.cli.shell import completion
from orchestration.cli.shell.json_option import with_json
from orchestration.console import out
from orchestration.storage.run_folders import run_folder

if TYPE_CHECKING:
    from cluster.description import Storage

app = typer.Typer(help="Describe clusters: Kubernetes, AWS, SLURM, a laptop; plan work on one.", no_args_is_help=True)


class Kind(StrEnum):
    kuberay = "kuberay"
    ray_up = "ray-up"
    slurm = "slurm"
    laptop = "laptop"


@app.callback()
def cluster() -> None:
    """Describe clusters: Kubernetes, AWS, SLURM, a laptop; plan work on one."""


@app.command("render")
def render(
    kind: Annotated[Kind, typer.Argument(help="Kind of cluster; cluster/SETUP.md describes each.")],
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- COMMAND...]",
            help="A command of hcl to run: needed for a SLURM job; kuberay makes a RayJob of it, else a RayCluster.",
            show_default=False,
        ),
    ] = None,
    description: Annotated[
        Path | None,
        typer.Option("--from", help="A YAML description; the options below override it.", show_default=False),
    ] = None,
    gpus: Annotated[
        str | None, typer.Option(metavar="NODESxGPUS", help="4x8: four nodes with eight GPUs each.", show_default=False)
    ] = None,
    cpus: Annotated[
        str | None,
        typer.Option(
            metavar="NODESxCPUS", help="2x16: two nodes with 16 CPUs each, for extraction.", show_default=False
        ),
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="Container image with hcl (cluster/Dockerfile builds one).", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the cluster: lower-case letters, digits, dashes.", show_default=False)
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Folder that every node sees under this path.", show_default=False)
    ] = None,
    claim: Annotated[
        str | None,
        typer.Option(help="kuberay: the PersistentVolumeClaim (ReadWriteMany) behind it.", show_default=False),
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Output file; default: standard output.", show_default=False)] = None,
) -> None:
    """Print the descriptor of a cluster: a head without work, GPU nodes, CPU nodes, and storage that all of them see.

    kuberay: for kubectl apply. ray-up: for ray up, on AWS. slurm: for sbatch. laptop: a script that starts a head with
    a job server here. cluster/README.md lists the fields of a description with their defaults.

    \b
    hcl cluster render laptop --cpus 1x8
    hcl cluster render slurm --gpus 4x8 -- train hcl --data /data --runs /runs
    hcl cluster render kuberay --gpus 4x8 --image x/hcl:1 --claim shared
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
    """Raise ConfigError for a command that does not exist, is no job, or would lose or miss files where it runs.

    A SLURM job runs in the folder from which sbatch is called, which its nodes see, so that relative paths keep their
    meaning. A pod has only the image and the storage.
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
                f"'{folder}' would lie in a pod, and be lost with it", where=option, remedy=f"use {option} with {kept}"
            )
    named = [Path(word) for word, sent in zip(words, job.words, strict=True) if word != sent]
    for file in [*named, *job.files.values()]:
        if not _is_kept(file, storage):
            place = "into the image" if storage.bucket_secret else f"on the storage, below {storage.path}"
            raise ConfigError(
                "is a file on this machine, which no pod has",
                where=str(file),
                remedy=f"put it and its bases {place}, and use its absolute path there; or let hcl submit send it",
            )


def _is_kept(path: Path, storage: Storage) -> bool:
    """Return whether a path lies on the volume that all pods share."""
    return not storage.bucket_secret and path.is_relative_to(storage.path) and ".." not in path.parts


@app.command("plan")
@with_json
def plan_study(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="A trained run, and evaluated for the costs of that.", autocompletion=completion.runs
        ),
    ],
    runs: Runs = RUNS,
    nodes: Annotated[int, typer.Option(min=1, help="Number of nodes that train and encode.")] = 1,
    gpus_per_node: Annotated[
        int, typer.Option(min=1, help="GPUs of each node, one per worker. For CPU nodes: workers that fit on each.")
    ] = 1,
    trials: Annotated[int, typer.Option(min=1, help="Number of trials of the study.")] = 100,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Workers of a trial; default: the run's.", show_default=False)
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of a trial; default: the run's.", show_default=False)
    ] = None,
    batches: Annotated[
        int | None, typer.Option(min=1, help="Steps per epoch; default: the run's.", show_default=False)
    ] = None,
    datasets: Annotated[int, typer.Option(min=0, help="Number of data sets on which the best trial is evaluated.")] = 5,
    clips: Annotated[int, typer.Option(min=1, help="Clips of each data set.")] = 2857,
    speed: Annotated[
        float, typer.Option(min=0.001, help="Speed of a worker there, relative to where the run was trained.")
    ] = 1.0,
) -> None:
    """Print how many trials of a study run at once on a cluster, how long all take, and how much they store.

    The plan is computed from the costs of RUN: seconds per clip, validation and pair of clips; bytes of a run, of
    features and of a score table. It assumes that no trial is stopped early, that no node fails, and that workers share
    an epoch without loss. Measure with a run on the cluster how much faster its GPUs are than this machine, and pass
    that as --speed.

    \b
    hcl cluster plan mine --nodes 4 --gpus-per-node 8 --trials 200
    """
    from cluster.plan import Task, plan
    from hcl.assembly.models import clips_per_step
    from orchestration.clusters.plan_table import show_plan
    from orchestration.clusters.unit_costs import measured

    costs, experiment = measured(run_folder(run, runs), runs)
    train = experiment.train
    clips_per_epoch = clips_per_step(experiment) * (batches or train.batches_per_epoch)
    task = Task(trials, workers or train.workers, epochs or train.epochs, clips_per_epoch, datasets, clips, speed)
    show_plan(
        plan(costs, task, n_nodes=nodes, per_node=gpus_per_node), costs, task, n_nodes=nodes, per_node=gpus_per_node
    )
