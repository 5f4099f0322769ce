"""`paintover methods`."""

from __future__ import annotations

import click

from paintover_bridge.cli import context
from paintover_bridge.errors import OK, bad_input


@click.command()
@click.argument("name", required=False)
@click.option("--plan", "source", metavar="SOURCE", help="Print what NAME would take in memory and on disk for a shot.")
@click.option("-p", "parameters", metavar="NAME=VALUE", multiple=True, help="With --plan: a parameter of the method.")
@click.option("--model", metavar="NAME|FOLDER|HUB-ID", default="", help="With --plan: the model.")
@context.common
def methods(name: str | None, source: str | None, parameters: tuple[str, ...], model: str) -> int:
    """List the methods, their parameters and what they need.

    \b
    Examples:
      paintover methods draft
      paintover methods i2vedit --plan shot.mov
    """
    from paintover_bridge.records import as_record
    from paintover_bridge.tables import print_methods

    if source is not None:
        return _plan_method(name, source, parameters, model)

    with context.connected() as client:
        found = list(client.list_methods())
    if name is not None:
        names = [method.name for method in found]
        if name not in names:
            raise bad_input(f"There is no method '{name}'.{_suggest(name, names)}")
        found = [method for method in found if method.name == name]
    output = context.output()
    if output.as_json:
        for method in found:
            output.record(as_record(method))
    else:
        print_methods(found)
    return OK


def _plan_method(name: str | None, source: str, parameters: tuple[str, ...], model: str) -> int:
    """Prints what a method would take for a shot."""
    from paintover_bridge.arguments import check_source, parse_parameters
    from paintover_bridge.records import as_record
    from paintover_bridge.tables import print_plan

    if name is None:
        raise bad_input("--plan needs a method's name; see `paintover methods`.")
    chosen = parse_parameters(parameters)
    check_source(source)
    with context.connected() as client:
        plan = client.plan_method(client.create_shot(source).name, name, chosen, model)
    if context.output().as_json:
        context.output().record(as_record(plan))
    else:
        print_plan(plan)
    return OK


def _suggest(name: str, valid: list[str]) -> str:
    """The end of a sentence about an unknown name: the closest valid one, or all of them."""
    import difflib

    close = difflib.get_close_matches(name.lower(), valid, n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else f" Valid: {', '.join(valid)}."
