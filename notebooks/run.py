"""What the notebooks share: run a command, read its tables, draw a curve with its interval."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import matplotlib.pyplot as plt
import polars as pl
from IPython.display import Markdown, display
from matplotlib.ticker import LogLocator, MaxNLocator

ROOT = Path(__file__).resolve().parent.parent

# Okabe and Ito's colours, told apart by people with every common kind of colour blindness.
BLUE, ORANGE, GREEN, PURPLE, RED, SKY, BLACK = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000"

plt.rcParams.update({
    "figure.figsize": (6.4, 3.8), "figure.dpi": 110, "figure.constrained_layout.use": True, "font.size": 10, "axes.titlesize": 10,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": 9, "axes.grid": True, "grid.alpha": 0.25,
})


def program() -> str:
    """The layerscope to run: $LAYERSCOPE, else the one built beside this folder, else the one on the PATH."""
    built = ROOT / "target/release/layerscope"
    found = os.environ.get("LAYERSCOPE") or (str(built) if built.exists() else shutil.which("layerscope"))
    if not found:
        raise FileNotFoundError("no layerscope: run `make build`, or set LAYERSCOPE to the program")
    return found


def layerscope(command: str, **options) -> str:
    """Runs `layerscope COMMAND --option value …` and returns what it prints; warnings are shown.

    `True` makes a flag, a list repeats the option, `_` in a name is `-`. A finished run is read and not done again, so that repeating
    a notebook is quick. A folder that holds another run is refused: after a change of settings name another, or delete the old one.
    """
    words = command.split()
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        for one in value if isinstance(value, list) else [value]:
            words += [flag] if one is True else [flag, str(one)]
    done = subprocess.run([program(), *words, "--quiet"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"layerscope {shlex.join(words)}\nexit {done.returncode}: {done.stderr.strip()}")
    if done.stderr.strip():
        print(done.stderr.strip())
    return done.stdout


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


def metrics(run: Path, **equal) -> pl.DataFrame:
    """Rows of RUN/metrics.parquet in which the named columns have these values; nats where there are bits per byte too."""
    rows = pl.read_parquet(run / "metrics.parquet").filter(pl.col("unit") != "bits/byte")
    return rows.filter(*(pl.col(name) == value for name, value in equal.items())).sort("layer", "horizon", maintain_order=True)


def number(run: Path, **equal) -> dict:
    """The one row of metrics.parquet that this describes, as a dictionary."""
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
