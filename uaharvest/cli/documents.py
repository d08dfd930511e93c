"""`documents`: inspect the document store."""

import json
import sys

import click

from uaharvest import assembly
from uaharvest.cli.context import Context
from uaharvest.errors import BadInputError
from uaharvest.sinks.stdout import opened


@click.group()
def documents() -> None:
    """Inspect the document store (DOCUMENTS_URL, else ES_HOST)."""


@documents.command("list")
@click.pass_obj
def list_(context: Context) -> None:
    """List the indices and their numbers of documents, as JSON lines. The numbers of a server may be a second old."""
    out = opened(sys.stdout)
    indices = assembly.document_store(context.settings).indices()
    for index, count in indices.items():
        click.echo(json.dumps({"index": index, "documents": count}), file=out)
    if not indices:
        click.echo("no documents", err=True)


@documents.command()
@click.argument("index")
@click.argument("document_id", metavar="ID")
@click.pass_obj
def get(context: Context, *, index: str, document_id: str) -> None:
    """Show one document as a line of JSON. It may contain personal data."""
    out = opened(sys.stdout)
    context.note_access("documents get", index=index, id=document_id)
    found = assembly.document_store(context.settings).get(index, document_id)
    if found is None:
        raise BadInputError(
            f"ID: {index} has no document '{document_id}'. `manage.py documents list` lists the indices."
        )
    click.echo(json.dumps(found), file=out)


@documents.command()
@click.argument("index_pattern", metavar="INDEX")
@click.pass_obj
def export(context: Context, *, index_pattern: str) -> None:
    """Print all documents of INDEX, which may contain `*` (quote it), as JSON lines. They may contain personal data."""
    out = opened(sys.stdout)
    context.note_access("documents export", index=index_pattern)
    count = 0
    for document in assembly.document_store(context.settings).select(index_pattern):
        click.echo(json.dumps(document), file=out)
        count += 1
    click.echo(f"{count:,} documents", err=True)
