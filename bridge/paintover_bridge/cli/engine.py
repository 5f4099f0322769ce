"""The engine's own commands: `serve`, `stop`, `status`, `doctor`, `monitor`."""

from __future__ import annotations

import sys

import click

from paintover_bridge.cli import context
from paintover_bridge.errors import FAILED, OK, UNAVAILABLE, ClientError


@click.command()
@click.option(
    "--listen",
    metavar="ADDRESS",
    default="",
    help="127.0.0.1:PORT (0: any free one), or unix:/path/of/socket.  [default: a socket in the data folder]",
)
@click.option("--gpu-memory", metavar="SIZE", help="Use that much of a GPU at most: 8G.  [default: all]")
@click.option("--cache-size", metavar="SIZE", help="Room on disk for what can be made again.  [default: 50G]")
@click.option("--cpu-workers", metavar="N", type=click.IntRange(1), help="Processes on the CPU.  [default: 1]")
@click.option("--workers-listen", metavar="HOST:PORT", help="Let devices of other machines join there; see `worker`.")
@click.option("--store", metavar="FOLDER", help="Keep stages' outputs here, where other machines see them.")
@click.option("--ray", metavar="ADDRESS", help="Compute on the nodes of a Ray cluster, too.")
@click.option("--metrics", is_flag=True, help="Answer /metrics for Prometheus, on the monitor's port, with the token.")
@context.common
def serve(
    listen: str,
    gpu_memory: str | None,
    cache_size: str | None,
    cpu_workers: int | None,
    workers_listen: str | None,
    store: str | None,
    ray: str | None,
    metrics: bool,
) -> int:
    """Run the engine in this terminal.

    It serves every client on this machine until Ctrl-C or `paintover stop`.

    \b
    Examples:
      paintover serve --listen unix:/tmp/paintover.sock
      paintover serve --workers-listen 0.0.0.0:7700
    """
    from paintover_bridge import daemon
    from paintover_bridge.arguments import parse_size

    sizes = {"--gpu-memory": gpu_memory, "--cache-size": cache_size}
    options = [part for name, text in sizes.items() if text for part in (name, str(parse_size(text)))]
    options += ["--cpu-workers", str(cpu_workers)] if cpu_workers else []
    options += ["--workers-listen", workers_listen] if workers_listen else []
    options += ["--store", store] if store else []
    options += ["--ray", ray] if ray else []
    return daemon.serve(context.data_folder(), listen, [*options, *(["--metrics"] if metrics else [])])


@click.command()
@click.option("--join", "address", metavar="HOST:PORT", required=True, help="Where the engine lets workers join.")
@click.option("--fingerprint", metavar="HEX", help="Of the engine's certificate; needed where it is not on loopback.")
@click.option("--token-file", metavar="FILE", help="The engine's worker-token.  [default: that of the data folder]")
@click.option("--cpu-workers", metavar="N", type=click.IntRange(0), help="Processes on the CPU.  [default: 1]")
@click.option("--gpu-memory", metavar="SIZE", help="Use that much of a GPU at most: 8G.  [default: all]")
@click.option("--cache-size", metavar="SIZE", help="Room on disk for what is fetched and made.  [default: 50G]")
@click.option("--path-mapping", metavar="FILE", help="Open Job Description's rules for the engine's paths.")
@click.option("--store", metavar="FOLDER", help="The engine's --store as this machine sees it.")
@click.option("--name", metavar="NAME", help="What the engine calls this machine.  [default: its host name]")
@context.common
def worker(address: str, token_file: str | None, **given: str | int | None) -> int:
    """Compute for an engine on another machine.

    This machine's GPUs, and its processor, become devices of that engine until Ctrl-C; it may come and go at any time.
    `paintover serve --workers-listen` prints the address, the fingerprint, and where the token is, which is brought
    here by hand. What is fetched and made lies in the folder worker/ of the data folder.

    \b
    Example:
      paintover worker --join ws1:7700 --fingerprint 3f5c… --token-file ws1-token
    """
    from paintover_bridge import daemon
    from paintover_bridge.arguments import parse_size

    folder = context.data_folder()
    options = ["--data-dir", str(folder / "worker"), "--join", address]
    options += ["--token-file", token_file or str(folder / "worker-token")]
    for name, value in given.items():
        option = f"--{name.replace('_', '-')}"
        if value is not None:
            options += [option, str(parse_size(str(value)) if name in ("gpu_memory", "cache_size") else value)]
    return daemon.become(daemon.engine_module("paintover_engine.service.workers", *options))


@click.command()
@click.option("--now", is_flag=True, help="Do not wait for jobs: they resume when an engine runs again.")
@context.common
def stop(now: bool) -> int:
    """Stop the engine, when its jobs are done.

    \b
    Example:
      paintover stop --now
    """
    from paintover_bridge import daemon

    output, endpoint = context.output(), daemon.find(context.data_folder())
    if endpoint is None:
        output.say("No engine is running.")
        output.record({"running": False})
        return OK
    try:
        with context.connected(start=False) as client:
            engine = client.get_engine()
            waits = not now and engine.jobs_running + engine.jobs_waiting > 0
            client.stop_engine(when_idle=waits)
    except ClientError as error:
        if error.code not in ("FAILED_PRECONDITION", "UNAUTHENTICATED", "UNIMPLEMENTED"):
            raise
        daemon.terminate(endpoint)  # it speaks another protocol, so no call can stop it
        waits = False
    if waits:
        output.record({"running": True, "pid": endpoint.pid})
        output.say("The engine stops when its jobs are done; `paintover stop --now` does not wait for them.")
        return OK
    if not daemon.wait_until_gone(endpoint, daemon.START_SECONDS):
        raise ClientError("DEADLINE_EXCEEDED", f"The engine (process {endpoint.pid}) does not end; see {endpoint.log}.")
    output.record({"running": False, "pid": endpoint.pid})
    output.say("Stopped.")
    return OK


@click.command()
@context.common
def status() -> int:
    """Show the engine that runs.

    Version, devices, models found, room, jobs. Exit status 3 when none runs.

    \b
    Example:
      paintover status --json
    """
    from paintover_bridge import daemon

    output, folder = context.output(), context.data_folder()
    endpoint = daemon.find(folder)
    if endpoint is None:
        output.record({"running": False, "data_folder": str(folder)})
        output.say(f"No engine is running on {folder}; commands start one when they need it.")
        return UNAVAILABLE
    from paintover_bridge.records import as_record
    from paintover_bridge.tables import print_engine

    with context.connected(start=False) as client:
        engine = client.get_engine()
    if output.as_json:
        output.record({"running": True, "address": endpoint.address, **as_record(engine)})
    else:
        print_engine(engine, endpoint.address)
    return OK


@click.command()
@context.common
def doctor() -> int:
    """Check this machine and say what to mend.

    Exit status 1 if anything is broken.

    \b
    Example:
      paintover doctor
    """
    from dataclasses import asdict

    from paintover_bridge.doctor import examine

    output, broken = context.output(), False
    for check in examine(context.data_folder()):
        broken |= check.needed and not check.ok
        output.record(asdict(check))
        output.say(f"{_mark(check.ok, check.needed)} {check.name}: {check.found}")
        if not check.ok:
            output.say(f"  → {check.remedy}" if _can_print("→") else f"  -> {check.remedy}")
    return FAILED if broken else OK


def _mark(ok: bool, needed: bool) -> str:
    if _can_print("✓✗"):
        return "✓" if ok else "✗" if needed else "-"
    return "ok  " if ok else "FAIL" if needed else "-   "


def _can_print(text: str) -> bool:
    """Whether standard output's encoding has these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


@click.command()
@click.option("--no-browser", is_flag=True, help="Print the link only.")
@context.common
def monitor(no_browser: bool) -> int:
    """Open the queue's page in a browser.

    The link works once, within ten minutes; the browser that opened it stays known. An engine is started if none runs,
    and goes on until `paintover stop`.

    \b
    Example:
      paintover monitor
    """
    from paintover_bridge.browser import open_link

    with context.connected(ephemeral=False) as client:
        url = client.open_monitor()
    output = context.output()
    output.record({"url": url})
    output.say(url)
    if not no_browser and not output.as_json:
        open_link(url, context.data_folder())
    return OK
