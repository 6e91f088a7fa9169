"""sdk convert"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk.cli.arguments import add_json, positive
from sdk.cli.console import Console
from sdk.errors import UnsupportedError

if TYPE_CHECKING:
    from sdk.convert.options import Converted

SUMMARY = "make a .tflite model of whatever was trained, quantized, and say what that cost"
DETAILS = """SOURCE is a SavedModel, .keras, .h5, frozen .pb or .pbtxt, a TensorFlow 1 checkpoint, .onnx, .pt2, a \
float .tflite, or module:attribute (a Keras model, concrete function, tf.Module, torch module); it is recognised by \
looking at it. The converters are fetched into an environment of their own on first use: docs/convert.md.
If the model is written but no microcontroller can run it, the exit code is 4, and it is said why.
--json prints kind, quantize, interface, bytes, float_bytes, samples, source_error, accuracy, layers, supported, \
problems, operators, arena_bytes and boards."""
EXAMPLES = (
    "sdk convert saved_model/ -o model.tflite --representative photos/ --mean 127.5 --std 127.5 --labels names.txt",
    "sdk convert model.keras -o model.tflite --representative train.npy --dataset test.npz --max-drop 1%",
    "sdk convert model.keras -o model.tflite --quantize float32",
    "sdk convert frozen.pb -o model.tflite --inputs image --outputs softmax --representative images.npy",
    "sdk convert model.ckpt --graph graph.pbtxt -o model.tflite --outputs softmax --input-stats 127.5,127.5",
    "sdk convert model.onnx -o model.tflite --representative train.npy",
    "sdk convert quantized.tflite -o declared.tflite --features mfcc,coefficients=10 --labels labels.txt",
    "sdk convert my_models.kws:model --sample my_models.kws:sample -o model.tflite --quantize dynamic",
)
SAID_CLIPPED = 0.001
WORST = 5  # layers that are shown


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="a file, a folder, a checkpoint's prefix or module:attribute")
    parser.add_argument("--output", "-o", type=Path, required=True, metavar="FILE", help="the .tflite file to write")
    _add_source(parser)
    _add_quantization(parser)
    _add_preprocessing(parser)
    add_json(parser)


def _add_source(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("of the source")
    group.add_argument("--inputs", type=_names, default=[], metavar="A,B", help="input nodes of a graph")
    group.add_argument("--outputs", type=_names, default=[], metavar="A,B", help="output nodes of a graph")
    group.add_argument("--graph", default="", metavar="FILE", help="the graph of a checkpoint that has no .meta")
    group.add_argument("--signature", default="", metavar="NAME", help="which signature of a SavedModel")
    group.add_argument("--sample", default="", metavar="M:A", help="sample inputs of a torch module: module:attribute")
    group.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="NAME=SIZES",
        help="an input's shape, where the source leaves it open",
    )


def _add_quantization(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("quantization")
    group.add_argument(
        "--quantize",
        "-q",
        choices=("int8", "uint8", "int16x8", "float16", "dynamic", "float32"),
        help="default: int8; uint8 is TensorFlow 1's, of --input-stats",
    )
    group.add_argument("--interface", choices=("int8", "uint8", "int16", "float32"), help="type of inputs and outputs")
    group.add_argument(
        "--representative",
        "-r",
        metavar="PATH",
        help="samples to measure ranges with: a folder of pictures or .wav, .npy, .npz, .csv, or module:generator",
    )
    group.add_argument("--samples", type=positive, default=500, metavar="N", help="at most N of them (default: 500)")
    group.add_argument(
        "--input-stats",
        type=_pair,
        action="append",
        default=[],
        metavar="MEAN,STD",
        help="uint8 as of TensorFlow 1, for graphs with fake_quant nodes: real = (stored - mean) / std",
    )
    group.add_argument("--dataset", type=Path, metavar="PATH", help="labelled samples: accuracy before and after")
    group.add_argument("--count", "-n", type=positive, metavar="N", help="at most N labelled samples")
    group.add_argument("--max-drop", type=share, metavar="PERCENT", help="fail if accuracy drops by more")


def _add_preprocessing(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "preprocessing", "declared here once, kept in the model file, used by run, verify and cameras"
    )
    group.add_argument("--mean", type=floats, metavar="M", help="of pixels 0..255: one number, or one a channel")
    group.add_argument("--std", type=floats, metavar="S", help="real = (pixel - mean) / std (default: 0 and 255)")
    group.add_argument("--fit", choices=("stretch", "crop", "pad"), help="what becomes of pictures of another shape")
    group.add_argument("--order", choices=("RGB", "BGR"), help="of the channels")
    group.add_argument("--rate", type=positive, metavar="HZ", help="of sound (default: 16000)")
    group.add_argument(
        "--features",
        type=_features,
        metavar="KIND[,NAME=VALUE...]",
        help="rows of features of sound: log-mel or mfcc, of window_ms=30 every stride_ms=20, bands=40 from low_hz=125 "
        "to high_hz=7500, coefficients, noise=kept (reduced, pcan), fft_length, scale, offset",
    )
    group.add_argument("--labels", type=Path, metavar="FILE", help="the names of the classes, one a line")


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def floats(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number, nor several with commas between") from None


def _pair(text: str) -> tuple[float, float]:
    try:
        mean, std = floats(text)
    except (ValueError, argparse.ArgumentTypeError):
        mean, std = 0.0, 0.0
    if std <= 0:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not MEAN,STD with STD above 0: pixels that the model knows as -1 to 1 are 128,128, as 0 to 1 "
            "0,255"
        )
    return mean, std


def _features(text: str) -> dict[str, Any]:
    """The strict check of names and types comes later: it says what there is."""
    kind, *others = text.split(",")
    pairs = [other.partition("=") for other in others]
    return {"kind": kind, **{name: _number(value) for name, _, value in pairs}}


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def share(text: str) -> float:
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no share: 1% or 0.01")
    return value


def run(args: argparse.Namespace, console: Console) -> int:
    from sdk.convert.conversion import convert
    from sdk.shapes import parse_shape

    given = {"mean": args.mean, "std": args.std, "fit": args.fit, "order": args.order, "rate_hz": args.rate}
    given["features"] = args.features
    made = convert(
        args.source,
        args.output,
        inputs=args.inputs,
        outputs=args.outputs,
        signature=args.signature,
        graph=args.graph,
        sample=args.sample,
        quantize=args.quantize,
        interface=args.interface,
        representative=args.representative,
        samples=args.samples,
        dataset=args.dataset,
        count=args.count,
        max_drop=args.max_drop,
        input_stats=args.input_stats,
        shapes=dict(map(parse_shape, args.shape)),
        preprocess={name: value for name, value in given.items() if value is not None},
        labels=args.labels or (),
        progress=console.progress,
        note=console.note,
    )
    _say(made, args.output, console)
    console.result(as_json(made))
    return exit_code(made, args.output, console)


def exit_code(made: Converted, output: Path, console: Console) -> int:
    """0, or UnsupportedError's for a model that is written, but that no microcontroller can run: which is said."""
    problems = made.report.problems
    if not problems:
        return 0
    console.note(
        f"error: {output} is written, but no microcontroller can run it: {problems[0].message}\n"
        "TensorFlow Lite on a computer may."
    )
    return UnsupportedError.exit_code


def _say(made: Converted, output: Path, console: Console) -> None:
    console.say(f"{output}: {len(made.model):,} bytes, {made.form}, from {made.kind}")
    console.say(f"before: {len(made.float_model):,} bytes" + _apart(made.source_error))
    if made.accuracy is not None:
        a = made.accuracy
        console.say(
            f"accuracy on {a.samples:,} samples: {a.before:.2%} before, {a.after:.2%} after ({0 - a.drop:+.2%})"
        )
        if a.clipped >= SAID_CLIPPED:
            console.say(f"{a.clipped:.1%} of their values are outside of the range that was measured")
    say_cost(made, console)


def say_cost(made: Converted, console: Console) -> None:
    """The layers that quantization costs most at, what the model needs, and the boards that have it."""
    if made.layers:
        console.say(f"\nLayers that add most to the error, of {len(made.layers)}")
        rows = [(x.node, x.tensor[:50], f"{x.error:.2%}", f"{x.added:.2%}") for x in made.worst[:WORST]]
        console.table(("Layer", "Makes", ">Error", ">Added"), rows)
    _say_report(made, console)


def _apart(error: float | None) -> str:
    return "" if error is None else f", its outputs at most {error:.2g} from the source's"


def _say_report(made: Converted, console: Console) -> None:
    report = made.report
    operators = ", ".join(f"{count} {name}" for name, count in report.operators.items())
    console.say(f"\noperators: {operators}")
    for problem in report.problems:
        more = f" (and {problem.count - 1:,} more nodes like it)" if problem.count > 1 else ""
        console.say(f"cannot be lowered: {problem.message}{more}")
        if problem.remedy:
            console.say(f"  {problem.remedy}")
    if not report.problems:
        console.say(f"arena: {report.memory.arena_bytes:,} bytes")
        console.say(f"boards it fits: {', '.join(_boards(made)) or 'none'}")


def _boards(made: Converted) -> list[str]:
    """Those that can run it."""
    from sdk.boards import all_boards
    from sdk.report import fits

    if made.report.lowered is None:
        return []
    return [fit.board.id for fit in fits(made.report, all_boards(lambda _fault: None)) if fit.fits]


def as_json(made: Converted) -> dict[str, Any]:
    """What --json prints of a conversion."""
    report = made.report
    return {
        "kind": made.kind.name,
        "quantize": str(made.quantize),
        "interface": made.interface,
        "bytes": len(made.model),
        "float_bytes": len(made.float_model),
        "samples": made.samples,
        "source_error": made.source_error,
        "accuracy": None if made.accuracy is None else {**vars(made.accuracy), "drop": made.accuracy.drop},
        "layers": [vars(layer) for layer in made.layers],
        "supported": report.lowered is not None,
        "problems": [{"message": p.message, "remedy": p.remedy, "node": p.node} for p in report.problems],
        "operators": dict(report.operators),
        "arena_bytes": report.memory.arena_bytes,
        "boards": _boards(made),
    }
