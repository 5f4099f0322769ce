"""`paintover install` and `uninstall`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from paintover_bridge.cli import context

if TYPE_CHECKING:
    from paintover_bridge.install import Installer

_TARGETS = click.argument("targets", nargs=-1, metavar="[resolve|nuke|photoshop|krita|gimp|ofx|service|all]...")
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
_ROOT = click.option(
    "--root", metavar="FOLDER", help="A folder that stands for the whole disk, for packages and tests."
)
_ALL_USERS = click.option("--all-users", is_flag=True, help="For every user of this machine, not you alone.")


def _installer(root: str | None, all_users: bool, bundle: str | None = None) -> Installer:
    from pathlib import Path

    from paintover_local import places

    from paintover_bridge.install import Installer

    machine = places.Machine.this(all_users, Path(root).resolve() if root else None)
    if root and context.given_data_folder() is None:
        folder = machine.real(places.data_folder(machine))
    else:
        folder = context.data_folder()
    return Installer(machine, folder, context.output(), Path(bundle).resolve() if bundle else None)


@click.command()
@_TARGETS
@_DRY_RUN
@_ALL_USERS
@_ROOT
@click.option("--bundle", metavar="FOLDER", help="The OpenFX effect's bundle, where it is not with this installation.")
@context.common
def install(targets: tuple[str, ...], dry_run: bool, all_users: bool, root: str | None, bundle: str | None) -> int:
    """Put menus, scripts, the panel, the OpenFX effect and the service where hosts and the system look.

    Everything that is done is written down, and what is replaced is kept, so that `uninstall` leaves no trace. Hosts
    should be closed. The OpenFX effect has no place of a user's own: it may need administrator's rights.

    \b
    Examples:
      paintover install nuke --dry-run
      paintover install all
    """
    from paintover_bridge.install import choose_targets

    return _installer(root, all_users, bundle).install(choose_targets(targets), dry_run)


@click.command()
@_TARGETS
@_DRY_RUN
@_ROOT
@context.common
def uninstall(targets: tuple[str, ...], dry_run: bool, root: str | None) -> int:
    """Take out what `install` put in, and put back what was there before.

    The engine's data folder keeps your jobs and results.

    \b
    Example:
      paintover uninstall nuke
    """
    from paintover_bridge.install import choose_targets

    return _installer(root, False).uninstall(choose_targets(targets), dry_run)
