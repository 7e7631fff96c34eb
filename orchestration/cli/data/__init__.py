"""Define the commands of `hcl data ...`, each in its own module."""

import typer

from orchestration.cli.data import check, embed, metaworld, pack, show, splits, synth

app = typer.Typer(help="Make and inspect data sets.", no_args_is_help=True)
app.command()(synth.synth)
app.command()(metaworld.metaworld)
app.command("list")(check.list_datasets)
app.command()(check.check)
app.command()(show.show)
app.command()(embed.embed)
app.command()(pack.pack)
app.command()(pack.unpack)
app.add_typer(splits.app, name="splits")
