"""The Python of `docs/python.md` runs as it is pasted, from its first line to its last."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


@pytest.mark.filterwarnings("ignore")
def test_the_page_runs_as_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for frames in ("polars", "pandas"):
        pytest.importorskip(frames)
    (tmp_path / "fixtures").symlink_to(PAGE.parents[1] / "fixtures")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 2
    names: dict[str, object] = {}
    for block in blocks:
        if "transformers" in block and importlib.util.find_spec("transformers") is None:
            continue
        exec(compile(block, str(PAGE), "exec"), names)
    assert (tmp_path / "report" / "report.html").is_file()


def test_every_method_of_the_table_is_there() -> None:
    import layerscope as ls

    table = PAGE.read_text(encoding="utf-8").split("| method |")[1].split("\n\n")[0]
    for name in re.findall(r"^\| ((?:`\w+`(?:, )?)+) ", table, re.MULTILINE):
        for method in re.findall(r"`(\w+)`", name):
            assert callable(getattr(ls.Model, method)), method
