"""`metrics`: serve the state of the harvest to Prometheus."""

import click
from prometheus_client import CollectorRegistry, start_http_server

from uaharvest.broker import Broker
from uaharvest.cli.context import Context
from uaharvest.errors import BadInputError
from uaharvest.metrics import HarvestCollector


@click.command()
@click.pass_obj
def metrics(context: Context) -> None:
    """Serve metrics for Prometheus.

    It listens on METRICS_HOST and METRICS_PORT until it is stopped.
    """
    settings = context.settings
    settings.require("bucket")
    registry = CollectorRegistry()
    registry.register(HarvestCollector(settings, Broker(settings, context.workers)))
    host, port = settings.metrics_host, settings.metrics_port
    try:
        _, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise BadInputError(
            f"METRICS_HOST, METRICS_PORT: cannot listen on {host}:{port}: {error.strerror}."
            " Expected an address of this machine and a free port."
        ) from None
    click.echo(f"metrics on http://{host}:{port}/metrics", err=True)
    thread.join()
