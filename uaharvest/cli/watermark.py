"""`watermark`: show or move the instant up to which a stream is delivered."""

from datetime import UTC, datetime

import click

from uaharvest import assembly
from uaharvest.cli.context import Context, utc
from uaharvest.cli.options import START
from uaharvest.errors import BadInputError
from uaharvest.intervals import duration
from uaharvest.streams import registry
from uaharvest.streams.specs import useractions


@click.group()
def watermark() -> None:
    """Show or move the instant up to which a stream is delivered."""


stream_option = click.option(
    "--stream",
    type=click.Choice(registry.names()),
    default=useractions.SPEC.name,
    help="The stream whose watermark it is.",
)


@watermark.command()
@stream_option
@click.pass_obj
def show(context: Context, *, stream: str) -> None:
    """Show the watermark."""
    stored = assembly.watermarks(context.settings, stream).read()
    where = f"s3://{context.settings.bucket}/{assembly.watermark_key(context.settings, stream)}"
    if stored is None:
        click.echo(f"{stream}: there is none at {where}. The next run begins {registry.spec_of(stream).begins}.")
        return
    mark = stored.mark
    lag = duration((datetime.now(UTC) - mark.at).total_seconds())
    click.echo(f"{stream}: {utc(mark.at)} UTC ({lag} ago), at {where}")
    if not registry.spec_of(stream).has_late_rows:
        return
    click.echo(f"late rows are looked for as far back as {utc(mark.floor)} UTC; epoch {mark.epoch}")


@watermark.command("set")
@click.argument("time", type=START)
@stream_option
@click.pass_obj
def set_(context: Context, *, time: datetime, stream: str) -> None:
    """Move the watermark to TIME: YYYYMMDDHHmmss in OPENCAST_TIMEZONE, or ISO 8601 with a zone.

    Everything after it is harvested, and sent again if it was sent before; for episodes and zoom, in whole days (UTC).
    If the watermark moves forward, what it skips is not harvested. An open run becomes void.
    """
    if time > datetime.now(UTC):
        raise BadInputError(f"TIME: {utc(time)} UTC is in the future. Expected a time before now.")
    stored = assembly.watermarks(context.settings, stream).move(time)
    click.echo(f"{stream}: the watermark is now {utc(stored.mark.at)} UTC; everything after it is sent again.")


@watermark.command()
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@stream_option
@click.pass_obj
def reset(context: Context, *, yes: bool, stream: str) -> None:
    """Delete the watermark; the next run begins DEFAULT_INTERVAL minutes before its time, or with the day before."""
    if not yes:
        click.confirm(
            "Everything between the watermark and the next run's start will not be harvested. Delete it?",
            abort=True,
        )
    assembly.watermarks(context.settings, stream).delete()
    begins = registry.spec_of(stream).begins
    click.echo(
        f"{stream}: the watermark is deleted; the next run begins {begins}. `manage.py status`"
        " will show what was skipped, until `manage.py watermark confirm`."
    )


@watermark.command()
@stream_option
@click.pass_obj
def confirm(context: Context, *, stream: str) -> None:
    """Confirm what `status` reports as lost, or that source or destination were changed on purpose.

    `status` reports a lost watermark or queue until then. Harvest what is missing first, with the command that `status`
    shows. A watermark of another source or destination is taken over for the configured ones.
    """
    confirmed = assembly.losses(context.settings, stream=stream).confirm()
    for loss in confirmed:
        click.echo(f"{stream}: confirmed: {loss.reason}")
    adopted = assembly.watermarks(context.settings, stream).adopt()
    if adopted:
        text = adopted.mark.deployment.text
        click.echo(f"{stream}: the watermark, {utc(adopted.mark.at)} UTC, now belongs to {text}.")
    if not (confirmed or adopted):
        click.echo(f"{stream}: there is nothing to confirm.")
