"""`paintover render` and `farm`: jobs on machines that have no queue of ours."""

from __future__ import annotations

import click

from paintover_bridge.cli import context
from paintover_bridge.cli.job_options import JobOptions, keyframe_options, method_options, takes_job
from paintover_bridge.errors import bad_input

_STAGES = ("plate", "prepare", "propagate", "deliver")


@click.command()
@click.argument("job")
@click.option("--stage", "stages", metavar="STAGE", type=click.Choice(_STAGES), multiple=True,
              help="plate, prepare, propagate or deliver; several times.  [default: all but plate]")  # fmt: skip
@click.option("--windows", metavar="A-B", help="Only these of the job's windows.  [default: all]")
@click.option("--store", metavar="FOLDER|URL", help="Where all tasks keep their stages.  [default: store, by JOB]")
@click.option("--path-mapping", metavar="FILE", help="Open Job Description's rules for the paths of other machines.")
def render(job: str, stages: tuple[str, ...], windows: str | None, store: str | None, path_mapping: str | None) -> int:
    """Render a job of a farm, or a part of it, without an engine in the background.

    JOB is the job.json of a bundle that `paintover farm bundle` wrote. Any number of these may run at once on any
    machines that share the store; run again, it does nothing a second time. It prints Open Job Description's lines for
    progress.

    \b
    Examples:
      paintover render bundle/job.json
      paintover render bundle/job.json --store /mnt/store --stage prepare --windows 1-4
      paintover render bundle/job.json --store s3://shots/sh010 --stage plate
    """
    from paintover_bridge import daemon

    options = {"--windows": windows, "--store": store, "--path-mapping": path_mapping}
    given = [part for name, value in options.items() if value for part in (name, value)]
    return daemon.become(daemon.farm_command("render", job, *given, *(p for s in stages for p in ("--stage", s))))


@click.group()
@context.common
def farm() -> None:
    """Hand a job to a render farm."""


@farm.command()
@keyframe_options()
@method_options
@click.option("-o", "--output", "folder", metavar="DIR", required=True, help="The bundle's folder, which is made.")
@click.option("--result", metavar="OUT", help="Where the edited shot goes.  [default: result/ in DIR]")
@click.option("--write-mattes", "mattes", metavar="PATH", help="A pattern or folder to write the mattes to.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option("--frames", "redone", metavar="A-B", help="With --keep: make only these frames anew.")
@click.option("--keep", "earlier", metavar="JOBFILE", help="With --frames: the job.json that made the others.")
@context.common
@takes_job
def bundle(
    job: JobOptions,
    keyframes: tuple[str, ...],
    keyframe_mattes: tuple[str, ...],
    holdouts: tuple[str, ...],
    rotos: tuple[str, ...],
    drags: tuple[str, ...],
    folder: str,
    result: str | None,
    redone: str | None,
    earlier: str | None,
) -> int:
    """Write a job as an Open Job Description bundle.

    DIR gets template.yaml, parameter_values.yaml and asset_references.yaml, as Deadline Cloud and the `openjd` command
    take them, and job.json, which `paintover render` runs on any other farm. The keyframes are copied into it.

    \b
    Examples:
      paintover farm bundle 'plates/sh010.####.exr' -k 1001=a.exr --result 'out/sh010.####.exr' -o sh010_bundle
      paintover farm bundle 'plates/sh010.####.exr' -k 1001=a.exr -k 1046=b.exr \\
        --frames 1040-1052 --keep sh010_bundle/job.json -o sh010_again
    """
    from paintover_bridge.arguments import parse_corrections, parse_keyframes, parse_range
    from paintover_bridge.farm import write_bundle

    if (redone is None) != (earlier is None):
        raise bad_input("--frames and --keep belong together: the frames to make anew, and the job.json of the others.")
    files = parse_keyframes(keyframes, keyframe_mattes)
    files += parse_corrections(holdouts, rotos, drags, files)
    chosen = parse_range(redone, "--frames") if redone else None
    return write_bundle(job.parse(), files, folder, result, context.output(), chosen, earlier)
