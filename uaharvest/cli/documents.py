"""`documents`: look into the document store; `setup`: what must be there before the first document."""

import json

import click

from uaharvest import assembly, index_templates
from uaharvest.cli.context import Context
from uaharvest.errors import BadInputError
from uaharvest.sinks import elasticsearch


@click.group()
def documents() -> None:
    """Look into the document store (DOCUMENTS_URL, else ES_HOST)."""


@documents.command("list")
@click.pass_obj
def list_(context: Context) -> None:
    """List the indices and how many documents each holds, as JSON lines; in Elasticsearch up to a second old."""
    indices = assembly.document_store(context.settings).indices()
    for index, count in indices.items():
        click.echo(json.dumps({"index": index, "documents": count}))
    if not indices:
        click.echo("no documents", err=True)


@documents.command()
@click.argument("index")
@click.argument("document_id", metavar="ID")
@click.pass_obj
def get(context: Context, *, index: str, document_id: str) -> None:
    """Show one document as a line of JSON. It may hold data about a person."""
    found = assembly.document_store(context.settings).get(index, document_id)
    if found is None:
        raise BadInputError(
            f"ID: no document '{document_id}' is in {index}. `manage.py documents list` has the indices."
        )
    click.echo(json.dumps(found))


@documents.command()
@click.argument("index_pattern", metavar="INDEX")
@click.pass_obj
def export(context: Context, *, index_pattern: str) -> None:
    """Print all documents of INDEX, which may have `*` (quote it), as JSON lines. They may hold data about persons."""
    count = 0
    for document in assembly.document_store(context.settings).export(index_pattern):
        click.echo(json.dumps(document))
        count += 1
    click.echo(f"{count:,} documents", err=True)


@click.group()
def setup() -> None:
    """Prepare what must be there before the first document."""


@setup.command("index-templates")
@click.pass_obj
def load_index_templates(context: Context) -> None:
    """Load the index templates into Elasticsearch, as often as you like; a newer version is not overwritten."""
    settings = context.settings
    if settings.documents_url:
        click.echo(
            f"documents are kept in {settings.documents_url} (DOCUMENTS_URL), which needs no index templates"
        )
        return
    for template in index_templates.load(elasticsearch.connect(settings)):
        click.echo(f"{template.name}: {template.outcome} (version {template.version})")


setup.add_command(load_index_templates, "load-index-templates")  # the old tool's name; also with underscores
