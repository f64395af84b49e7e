"""`python -m ddim.tracking` with `ui`, `send` or `servers`."""

import argparse
from pathlib import Path

from ddim.errors import one_plain_message
from ddim.settings import params
from ddim.tracking import backfill, servers, ui


def main() -> None:
    """Show the runs until Ctrl-C, or log what the workspace holds."""
    parser = argparse.ArgumentParser(prog="python -m ddim.tracking")
    commands = parser.add_subparsers(required=True)
    page = commands.add_parser("ui", help="show the runs in a browser")
    page.add_argument("--experiment", default="ddim", help="which one to link to")
    page.add_argument("--port", type=int, default=5000)
    page.set_defaults(run=_ui)
    send = commands.add_parser(
        "send", help="log the trained model in the workspace, with all of its figures"
    )
    send.set_defaults(run=_send)
    shared = commands.add_parser("servers", help="MLflow, PostgreSQL, S3 for a team")
    shared.add_argument("--folder", type=Path, default="servers", help="for their data")
    shared.add_argument("--port", type=int, default=5000, help="and the next two")
    shared.set_defaults(run=_servers)
    options = parser.parse_args()
    with one_plain_message():
        options.run(options)


def _ui(options: argparse.Namespace) -> None:
    ui.serve(options.experiment, options.port)


def _servers(options: argparse.Namespace) -> None:
    servers.run(options.folder.resolve(), options.port)


def _send(options: argparse.Namespace) -> None:
    print(backfill.send(params.load()))


main()
