"""``tritonvision batch``: any number of pictures answered into Parquet files, on this machine or on a Ray cluster."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tritonvision import catalog, tasks
from tritonvision.cli import FAILED
from tritonvision.cli.options import ApiKey, MaxTokens, SchemaFile, print_json, read_schema, settings_with
from tritonvision.cli.options import Repository as RepositoryOption
from tritonvision.cli.predict import note
from tritonvision.cli.question import Question
from tritonvision.cli.question import ask as question_of
from tritonvision.cli.sources import facade, published, server_to_ask, tell_random
from tritonvision.errors import InvalidParameter, NotSupported

if TYPE_CHECKING:
    from tritonvision.batch.job import Job, Plan
    from tritonvision.batch.on_ray import Cluster
    from tritonvision.batch.parts import Done
    from tritonvision.batch.worker import Server
    from tritonvision.engine.facts import Facts
    from tritonvision.settings import Settings

_QUIET_SECONDS = 60.0  # between two lines of progress where there is no terminal


class Engine(StrEnum):
    """What runs the workers."""

    local = "local"
    ray = "ray"


def batch(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A folder, a pattern, a .txt with a path or URL a line, or Parquet.")
    ],
    model: Annotated[str, typer.Option("--model", metavar="ID", help="Id or alias, see 'tritonvision models'.")],
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Folder of the answers, here or s3://BUCKET/...")],
    engine: Annotated[
        Engine, typer.Option(help="One tritonserver here, or one a node of a Ray cluster.")
    ] = Engine.local,
    confidence: Annotated[
        float | None, typer.Option(min=0, max=1, metavar="F", help="Lowest score that counts. Default: the task's.")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", "--prompt", metavar="TEXT", help="A class to look for (repeat), or the question."),
    ] = None,
    max_tokens: MaxTokens = None,
    schema: SchemaFile = None,
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Parquet: the column with pictures or their paths.")
    ] = None,
    shard: Annotated[
        int, typer.Option(min=1, max=100_000, metavar="N", help="Most pictures of a file, and of what a death costs.")
    ] = 512,
    at_once: Annotated[
        int, typer.Option(min=1, max=1024, metavar="N", help="Pictures that a worker has under way.")
    ] = 16,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Answer files again in which pictures have no answer.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Ray: how many. Default: one a node.")
    ] = None,
    cpus: Annotated[float, typer.Option(min=0, metavar="N", help="Ray: CPUs set aside for a worker.")] = 1.0,
    gpus: Annotated[float, typer.Option(min=0, metavar="N", help="Ray: GPUs set aside for a worker.")] = 0.0,
    ray_address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Ray: the cluster, or 'auto'. Default: as Ray is set.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="[http://]HOST:PORT", help="Ask this server, instead of ones of the workers.")
    ] = None,
    api_key: ApiKey = None,
    repository: RepositoryOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Ask a model about every picture of SOURCE, and write the answers to Parquet files in DIR: a row a picture.

    A picture that cannot be read has a row that says so, and the command ends with 1. Whatever dies meanwhile, this
    command included: run it again, and it goes on with what has no file yet; no picture has two rows, and none is left
    out. Columns: picture, status (ok, or the error's code), answer (JSON), error, model, model_hash, precision.

    \b
    Examples:
      tritonvision batch photos/ --model yolov8n-640 --out answers
      tritonvision batch list.txt --model coco/3 --out answers --confidence 0.5
      tritonvision batch "s3://bucket/photos/*.jpg" --model resnet50 --out s3://bucket/answers
      tritonvision batch photos.parquet --column image --model clip/ViT-B-32 --out vectors
      tritonvision batch photos/ --model smolvlm-256m --text "What is there?" --out said
      tritonvision batch photos/ --model yolov8n-640 --out answers --engine ray --ray-address auto
    """
    from tritonvision.batch.job import Job
    from tritonvision.batch.on_ray import Cluster
    from tritonvision.batch.worker import Server

    settings = settings_with(repository=repository, api_key=api_key)
    catalog.check_id(model)
    question = question_of(confidence, None, None, text, max_tokens, read_schema(schema))
    address = None if url is None else server_to_ask(url, settings.port)
    facts = _facts(settings, model, address)
    given, prompt = _asked(facts, question)
    job = Job(facts.id, facts.fingerprint, facts.task, given, prompt, _absolute(source), column, shard)
    server = Server(settings, address, settings.api_key, at_once)
    cluster = Cluster(ray_address, workers, cpus, gpus) if engine is Engine.ray else None
    summary = _run(job, _absolute(out), server, cluster, retry_failed)
    _tell(summary, out, json)


def _facts(settings: Settings, model: str, address: str | None) -> Facts:
    """Those of the model where it will be asked; of random weights a person is told."""
    from tritonvision.engine.facts import Facts

    if address is None:
        return Facts.of(published(settings, model, note))

    async def told() -> Facts:
        connection = await facade(address, settings.api_key, note)
        try:
            return await connection.facts(model)
        finally:
            await connection.close()

    facts = asyncio.run(told())
    tell_random(facts, facts.id, note)
    return facts


def _asked(facts: Facts, question: Question) -> tuple[dict[str, Any], str]:
    """All settings of the task, and what a model that writes is asked."""
    if facts.task in (tasks.PROMPTABLE.name, tasks.TRACKING.name) or facts.task not in tasks.TASKS:
        raise NotSupported(f"'{facts.id}' does {facts.task}, which asks something else about each picture.")
    question.check(facts.id, facts.task)
    if question.texts and facts.task == tasks.EMBEDDING.name:
        raise InvalidParameter(
            "A batch of vectors takes no --text.", hint="Compare the vectors afterwards with AutoModel.embed_text."
        )
    given = tasks.resolve(tasks.TASKS[facts.task].parameters, question.parameters(facts.task))
    return given, question.texts[0] if facts.task == tasks.VLM.name else ""


def _absolute(place: str) -> str:
    """A path from the root, so that the batch goes on wherever the command is run; addresses as they are."""
    return place if "://" in place else os.path.abspath(place)


def _run(job: Job, out: str, server: Server, cluster: Cluster | None, retry_failed: bool) -> dict[str, Any]:
    """Answer what is not answered yet; the summary, which is also written where this ends by an error."""
    from tritonvision.batch import local, on_ray, parts
    from tritonvision.batch.folder import Folder
    from tritonvision.batch.job import begin

    folder = Folder(out)
    with folder.locked():
        plan = begin(folder, job)
        done = {one.shard: one for one in parts.finished(folder, job, plan) if not (retry_failed and one.failed)}
        todo = [number for number in range(len(plan)) if number not in done]
        began, before = time.monotonic(), sum(one.pictures for one in done.values())
        try:
            if todo:
                with _progress(plan, before) as advance:

                    def report(one: Done) -> None:
                        done[one.shard] = one
                        advance(one)

                    if cluster is None:
                        asyncio.run(local.run(job, folder, plan, todo, server, report, note))
                    else:
                        with redirect_stdout(sys.stderr):  # Ray tells there of workers that died
                            on_ray.run(job, folder, plan, todo, server, cluster, report)
        finally:
            summary = parts.summarize(folder, job, plan, list(done.values()))
    seconds = time.monotonic() - began
    return summary | {"now": sum(one.pictures for one in done.values()) - before, "seconds": round(seconds, 2)}


def _tell(summary: dict[str, Any], out: str, json: bool) -> None:
    failed = summary["pictures"] - summary["answered"]
    if json:
        print_json(summary)
    else:
        rate = summary["now"] / summary["seconds"] if summary["seconds"] else 0.0
        whole = f"{summary['answered']} of {summary['pictures']} pictures answered, in {summary['shards']} files"
        typer.echo(f"{out}: {whole}")
        if summary["now"]:
            typer.echo(f"  {summary['now']} of them now, {rate:.1f} a second")
        for status, count in sorted(summary["statuses"].items()):
            if status != "ok":
                typer.echo(f"  {count} {status}")
    if failed:
        raise typer.Exit(FAILED)


@contextmanager
def _progress(plan: Plan, done: int) -> Iterator[Callable[[Done], None]]:
    """Progress on standard error: a bar on a terminal, else a line a minute; yields what is told each shard."""
    if not sys.stderr.isatty():
        counted, last = [done], [time.monotonic()]

        def line(one: Done) -> None:
            counted[0] += one.pictures
            if time.monotonic() - last[0] > _QUIET_SECONDS:
                last[0] = time.monotonic()
                typer.echo(f"{counted[0]} of {plan.pictures} pictures", err=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("Pictures", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Pictures", total=plan.pictures, completed=done)
        yield lambda one: bar.advance(task, one.pictures)
