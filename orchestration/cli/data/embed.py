"""Embed class names for the semantic branch: `hcl data embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from hcl.config.overrides import SET, parse_overrides
from hcl.config.paths import setting_of
from hcl.config.values import check_value
from hcl.errors import ConfigError
from orchestration.cli.options import DATA, Data
from orchestration.cli.shell import completion
from orchestration.console import notes, out


def embed(
    dataset: Annotated[
        str, typer.Argument(help="A data set with lists under DATA/splits.", autocompletion=completion.datasets)
    ],
    data: Data = DATA,
    model: Annotated[
        str, typer.Option(help="A transformers model: a local folder, or a name on the hub. Default: as published.")
    ] = "bert-base-cased",
    pooling: Annotated[
        Literal["pooler", "cls", "mean"],
        typer.Option(help="pooler: the model's pooler, as published; cls: the first token; mean: for sentence models"),
    ] = "pooler",
    names: Annotated[
        Path | None,
        typer.Option(
            help="Readable names, a `class,name` per line. Default: the file of the data set's card, else folders."
        ),
    ] = None,
    published: Annotated[
        Path | None, typer.Option(help="Import the released *_embs.pkl instead; no code from it runs.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="data.embeddings=FILE", help="Where an experiment has them.", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace embeddings that exist.")] = False,
) -> None:
    """Embed the names of all classes of a data set into DATA/embeddings/DATASET.npz, or the file of data.embeddings.

    The rows of a published pickle are the lines of the *_dirname2cls.txt beside it; put that file into DATA/embeddings,
    or give it with --names.

    \b
    hcl data embed hmdb51
    hcl data embed hmdb51 --published hmdb51_embs.pkl
    """
    from hcl.datasets.class_names import read_names, spelled_out
    from hcl.datasets.embeddings import ClassEmbeddings, embeddings_file, write_embeddings
    from hcl.datasets.published_embeddings import import_published
    from hcl.datasets.text_encoder import encode_names
    from hcl.frames.stored_dataset import StoredDataset

    stored = StoredDataset(data, dataset)
    path, card = embeddings_file(data, dataset, _pattern(settings)), stored.card
    if path.exists() and not overwrite:
        raise ConfigError("exists already", where=str(path), remedy="use --overwrite to replace it")
    classes = [name for part in stored.split.partitions.values() for name in part.classes]
    names_file = names or card.names_file(data)
    if published is not None:
        embeddings = import_published(published, names_file, classes, f"published bert-base-cased, {published.name}")
    else:
        is_named = names is not None or names_file.exists() or "readable_names" in card.model_fields_set
        if is_named:
            readable = read_names(names_file, classes)
        else:
            readable = {class_name: spelled_out(class_name) for class_name in classes}
            text = f"there is no {names_file}: class names are taken from their folders"
            notes.print(f"[yellow]note[/] {escape(text)}, such as {escape(repr(readable[classes[0]]))}", soft_wrap=True)
        vectors, identity = encode_names(list(readable.values()), model=model, pooling=pooling)
        embeddings = ClassEmbeddings(tuple(classes), tuple(readable.values()), vectors, identity)
    write_embeddings(path, embeddings)
    n_classes, dim = embeddings.vectors.shape
    out.print(escape(f"{path}: {n_classes} classes x {dim}, {embeddings.model}"), soft_wrap=True, highlight=False)


def _pattern(settings: list[str] | None) -> str:
    """Return `data.embeddings` as --set has it, or its default. Raises ConfigError for another setting."""
    values = {path: check_value(path, value, SET) for path, value in parse_overrides(settings or ()).items()}
    if others := [path for path in values if path != _EMBEDDINGS]:
        raise ConfigError(f"`{others[0]}` changes no embeddings", where=SET, remedy=f"set {_EMBEDDINGS} alone")
    return str(values.get(_EMBEDDINGS, setting_of(_EMBEDDINGS).default))


_EMBEDDINGS = "data.embeddings"
