"""What an inspection found, as tables for people; plain where there is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from trainables.data.inspection import Inspection, LanguageFigures, Shared, SourceFigures
from trainables.data.report import REPORT

_LISTED = 3


def print_inspection(found: Inspection, console: Console) -> None:
    """Every source in a table of its languages, with what is wrong with it below; then what sources share."""
    own = found.student_context_length
    student = f", {own} for the student" if own is not None else ""
    console.print(
        f"Tokenizer: {found.vocabulary:,} tokens; texts are cut after {found.context_length}{student}, marks included.\n"
    )
    for key, source in found.sources.items():
        console.print(_source_table(key, source, own is not None))
        for line in _remarks(source):
            console.print(f"  {line}", soft_wrap=True)
        console.print()
    console.print(_overlaps_table(found))
    for overlap in found.overlaps:
        if overlap.is_leak:
            shown = "; ".join(_same(*example.values()) for example in overlap.examples[:_LISTED])
            console.print(f"  {overlap}{f': {shown}' if shown else ''}", soft_wrap=True)


def _source_table(key: str, source: SourceFigures, has_student: bool) -> Table:
    """One row a language."""
    asks = any(figures.options is not None for figures in source.languages.values())
    kind = "questions" if asks else "captions"
    table = Table(
        title=f"data.{key}: {source.items:,} items, {source.pictures:,} pictures ({source.source['source']})",
        title_justify="left",
    )
    columns = ["items" if kind == "captions" else "questions", "missing"]
    columns = [columns[0], "captions", columns[1]] if not asks else columns
    columns += ["tokens: median", "95 %", "longest", "cut"]
    columns += ["cut for student"] if has_student else []
    columns += ["unknown", "characters / token"]
    columns += ["options", "chance"] if asks else ["shared captions", "by items"]
    table.add_column("language")
    for column in columns:
        table.add_column(column, justify="right")
    for language, figures in source.languages.items():
        table.add_row(language, *_row(figures, has_student))
    return table


def _row(figures: LanguageFigures, has_student: bool) -> Iterator[str]:
    yield f"{figures.items:,}"
    if figures.options is None:
        yield f"{figures.captions:,}"
    yield f"{figures.missing:,}"
    texts = figures.texts
    if texts is None:
        yield from [""] * (6 + has_student)
    else:
        yield f"{texts.median:.0f}"
        yield f"{texts.percentile_95:.0f}"
        yield f"{texts.longest:,}"
        yield _share(texts.cut)
        if has_student:
            yield _share(texts.cut_for_student)
        yield _share(texts.unknown)
        yield f"{texts.characters_per_token:.2f}"
    if figures.options is not None:
        yield ", ".join(f"{questions:,} × {count}" for count, questions in figures.options.items())
        yield _share(figures.chance)
    elif figures.shared is not None:
        yield f"{figures.shared.different:,}"
        yield f"{figures.shared.items:,}"


def _remarks(source: SourceFigures) -> Iterator[str]:
    measured = [
        figures.texts
        for figures in source.languages.values()
        if figures.texts is not None and figures.texts.measured < figures.texts.texts
    ]
    if measured:
        yield f"Tokens are those of {measured[0].measured:,} texts a language, evenly spread."
    if source.bad_rows is not None and source.bad_rows["bad_rows"]:
        bad = source.bad_rows
        reasons = ", ".join(f"{count} × {reason}" for reason, count in bad["reasons"].items())
        first = "; ".join(f"{row['row']}: {row['reason']}" for row in bad["listed"][:_LISTED])
        where = Path(source.folder) / REPORT
        yield f"{bad['bad_rows']:,} of {bad['rows']:,} rows cannot be used ({reasons}): {first}: {where}"
    shared = [
        (figures.shared.examples[0], language)
        for language, figures in source.languages.items()
        if figures.shared is not None and figures.shared.examples
    ]
    if shared:
        most, language = max(shared, key=lambda pair: pair[0]["items"])
        yield f"Most shared caption: “{most['caption']}” ({language}), by {most['items']} items."
    if _asks_each_once(source):
        joined = "" if source.source.get("id") else ": rows of one question are joined by id, which names no column"
        yield f"No question is asked in two languages{joined}."
    if source.copies.items:
        yield f"{_copies(source.copies)}: {'; '.join(_same(*example) for example in source.copies.examples[:_LISTED])}"


def _asks_each_once(source: SourceFigures) -> bool:
    """Whether several languages are asked, each something else: their accuracies then differ by the questions too."""
    asked = [figures.items for figures in source.languages.values() if figures.options is not None]
    return len(asked) > 1 and sum(asked) == source.items


def _copies(copies: Shared) -> str:
    return f"{copies.different:,} pictures look the same as other items': {copies.items:,} items in all"


def _overlaps_table(found: Inspection) -> Table:
    table = Table(title="What sources share that should be apart", title_justify="left")
    table.add_column("sources")
    for column in ("items of one id", "pictures that look the same", "of so many items"):
        table.add_column(column, justify="right")
    for overlap in found.overlaps:
        ids = "no ids" if overlap.ids is None else f"{overlap.ids:,}"
        if overlap.ids and not overlap.same_data:
            ids += " (of other data: may be by accident)"
        table.add_row(
            f"{overlap.first}, {overlap.second}",
            ids,
            f"{overlap.pictures:,}",
            f"{overlap.items:,}",
            style="bold" if overlap.is_leak else None,
        )
    return table


def _same(one: str, other: str) -> str:
    return f"“{one}” = “{other}”"


def _share(share: float | None) -> str:
    """In percent; nothing that is there is shown as none."""
    if share is None:
        return "–"
    return f"{share:.1%}" if share == 0 or share >= 0.0005 else "< 0.1%"
