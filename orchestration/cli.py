"""The command line: `hcl --help`. Exit status 0 done, 1 failed, 2 misused."""

from __future__ import annotations

import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
import typer
from rich.markup import escape

from hcl.errors import ConfigError, HCLError
from hcl.resolve import load_resolved, override, resolve, rows, shipped_experiments
from orchestration.console import (
    notes,
    out,
    percent,
    print_rows,
    print_table,
    show_epoch,
    show_records,
    show_trial,
    show_trials,
)
from results import RecordError
from search_spaces import SpaceError, load_space, shipped_spaces

if TYPE_CHECKING:
    from hcl.config import Experiment

app = typer.Typer(
    help="Few-shot action recognition with HCL: from videos to a table of accuracies, on a laptop or a Ray cluster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Make and inspect data sets.", no_args_is_help=True)
config_app = typer.Typer(help="Look at experiments.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(config_app, name="config")

Data = Annotated[Path, typer.Option("--data", help="Data root: videos/, splits/ and images/ lie in it.")]
Runs = Annotated[Path, typer.Option("--runs", help="Where runs are written.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override a setting; repeatable.", show_default=False),
]
Address = Annotated[str | None, typer.Option(help="A running Ray cluster (host:port or auto); default: local Ray.")]
Workers = Annotated[int | None, typer.Option(min=1, help="DDP workers of a run: short for --set train.workers=N.")]
Restart = Annotated[bool, typer.Option("--restart", help="Begin anew: what the run's folder holds is deleted.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would run, and stop.")]
ExperimentName = Annotated[
    str, typer.Argument(metavar="EXPERIMENT", help="A YAML file, or a shipped one (`hcl config list`).")
]

_DATA, _RUNS = Path("data"), Path("runs")
_OF_EVALUATION = (
    "evaluation.",
    "fusion.",
    "matching.metric",
    "matching.chunk_size",
    "train.use_gpu",
    "train.loader_processes",
)


def main() -> None:
    """Run the command line; a user's mistake ends in one message, never in a traceback."""
    try:
        app()
    except (HCLError, SpaceError, RecordError) as error:
        notes.print(f"[bold red]error[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(error.exit_code)
    except PermissionError as error:
        notes.print(f"[bold red]error[/] {escape(str(error.filename))}: no permission ({escape(str(error.strerror))})")
        notes.print("  -> give --data and --runs folders that you may write", soft_wrap=True)
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == 130:  # typer's for an interrupt
            notes.print("stopped; repeat the command to go on where it was")
        raise


@app.command()
def demo(
    data: Data = Path("runs/demo/data"),
    runs: Runs = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Of the videos, the weights and the search.")] = 0,
    address: Address = None,
) -> None:
    """The whole way on generated videos: extract, sweep, train the best, evaluate 5 data sets x 5 shots, report."""
    from orchestration.demo import run_demo

    run_demo(data_root=data, runs=runs, seed=seed, address=address, command=_command())


@data_app.command("synth")
def data_synth(
    data: Data = _DATA,
    videos_per_class: Annotated[int, typer.Option(min=2, help="Videos of each of the 36 classes.")] = 16,
    size: Annotated[int, typer.Option(min=32, help="Side of a frame in pixels.")] = 96,
    seed: Annotated[int, typer.Option(help="Everything about a video follows from it.")] = 0,
    domain: Annotated[
        list[str] | None, typer.Option(help="plain, textured, cluttered, dim or shaky; repeatable. Default: all five.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace videos made with other options.")] = False,
) -> None:
    """Make the synthetic benchmark: real video files of 36 actions in five visual domains, with splits."""
    from hcl.synthetic import ACTIONS, DOMAINS, make_benchmark
    from orchestration.runtime import progress

    domains = tuple(domain or DOMAINS)
    if unknown := [name for name in domains if name not in DOMAINS]:
        raise ConfigError(f"unknown domain {unknown[0]!r}", where="--domain", remedy=f"one of {', '.join(DOMAINS)}")
    with progress(len(domains) * len(ACTIONS) * videos_per_class, "make videos", "videos") as advance:
        made = make_benchmark(
            data,
            domains=domains,
            videos_per_class=videos_per_class,
            size=size,
            seed=seed,
            overwrite=overwrite,
            on_video=lambda done, total: advance(),
        )
    for name, dataset in made.items():
        out.print(
            f"{name}: {dataset.n_videos} videos of {dataset.n_classes} classes in {dataset.videos}", soft_wrap=True
        )


@config_app.command("list")
def config_list() -> None:
    """The experiments and search spaces that the program ships."""
    out.print("experiments: " + ", ".join(shipped_experiments()))
    out.print("spaces:      " + ", ".join(shipped_spaces()))


@config_app.command("show")
def config_show(
    experiment: ExperimentName,
    settings: Set = None,
    origin: Annotated[str, typer.Option(help="Only values whose origin holds this text, such as `--set`.")] = "",
) -> None:
    """The resolved experiment: each setting with its value, its origin, its unit and its meaning."""
    resolved = resolve(experiment, settings or [])
    shown = [row for row in rows(resolved) if origin in row.origin]
    frame = pd.DataFrame([row._asdict() for row in shown], columns=["path", "value", "origin", "unit", "meaning"])
    print_rows(frame, title=f"{experiment}, digest {resolved.experiment.digest()}")


@app.command()
def extract(
    dataset: Annotated[str, typer.Argument(help="A folder under DATA/videos, with its lists under DATA/splits.")],
    data: Data = _DATA,
    actors: Annotated[int | None, typer.Option(min=1, help="Videos decoded at once; default: one a CPU.")] = None,
    short_side: Annotated[
        int, typer.Option(min=0, help="Shrink frames to this short side in pixels; 0 keeps them.")
    ] = 256,
    quality: Annotated[int, typer.Option(min=1, max=100, help="JPEG quality.")] = 90,
    time_limit: Annotated[float, typer.Option(min=1, help="Seconds that one video may take.")] = 600.0,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try broken videos again.")] = False,
    address: Address = None,
) -> None:
    """Frames of a data set, by Ray actors; repeated, it does only what is missing or has changed."""
    from orchestration.extract import extract_dataset

    summary = extract_dataset(
        data,
        dataset,
        actors=actors,
        short_side=short_side,
        quality=quality,
        time_limit_s=time_limit,
        retry_failed=retry_failed,
        address=address,
    )
    counts = f"{summary.n_ok} extracted, {summary.n_skipped} there already, {summary.n_broken} broken"
    counts += f", {summary.n_timeout} timed out, {summary.n_missing} missing of {summary.n_listed} videos"
    rate = f"; {summary.n_frames} frames, {summary.n_bytes / 1e6:.1f} MB, {summary.videos_per_second:.1f} videos/s"
    out.print(f"{dataset}: {counts}{rate if summary.n_frames else ''}", soft_wrap=True)
    for record in summary.failed[:10]:
        notes.print(f"  {record.status}: {escape(record.key)}: {escape(record.error or '')}", soft_wrap=True)
    if len(summary.failed) > 10:
        notes.print(f"  ... and {len(summary.failed) - 10} more in {data}/images/{dataset}/manifest.parquet")


@app.command()
def train(
    experiment: ExperimentName,
    data: Data = _DATA,
    runs: Runs = _RUNS,
    settings: Set = None,
    workers: Workers = None,
    restart: Restart = False,
    address: Address = None,
    dry_run: DryRun = False,
) -> None:
    """Train one run by Ray Train; repeated, it goes on from the last checkpoint."""
    from orchestration.train import check_data
    from orchestration.train import train as train_run
    from orchestration.worker import Run

    chosen = _experiment(experiment, settings, workers)
    _announce(chosen)
    if dry_run:
        run = Run(chosen, data.absolute(), runs.absolute(), runs.absolute() / chosen.name)
        check_data(run)
        for partition in run.partitions():
            out.print(f"{partition.name}: {len(partition.videos)} clips of {len(partition.classes)} classes")
        steps = chosen.train.epochs * chosen.train.batches_per_epoch
        out.print(f"{steps} steps, {2 * steps * chosen.train.classes_per_batch} clips; nothing was started")
        return
    _tell_left_out(data, chosen.data.dataset)
    with out.status("starting") as status:
        run = train_run(
            chosen,
            data_root=data,
            runs=runs,
            restart=restart,
            address=address,
            command=_command(),
            on_epoch=show_epoch,
            on_progress=lambda now: status.update(
                f"epoch {now['epoch']}/{now['epochs']}, step {now['step']}/{now['steps']}, loss {now['total']:.3f}"
            ),
        )
    out.print(f"best and last checkpoint: {run.folder / 'checkpoints'}", soft_wrap=True)
    out.print(f"next: hcl evaluate {shlex.quote(str(run.folder))} --data {shlex.quote(str(data))}", soft_wrap=True)


@app.command()
def sweep(
    experiment: ExperimentName,
    space: Annotated[str, typer.Option(help="A YAML file, or a shipped one (`hcl config list`).")] = "sigma",
    trials: Annotated[int, typer.Option(min=1, help="Trials of the study.")] = 20,
    data: Data = _DATA,
    runs: Runs = _RUNS,
    settings: Set = None,
    workers: Workers = None,
    seed: Annotated[int, typer.Option(help="Of the sampler.")] = 0,
    stop_early: Annotated[bool, typer.Option(help="ASHA stops trials that fall behind.")] = True,
    restart: Restart = False,
    address: Address = None,
    dry_run: DryRun = False,
) -> None:
    """Search settings by Ray Tune with Optuna; repeated, it goes on with the trials that are not done."""
    from orchestration.study import Study, check_study
    from orchestration.sweep import sweep as run_sweep

    chosen = _experiment(experiment, settings, workers)
    pinned = resolve(None, settings or []).origins
    values = {path: value for path, value in _flat(chosen).items() if pinned.get(path) == "--set"}
    searched = load_space(space).pin(values)
    study = Study(chosen, searched, data.absolute(), runs.absolute(), trials, seed, stop_early)
    if dry_run:
        check_study(study)
        _show_space(study)
        return
    _announce(chosen)
    record, _ = run_sweep(study, address=address, restart=restart, command=_command(), on_trial=show_trial)
    show_trials(study.folder)
    best = study.folder / "best.yaml"
    out.print(
        f"best trial {record.best_trial}: {record.objective} {percent(record.best_value)}; its experiment: {best}",
        soft_wrap=True,
    )
    out.print(
        f"next: hcl train {shlex.quote(str(best))} --data {shlex.quote(str(data))} --runs {shlex.quote(str(runs))}",
        soft_wrap=True,
    )


@app.command()
def evaluate(
    run: Annotated[list[Path], typer.Argument(help="A run's folder, or its name under RUNS.")],
    data: Data = _DATA,
    runs: Runs = _RUNS,
    method: Annotated[
        list[str] | None, typer.Option(help="hcl, untrained, random or prototype; repeatable. Default: hcl.")
    ] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Evaluate on these data sets; repeatable.")] = None,
    settings: Set = None,
    address: Address = None,
) -> None:
    """Few-shot accuracies of runs: data sets x shots, with 95% intervals. Each clip is encoded once."""
    from hcl.effective import effective_partition
    from hcl.splits import read_partition
    from orchestration.evaluate import METHODS, encodings
    from orchestration.evaluate import evaluate as evaluate_run

    methods = tuple(method or ("hcl",))
    if unknown := [name for name in methods if name not in METHODS]:
        raise ConfigError(f"unknown method {unknown[0]!r}", where="--method", remedy=f"one of {', '.join(METHODS)}")
    folders = [_run_folder(one, runs) for one in run]
    for folder in folders:
        changes: list[str] = list(settings or [])
        if dataset:
            changes.append(f"evaluation.datasets=[{', '.join(dataset)}]")
        wrong = [change for change in changes if not change.startswith(_OF_EVALUATION)]
        if wrong:
            raise ConfigError(
                f"{wrong[0]!r} would evaluate another model than the one that was trained",
                where="--set",
                remedy="an evaluation may change evaluation.*, fusion.*, matching.metric and settings of the machine",
            )
        experiment = override(load_resolved(folder / "experiment.yaml"), changes)
        for one in experiment.evaluation.datasets or (experiment.data.dataset,):
            _tell_left_out(data, one)
        evaluate_run(
            folder, experiment, data_root=data, runs=runs, methods=methods, address=address, on_cell=show_records
        )
        partitions = [
            effective_partition(data, read_partition(data, one, experiment.evaluation.partition))
            for one in experiment.evaluation.datasets or (experiment.data.dataset,)
        ]
        notes.print(encodings(experiment, sum(len(partition.videos) for partition in partitions), len(methods)))
    print_table(folders)


@app.command()
def report(
    run: Annotated[list[str], typer.Argument(help="Folders of runs and sweeps, names under RUNS, or globs.")],
    runs: Runs = _RUNS,
    to: Annotated[
        Path | None, typer.Option(help="Folder of the page and tables; default: report/ in the first run.")
    ] = None,
) -> None:
    """Print the table of accuracies and write it as Markdown, CSV, LaTeX and one HTML page."""
    import results
    from results.report import write_report, write_tables

    folders = [one if any(sign in one for sign in "*?[") else str(_run_folder(Path(one), runs)) for one in run]
    loaded = results.load(folders)
    folder = to or Path(folders[0] if not any(sign in folders[0] for sign in "*?[") else runs) / "report"
    page = write_report(loaded, folder / "index.html")
    write_tables(loaded, folder)
    print_table(folders)
    out.print(f"page: {page}", soft_wrap=True)
    for skipped in loaded.skipped:
        notes.print(f"  left out {escape(skipped.file)}: {escape(skipped.reason)}", soft_wrap=True)


def _experiment(source: str, settings: list[str] | None, workers: int | None) -> Experiment:
    changes = list(settings or []) + ([f"train.workers={workers}"] if workers else [])
    return resolve(source, changes).experiment


def _tell_left_out(data: Path, dataset: str) -> None:
    """Name the videos that nothing will use, because they could not be decoded."""
    from hcl.effective import left_out
    from hcl.splits import read_split

    with suppress(HCLError):  # the command itself says what is wrong with the data
        for partition in read_split(data, dataset).partitions.values():
            if broken := left_out(data, partition):
                names = ", ".join(video.key for video in list(broken)[:3])
                text = f"{dataset} {partition.name}: {len(broken)} of {len(partition.videos)} videos left out as broken"
                notes.print(
                    f"[yellow]note[/] {escape(text)}: {escape(names)}{', ...' if len(broken) > 3 else ''}",
                    soft_wrap=True,
                )


def _flat(experiment: Experiment) -> dict[str, Any]:
    from hcl.settings import flatten

    return flatten(experiment.model_dump(mode="json"), "experiment")


def _announce(experiment: Experiment) -> None:
    train = experiment.train
    out.print(
        f"{experiment.name} ({experiment.mode}, digest {experiment.digest()}): {experiment.model.backbone} on "
        f"{experiment.data.dataset}, {train.epochs} epochs of {train.batches_per_epoch} batches of "
        f"{train.classes_per_batch} x 2 clips, {train.workers} worker(s) on {'GPU' if train.use_gpu else 'CPU'}",
        soft_wrap=True,
        highlight=False,
    )


def _show_space(study: Any) -> None:
    out.print(f"{study.n_trials} trials of {study.experiment.train.epochs} epochs over space {study.space.name}:")
    for path in study.space.parameters:
        out.print(f"  {path}: {study.space.parameters[path].model_dump(exclude_defaults=True)}", soft_wrap=True)
    for seed in range(3):
        out.print(f"  for example {study.space.sample(seed)}", soft_wrap=True)


def _run_folder(run: Path, runs: Path) -> Path:
    for folder in (run, runs / run):
        if (folder / "experiment.yaml").exists():
            return folder
    known = sorted(path.parent.name for path in runs.glob("*/experiment.yaml"))
    raise ConfigError(
        "is not a run: it has no experiment.yaml",
        where=str(run),
        remedy=f"runs in {runs}: {', '.join(known)}" if known else f"there is no run in {runs}; begin with hcl train",
    )


def _command() -> str:
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
