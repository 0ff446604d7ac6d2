"""What the notebooks share: the checkout's package, rows of its tables, a curve with its interval."""

import importlib.util
import os
import sys
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import polars as pl
from IPython.display import Markdown, display
from matplotlib.ticker import LogLocator, MaxNLocator

ROOT = Path(__file__).resolve().parent.parent

# Where layerscope is not installed, the package of this checkout over the program that was built here (or $LAYERSCOPE).
if importlib.util.find_spec("layerscope") is None:
    sys.path.insert(0, str(ROOT / "python/src"))
BUILT = os.environ.get("LAYERSCOPE") or str(ROOT / "target/release/layerscope")
if Path(BUILT).exists():
    os.environ.setdefault("LAYERSCOPE_BIN", BUILT)



def warned(message, *_about) -> None:
    """A warning as the program says it, without this machine's folders."""
    print(f"warning: {str(message).replace(f'{ROOT}/', '')}")


warnings.showwarning = warned

# Okabe and Ito's colours, told apart by people with every common kind of colour blindness.
BLUE, ORANGE, GREEN, PURPLE, RED, SKY, BLACK = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000"

plt.rcParams.update({
    "figure.figsize": (6.4, 3.8), "figure.dpi": 110, "figure.constrained_layout.use": True, "font.size": 10, "axes.titlesize": 10,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": 9, "axes.grid": True, "grid.alpha": 0.25,
})


def halves(data: Path, folder: Path) -> tuple[Path, Path]:
    """Deals the documents of a .jsonl, .csv or .parquet file into two files: to fit on, and to measure on."""
    readers = {".jsonl": pl.read_ndjson, ".csv": pl.read_csv, ".parquet": pl.read_parquet}
    if data.suffix not in readers:
        raise ValueError(f"{data}: a table with one document a row is needed ({', '.join(readers)})")
    documents = readers[data.suffix](data)
    paths = folder / "fit.jsonl", folder / "held-out.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    for start, path in enumerate(paths):
        documents.gather_every(2, start).write_ndjson(path)
    return paths


def metrics(run, **equal) -> pl.DataFrame:
    """Rows of a run's metrics in which the named columns have these values; nats where there are bits per byte too."""
    rows = run.metrics.filter(pl.col("unit") != "bits/byte")
    return rows.filter(*(pl.col(name) == value for name, value in equal.items())).sort("layer", "horizon", maintain_order=True)


def number(run, **equal) -> dict:
    """The one row of a run's metrics that this describes, as a dictionary."""
    rows = metrics(run, **equal)
    if rows.height != 1:
        raise LookupError(f"{run}: {rows.height} rows have {equal}")
    return rows.row(0, named=True)


def curve(ax, rows: pl.DataFrame, label: str, colour: str, x: str = "layer", marker: str = "o", dashed: bool = False) -> None:
    """One line of estimates with the 95 % interval as a ribbon."""
    ax.plot(rows[x], rows["estimate"], color=colour, label=label, marker=marker, markersize=4, linestyle="--" if dashed else "-")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    inside = rows.drop_nulls("lower")
    ax.fill_between(inside[x], inside["lower"], inside["upper"], color=colour, alpha=0.2, linewidth=0)


def level(ax, row: dict, label: str, colour: str = BLACK, style: str = "--") -> None:
    """A reference line across the figure with its interval."""
    ax.axhline(row["estimate"], color=colour, linestyle=style, linewidth=1.2, label=label)
    if row["lower"] is not None:
        ax.axhspan(row["lower"], row["upper"], color=colour, alpha=0.1, linewidth=0)


def log_axis(ax) -> None:
    """A logarithmic y axis with ticks at 1, 2, 5, 10, 20 …"""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()


def drawn(ax) -> dict[str, list[float]]:
    """The y values of every labelled line in a figure: to compare with the file that they came from."""
    return {line.get_label(): [float(y) for y in line.get_ydata()] for line in ax.get_lines() if not line.get_label().startswith("_")}


def say(text: str) -> None:
    """Shows text with numbers computed from the data."""
    display(Markdown(text))


def interval(row: dict, digits: int = 2) -> str:
    """`1.23 [1.20, 1.26]`."""
    return f"{row['estimate']:.{digits}f} [{row['lower']:.{digits}f}, {row['upper']:.{digits}f}]"
