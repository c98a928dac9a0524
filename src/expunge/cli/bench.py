"""``expunge bench``: benchmarks. Quick forms by default."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.benchmarks import (
    continual_digits,
    near_duplicates,
    speed_acu,
    speed_aggregation,
    speed_classification,
    speed_language,
    speed_shadows,
)
from expunge.benchmarks.classification import corner, protocol, tables
from expunge.benchmarks.classification.worlds import WORLDS
from expunge.benchmarks.corrective import picture as corrective_picture
from expunge.benchmarks.corrective import protocol as corrective_protocol
from expunge.benchmarks.corrective import tables as corrective_tables
from expunge.benchmarks.dmm import protocol as dmm_protocol
from expunge.benchmarks.dmm import tables as dmm_tables
from expunge.benchmarks.membership import protocol as membership_protocol
from expunge.benchmarks.membership import tables as membership_tables
from expunge.benchmarks.o3 import protocol as o3_protocol
from expunge.benchmarks.reliability import protocol as reliability_protocol
from expunge.benchmarks.reliability import tables as reliability_tables
from expunge.benchmarks.sparsity import presets as sparsity_presets
from expunge.benchmarks.sparsity import protocol as sparsity_protocol
from expunge.benchmarks.sparsity import tables as sparsity_tables
from expunge.benchmarks.sparsity.work import PRUNERS, SUBJECTS
from expunge.benchmarks.worst_case import protocol as worst_case_protocol
from expunge.benchmarks.worst_case import tables as worst_case_tables
from expunge.cli import (
    bench_acu,
    bench_amnesia,
    bench_attacks,
    bench_canvas,
    bench_concepts,
    bench_continual_classes,
    bench_continual_vlm,
    bench_drawing,
    bench_facts,
    bench_identity,
    bench_label_free,
    bench_language,
    bench_msgm,
    bench_real_facts,
    bench_regression,
    bench_s3t,
    bench_service,
    bench_smoothing,
)
from expunge.cli.bench_options import CORES, Methods, Processes
from expunge.cli.output import (
    JsonPath,
    console,
    show,
    table,
    told,
    writable_folder,
    write_json,
    write_picture,
)
from expunge.errors import ExpungeError
from expunge.storage import write_bytes

app = typer.Typer(no_args_is_help=True)
speed = typer.Typer(no_args_is_help=True)
app.add_typer(speed, name="speed", help="Seconds, bytes and ratios against plain forms.")
app.command("continual-vlm")(bench_continual_vlm.continual_vlm)
app.command("continual-classes")(bench_continual_classes.classes_in_a_row)
app.command("drawing")(bench_drawing.drawing)
app.command("facts")(bench_facts.facts)
app.command("identity")(bench_identity.identity)
app.command("acu")(bench_acu.acu)
app.command("amnesia")(bench_amnesia.amnesia)
app.command("attacks")(bench_attacks.attacks)
app.command("canvas")(bench_canvas.canvas)
app.command("concepts")(bench_concepts.concepts)
app.command("label-free")(bench_label_free.label_free)
app.command("real-facts")(bench_real_facts.real_facts)
app.command("regression")(bench_regression.regression)
app.command("s3t")(bench_s3t.s3t)
app.command("service")(bench_service.service)
app.command("smoothing")(bench_smoothing.smoothing)
app.command("msgm")(bench_msgm.msgm)
app.command("tofu")(bench_language.tofu)
app.command("muse")(bench_language.muse)
app.command("wmdp")(bench_language.wmdp)


@speed.command("acu")
def speed_of_acu(
    rows: Annotated[int, typer.Option(min=100, help="Rows of Fashion-MNIST.")] = 60_000,
    width: Annotated[int, typer.Option(min=16, help="Random features.")] = 2048,
    repeats: Annotated[int, typer.Option(min=1, help="Of a request.")] = 5,
    json: JsonPath = None,
) -> None:
    """ACU: a request of ten rows against a ridge head learned anew from 60,000."""
    result = speed_acu.run(rows, width, repeats, console.print)
    title, columns, cells, below = speed_acu.table(result)
    console.print(table(title, columns, cells))
    console.print(below, soft_wrap=True)
    write_json(json, result)


@speed.command("aggregation")
def speed_of_aggregation(
    full: Annotated[bool, typer.Option(help="64 million parameters instead of 8.")] = False,
    json: JsonPath = None,
) -> None:
    """Streaming aggregation against plain torch, stacking, and the bandwidth of memory."""
    result = speed_aggregation.run(quick=not full)
    for line in speed_aggregation.rows(result):
        console.print(line)
    write_json(json, result)


@speed.command("classification")
def speed_of_classification(
    full: Annotated[
        bool, typer.Option("--full", help="1,024 rows and five repeats instead of 256 and two.")
    ] = False,
    json: JsonPath = None,
) -> None:
    """Per-sample Fisher against a loop, and seconds of methods beside those of retraining."""
    rows, repeats = (1024, 5) if full else (256, 2)
    result = speed_classification.run(rows, repeats, console)
    show(speed_classification.tables(result))
    write_json(json, result)


@speed.command("language")
def speed_of_language(
    full: Annotated[
        bool, typer.Option("--full", help="Width 384 and eight layers instead of 192 and four.")
    ] = False,
    json: JsonPath = None,
) -> None:
    """NPO with the reference's answers cached, and batches without padding."""
    width, layers, steps = (384, 8, 12) if full else (192, 4, 6)
    result = speed_language.run(width, layers, steps, console)
    show(speed_language.tables(result))
    write_json(json, result)


@speed.command("shadows")
def speed_of_shadows(
    full: Annotated[
        bool, typer.Option("--full", help="20 passes, best of three, instead of 4 passes, once.")
    ] = False,
    json: JsonPath = None,
) -> None:
    """Populations of small models: stacked, in processes, one by one, and which is chosen."""
    result = speed_shadows.run(full, console.print)
    title, columns, rows, below = speed_shadows.table(result)
    console.print(table(title, columns, rows))
    console.print(below, soft_wrap=True)
    write_json(json, result)


@app.command("continual-digits")
def continual_on_digits(
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, from 0.")] = 6,
    requests: Annotated[
        int, typer.Option(min=1, max=9, help="Classes to forget, one after another.")
    ] = 5,
    json: JsonPath = None,
) -> None:
    """All eight rules on scikit-learn digits, strengths chosen on a validation split."""
    result = continual_digits.run(seeds, requests, console=console)
    show(continual_digits.tables(result))
    write_json(json, result)


@app.command("o3")
def gated_adapters(
    full: Annotated[
        bool, typer.Option("--full", help="Without penalty, and without training, too.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, from 0.")] = 1,
    json: JsonPath = None,
) -> None:
    """O3: topics forgotten in turn by gated adapters, without retain data; gate open and shut."""
    chosen = tuple(o3_protocol.METHODS) if full else o3_protocol.QUICK
    result = o3_protocol.run(seeds, chosen, console)
    show(o3_protocol.tables(result))
    write_json(json, result)


@app.command("near-duplicates")
def near_duplicates_planted(
    full: Annotated[
        bool, typer.Option("--full", help="Five seeds; e-mails and a sweep of thresholds, too.")
    ] = False,
    json: JsonPath = None,
) -> None:
    """Copies planted among real texts and pictures: recall and precision of `expunge find`."""
    result = near_duplicates.run(full, console)
    for title, columns, rows, below in near_duplicates.tables(result):
        console.print(table(title, columns, rows))
        console.print(below, soft_wrap=True)
    if not full:
        console.print("E-mails: --full, after `expunge data fetch spam-assassin`.")
    write_json(json, result)


@app.command("classification")
def classification(
    out: Annotated[
        Path, typer.Option(help="Folder of models, trials and results; a stopped run goes on.")
    ] = Path("bench-classification"),
    full: Annotated[
        bool, typer.Option("--full", help="All worlds instead of the digits; takes hours.")
    ] = False,
    worlds: Annotated[
        list[str] | None, typer.Option("--world", help=f"One of {', '.join(WORLDS)}; repeatable.")
    ] = None,
    requests: Annotated[
        list[str] | None,
        typer.Option("--request", help="Of this kind alone, such as 'random 1 %'; repeatable."),
    ] = None,
    methods: Methods = None,
    seeds: Annotated[int, typer.Option(min=2, help="Number of seeds, and of oracles.")] = 3,
    trials: Annotated[int, typer.Option(min=0, help="Trials of a method; 0: presets alone.")] = 6,
    processes: Processes = CORES,
    json: JsonPath = None,
) -> None:
    """Every classifier method beside three oracles: class, sub-class, subject and random rows."""
    writable_folder(out, "The folder of --out,")
    chosen = tuple(worlds or (WORLDS if full else protocol.QUICK))
    result = protocol.Protocol(
        out, chosen, tuple(methods or ()), seeds, trials, processes, tuple(requests or ())
    ).conduct(told)
    for title, columns, rows, below in tables.tables(result):
        console.print(table(title, columns, rows))
        for sentence in below:
            console.print(sentence, soft_wrap=True)
    console.print(tables.CAPTION, soft_wrap=True)
    for name, picture in corner.pictures(result).items():
        write_bytes(out / "pictures" / f"{name}.png", picture)
    console.print(f"Pictures of the oracle corner: {out / 'pictures'}", soft_wrap=True)
    write_json(json, result | {"tables": tables.content(result)})


@app.command("corrective")
def corrective(
    out: Annotated[
        Path, typer.Option(help="Folder of results and the picture; a stopped run goes on.")
    ] = Path("bench-corrective"),
    full: Annotated[
        bool,
        typer.Option("--full", help="All shares, all methods, a control, and clothes, too."),
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, from 0.")] = 5,
    trials: Annotated[
        int,
        typer.Option(min=0, help="Trials of a method on every model; 0: every method's preset."),
    ] = 6,
    methods: Methods = None,
    processes: Processes = CORES,
    json: JsonPath = None,
) -> None:
    """A poison and a confusion of labels, of which only a part is identified."""
    writable_folder(out, "The folder of --out,")
    if full and not trials:
        raise ExpungeError(
            "--full was given beside --trials 0, which asks every method's preset on the digits; "
            "give one of the two."
        )
    tuned = corrective_protocol.full() if full else corrective_protocol.quick()
    parts = tuned if trials else corrective_protocol.presets()
    if methods:
        parts = corrective_protocol.only(parts, methods)
    result = corrective_protocol.Protocol(out, parts, seeds, trials, processes).conduct(told)
    show(corrective_tables.tables(result), corrective_tables.notes(result))
    if trials and not methods:  # it shows the paper's methods beside each other
        write_picture(out / "corrective.png", corrective_picture.png(result))
    write_json(json, result)


@app.command("membership")
def membership(
    out: Annotated[
        Path, typer.Option(help="Folder of models and results; a stopped run goes on.")
    ] = Path("bench-membership"),
    full: Annotated[
        bool, typer.Option("--full", help="Five seeds and 64 models a pool instead of 1 and 32.")
    ] = False,
    methods: Methods = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds, from 0.")] = None,
    models: Annotated[int | None, typer.Option(help="Models of a pool, an even number.")] = None,
    processes: Processes = CORES,
    json: JsonPath = None,
) -> None:
    """Who was in: membership attacks on small networks, before and after they unlearned."""
    writable_folder(out, "The folder of --out,")
    result = membership_protocol.Protocol(
        out,
        seeds or (5 if full else 1),
        models or (64 if full else 32),
        tuple(methods or membership_protocol.METHODS),
        processes,
    ).conduct(told)
    for title, columns, rows, below in membership_tables.tables(result):
        console.print(table(title, columns, rows))
        console.print(below, soft_wrap=True)
    write_picture(out / "membership.png", membership_tables.picture(result))
    write_json(json, result)


@app.command("sparsity")
def sparsity_and_gaps(
    out: Annotated[
        Path, typer.Option(help="Folder of models and results; a stopped run goes on.")
    ] = Path("bench-sparsity"),
    full: Annotated[
        bool,
        typer.Option("--full", help="Pictures and a convolutional network instead of the digits."),
    ] = False,
    pruners: Annotated[
        list[str] | None,
        typer.Option("--pruner", help=f"One of {', '.join(PRUNERS)}; repeatable."),
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help=f"One of {', '.join(SUBJECTS)}; with --presets, of all that have one; repeatable.",
        ),
    ] = None,
    presets: Annotated[
        bool,
        typer.Option(
            "--presets",
            help="Every method but LAF at its shipped preset, instead of six strengths of five.",
        ),
    ] = False,
    seeds: Annotated[int, typer.Option(min=2, help="Number of seeds, and of oracles.")] = 3,
    processes: Processes = CORES,
    json: JsonPath = None,
) -> None:
    """Prune first, then unlearn: the gap to sparse and dense oracles by sparsity."""
    writable_folder(out, "The folder of --out,")
    chosen = sparsity_protocol.FULL if full else sparsity_protocol.QUICK
    models = out, chosen.world, tuple(pruners or chosen.pruners), seeds, processes
    if presets:
        result = sparsity_presets.Presets(*models, tuple(methods or ())).conduct(told)
        show(sparsity_presets.tables(result), sparsity_presets.sentences(result))
    else:
        wanted = tuple(methods or chosen.methods)
        result = sparsity_protocol.Protocol(*models, wanted).conduct(told)
        show(sparsity_tables.tables(result), sparsity_tables.sentences(result))
    write_json(json, result)


@app.command("worst-case")
def worst_case_forget_sets(
    out: Annotated[
        Path, typer.Option(help="Folder of models and results; a stopped run goes on.")
    ] = Path("bench-worst-case"),
    full: Annotated[
        bool, typer.Option("--full", help="Models as shipped, too, which memorise less.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, from 0.")] = 3,
    processes: Processes = CORES,
    json: JsonPath = None,
) -> None:
    """The rows that are hardest to forget, found by search, beside random rows and baselines."""
    writable_folder(out, "The folder of --out,")
    chosen = worst_case_protocol.FULL if full else worst_case_protocol.QUICK
    result = worst_case_protocol.Protocol(out, chosen, seeds, processes).conduct(told)
    show(worst_case_tables.tables(result), worst_case_tables.sentences(result))
    write_json(json, result)


@app.command("dmm")
def datamodel_matching(
    out: Annotated[
        Path, typer.Option(help="Folder of models and results; a stopped run goes on.")
    ] = Path("bench-dmm"),
    full: Annotated[
        bool, typer.Option("--full", help="100 models and 4,000 half-data models.")
    ] = False,
    processes: Processes = CORES,
    json: JsonPath = None,
) -> None:
    """Datamodel matching beside ascent, SCRUB and fine-tuning: margins against many oracles."""
    writable_folder(out, "The folder of --out,")
    models, half_models = dmm_protocol.FULL if full else dmm_protocol.QUICK
    result = dmm_protocol.Protocol(out, models, half_models, processes).conduct(told)
    show(dmm_tables.tables(result), dmm_tables.sentences(result))
    write_json(json, result)


@app.command("reliability")
def reliability_of_the_ledger(
    kills: Annotated[
        int | None, typer.Option(min=1, help="Kills that land while work is under way; 50.")
    ] = None,
    requests: Annotated[
        int | None, typer.Option(min=1, help="Requests in the long queue; 1,000.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the requests and of the moments.")] = 0,
    ledger_url: Annotated[
        str | None,
        typer.Option(help="postgresql://... of an empty database instead of SQLite."),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="1,000 kills and 10,000 requests by default.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Empty folder in which the ledgers are kept; else they are removed."),
    ] = None,
    json: JsonPath = None,
) -> None:
    """Workers that are killed again and again, faults on purpose, and a long queue."""
    if out is not None:
        writable_folder(out, "The folder of --out,")
    chosen = reliability_protocol.FULL if full else reliability_protocol.QUICK
    result = reliability_protocol.Protocol(
        kills or chosen[0], requests or chosen[1], seed, ledger_url, out
    ).conduct(lambda line: console.print(line, soft_wrap=True))
    show(reliability_tables.tables(result), reliability_tables.sentences(result))
    write_json(json, result)
    if not reliability_protocol.holds(result):
        raise typer.Exit(1)
