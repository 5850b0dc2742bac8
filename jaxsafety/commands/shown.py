"""What a command that measured ends with: the report written, the table and its path printed."""

from __future__ import annotations

from pathlib import Path


def show(workdir: Path) -> None:
    """Writes the report and ends with the table and its path."""
    path, table = write(workdir)
    print(table)
    print(f"report: {path}")


def write(workdir: Path) -> tuple[Path, str]:
    """The report's path and the table, both on disk."""
    from jaxsafety.core import disk

    if (workdir / "eval.json").is_file():  # a measurement without a training run
        from jaxsafety.report.measurement import page, tables

        path, table = page.write(workdir), tables.table(workdir)
    else:
        from jaxsafety.report import html, tables

        path, table = html.write(workdir), tables.table(workdir)
    with disk.replaced(workdir / "table.txt") as temporary:
        temporary.write_text(table + "\n", "utf-8")
    return path, table
