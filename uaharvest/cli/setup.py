"""`setup`: prepare what must exist before the first document."""

import click

from uaharvest.cli.context import Context


@click.group()
def setup() -> None:
    """Prepare what must exist before the first document."""


@setup.command("index-templates")
@click.option(
    "--retention",
    metavar="DAYS",
    type=click.IntRange(1),
    help="Also install a policy that deletes the indices of a day after so many days; episodes are kept.",
)
@click.pass_obj
def load_index_templates(context: Context, *, retention: int | None) -> None:
    """Load the index templates into Elasticsearch or OpenSearch.

    It can be repeated, and never overwrites a newer version.
    """
    settings = context.settings
    if settings.documents_url:
        click.echo(
            f"documents are stored in {settings.documents_url} (DOCUMENTS_URL), which needs no index templates"
        )
        return
    from uaharvest import index_templates  # noqa: PLC0415 - see assembly.document_store
    from uaharvest.sinks.cluster import connection  # noqa: PLC0415

    cluster = connection.connect(settings)
    for template in index_templates.load(cluster):
        click.echo(f"{template.name}: {template.outcome} (version {template.version})")
    if retention:
        outcome = index_templates.retain(cluster, retention)
        click.echo(
            f"{index_templates.POLICY}: {outcome} (new indices are deleted after {retention} days; for older ones see"
            " docs/elasticsearch.md)"
        )


@setup.command("dead-letters")
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    required=True,
    metavar="DAYS",
    help="Delete dead letters after so many days.",
)
@click.pass_obj
def expire_dead_letters(context: Context, *, days: int) -> None:
    """Let S3 delete dead letters that nobody has replayed or dropped.

    It adds a rule to the lifecycle of the bucket, or changes it; other rules stay. It can be repeated.
    """
    settings = context.settings
    settings.require("bucket")
    from uaharvest import aws, lifecycle  # noqa: PLC0415 - boto3 takes time to import

    lifecycle.expire(aws.s3_client(), settings.bucket or "", settings.dead_letter_prefix, days)
    click.echo(f"s3://{settings.bucket}/{settings.dead_letter_prefix}: deleted after {days} days")


setup.add_command(load_index_templates, "load-index-templates")  # the old tool's name; underscores work too
