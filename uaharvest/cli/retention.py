"""`retention`: delete what is older than the site keeps it."""

from contextlib import closing

import click

from uaharvest import assembly
from uaharvest.cli.context import Context
from uaharvest.errors import BadInputError
from uaharvest.retention import Expired
from uaharvest.retention import retention as retention_of


@click.command()
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")
@click.pass_obj
def retention(context: Context, *, dry_run: bool) -> None:
    """Delete what is older than RETENTION_..._DAYS, as workers do each day.

    What an open run or a backfill still writes is kept.
    """
    settings = context.settings
    if not settings.retention_enabled:
        raise BadInputError(
            "nothing is deleted: expected one of RETENTION_USERACTIONS_DAYS, RETENTION_ZOOM_DAYS,"
            " RETENTION_DEAD_LETTERS_DAYS and RETENTION_DERIVED_DAYS."
        )
    with closing(assembly.redis_client(settings)) as client:
        made = retention_of(settings, client)
        limits = made.limits()
        for limit in limits:
            why = f", because {limit.because}" if limit.because else ""
            click.echo(f"{limit.what}: kept from {limit.before:%F} on ({limit.days} days{why})", err=True)
        count = 0
        for expired in made.plan(limits) if dry_run else made.run():
            count += 1
            click.echo(_line(expired, "would be deleted" if dry_run else "deleted"))
    if not count:
        click.echo("nothing is older", err=True)


def _line(expired: Expired, done: str) -> str:
    older = f" from before {expired.before:%F}" if expired.dead_letters or expired.what == "derived" else ""
    return f"{expired.name}: {expired.count:,}{older} {done}"
