"""An exercise of lesson 11: what a layer may ask of a machine. Williams, Waterman and Patterson 2009."""

from vit_edu.exercises.core import Draw, Exercise


def roofline(
    rows: int, inputs: int, outputs: int, bytes_each: int, peak: float, bandwidth: float
) -> tuple[float, float]:
    """Of a linear layer without bias: FLOPs per byte, and the FLOP/s that can be had (Williams et al. 2009)."""
    flops = 2 * rows * inputs * outputs
    moved = bytes_each * (rows * inputs + inputs * outputs + rows * outputs)
    intensity = flops / moved
    return intensity, min(peak, intensity * bandwidth)


def layers_and_machines(draw: Draw):
    yield 1, 2, 3, 4, 1000.0, 100.0
    yield 5, 2, 3, 2, 1000.0, 100.0
    yield 50, 64, 32, 4, 100.0, 10.0
    yield 1576, 768, 3072, 2, 312e12, 1.5e12
    for _ in range(4):
        sizes = draw.integer(2, 300), draw.integer(2, 90), draw.integer(2, 90)
        yield *sizes, 2 ** draw.integer(1, 3), float(draw.integer(10, 100)), float(draw.integer(1, 9))


roof = Exercise(
    "roofline",
    lesson="11",
    points=2,
    reference=roofline,
    cases=layers_and_machines,
    returns=("intensity", "speed"),
    hints=(
        "Two things need time: computing, and fetching and putting away the numbers. The slower of the two sets the "
        "pace. How many FLOPs come with each byte?",
        "x (rows, inputs) @ weight (inputs, outputs) -> y (rows, outputs): every number of all three crosses once. "
        "Intensity is FLOPs / bytes; intensity · bandwidth is FLOPs / second.",
        "flops = 2 * rows * ...\nmoved = bytes_each * (rows * inputs + ... + ...)\nintensity = flops / moved\n"
        "return intensity, min(peak, ...)",
    ),
)


@roof.recipe
def roofline_in_steps(
    rows,
    inputs,
    outputs,
    bytes_each,
    peak,
    bandwidth,
    *,
    flops=lambda rows, inputs, outputs: 2 * rows * inputs * outputs,
    read=lambda rows, inputs: rows * inputs,
    weight=lambda rows, inputs, outputs: inputs * outputs,
    written=lambda rows, outputs: rows * outputs,
    size=lambda bytes_each: bytes_each,
    limit=min,
):
    numbers = read(rows, inputs) + weight(rows, inputs, outputs) + written(rows, outputs)
    intensity = flops(rows, inputs, outputs) / (size(bytes_each) * numbers)
    return intensity, limit(peak, intensity * bandwidth)


roof.mistake(
    "multiply-adds for FLOPs",
    "You count a multiplication with its addition as one. Machines are sold by FLOPs: how many is a multiply-add?",
    flops=lambda rows, inputs, outputs: rows * inputs * outputs,
)
roof.mistake(
    "the weights cost nothing",
    "The matrix of the layer lies in memory too. Who carries it to where the work is done?",
    weight=lambda rows, inputs, outputs: 0,
)
roof.mistake(
    "the weights are read for every row",
    "You read the matrix once for each row. In one matrix product a weight that has come serves all rows: that is why "
    "large batches pay.",
    weight=lambda rows, inputs, outputs: rows * inputs * outputs,
)
roof.mistake(
    "the result is never written",
    "What is computed has to be put away. How many numbers come out?",
    written=lambda rows, outputs: 0,
)
roof.mistake(
    "the input is never read",
    "The rows come from memory as well. How many numbers are they?",
    read=lambda rows, inputs: 0,
)
roof.mistake(
    "numbers for bytes",
    "You count numbers. How many bytes is one of them?",
    size=lambda bytes_each: 1,
)
roof.mistake(
    "bits for bytes",
    "You divide by eight too much: `bytes_each` is in bytes already.",
    size=lambda bytes_each: 8 * bytes_each,
)
roof.mistake(
    "no roof",
    "Your speed grows with the intensity for ever. What is the most that the machine can compute in a second?",
    limit=lambda peak, fed: fed,
)
roof.mistake(
    "always at the roof",
    "Your speed is the machine's peak whatever the layer. What if the numbers come too slowly for that?",
    limit=lambda peak, fed: peak,
)
roof.mistake(
    "the faster of the two",
    "You take the larger speed. Who has to wait for whom?",
    limit=max,
)
