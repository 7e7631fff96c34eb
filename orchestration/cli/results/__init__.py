"""Show records of runs, studies and evaluations without computing scores again: `hcl results ...`."""

import typer

from orchestration.cli.results import compare, export, labels, listing, track

app = typer.Typer(
    help="Compare methods on the same episodes; show classes, confusions, seeds, runs and studies; export."
)
app.command()(compare.compare)
app.command()(compare.classes)
app.command()(compare.seeds)
app.command("list")(listing.list_records)
app.command("show")(listing.show_run)
app.command("log")(listing.show_log)
app.command()(labels.tag)
app.command()(labels.note)
app.command()(export.export)
app.command()(export.ablation)
app.command()(export.published)
app.command()(track.track)
