"""A document as a PDF file."""

import io
from typing import Any
from xml.sax.saxutils import escape

from reportlab.graphics.charts.barcharts import VerticalBarChart
from reportlab.graphics.charts.legends import Legend
from reportlab.graphics.shapes import Drawing
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, KeepTogether, Paragraph, SimpleDocTemplate, Spacer
from reportlab.platypus import Table as PdfTable

from monitoring.documents import Bar, Document, Table

SUCCEEDED, FAILED = colors.HexColor("#2e7d57"), colors.HexColor("#b3392f")
LINE, SHADE = colors.HexColor("#c9ced6"), colors.HexColor("#f2f4f7")
MARGIN = 18 * mm
WIDTH = A4[0] - 2 * MARGIN
MOST_LABELS = 16
STYLES = getSampleStyleSheet()
TABLE_STYLE = [
    ("FONT", (0, 0), (-1, 0), "Helvetica-Bold", 8),
    ("FONT", (0, 1), (-1, -1), "Helvetica", 8),
    ("BACKGROUND", (0, 0), (-1, 0), SHADE),
    ("LINEBELOW", (0, 0), (-1, -1), 0.4, LINE),
    ("ALIGN", (1, 0), (-1, -1), "RIGHT"),
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
]


def render(document: Document) -> tuple[bytes, int]:
    """The file, and how many pages it has."""
    file = io.BytesIO()
    margins = dict.fromkeys(("leftMargin", "rightMargin", "topMargin", "bottomMargin"), MARGIN)
    pages = SimpleDocTemplate(file, pagesize=A4, title=document.title, author="Switchyard", **margins)
    pages.build(list(_story(document)), onFirstPage=_number, onLaterPages=_number)
    return file.getvalue(), pages.page


def _story(document: Document) -> list[Flowable]:
    story: list[Flowable] = [_text(document.title, "Title"), _text(document.subtitle, "Normal"), Spacer(0, 6 * mm)]
    if document.bars:
        story += [_chart(document.bars), Spacer(0, 6 * mm)]
    for table in document.tables:
        story += [KeepTogether([_text(table.caption, "Heading2"), _table(table)]), Spacer(0, 6 * mm)]
    return story


def _text(text: str, style: str) -> Paragraph:
    return Paragraph(escape(text), STYLES[style])


def _table(table: Table) -> Flowable:
    if not table.rows:
        return _text("Nothing in this period.", "Italic")
    cells = [[_cell(cell, first=not index) for index, cell in enumerate(row)] for row in table.rows]
    first = WIDTH * (0.3 if len(table.columns) > 3 else 0.6)
    rest = (WIDTH - first) / (len(table.columns) - 1)
    widths = [first, *[rest] * (len(table.columns) - 1)]
    return PdfTable([table.columns, *cells], colWidths=widths, repeatRows=1, style=TABLE_STYLE)


def _cell(value: Any, *, first: bool) -> Any:
    """Only the first column holds names that may need more than one line."""
    return _text(str(value), "BodyText") if first else f"{value:,}" if isinstance(value, int) else str(value)


def _chart(bars: list[Bar]) -> Drawing:
    drawing = Drawing(WIDTH, 62 * mm)
    chart = VerticalBarChart()
    chart.x, chart.y, chart.width, chart.height = 12 * mm, 14 * mm, WIDTH - 14 * mm, 38 * mm
    chart.data = [[bar.succeeded for bar in bars], [bar.failed for bar in bars]]
    chart.bars[0].fillColor, chart.bars[1].fillColor = SUCCEEDED, FAILED
    chart.bars.strokeColor = None
    chart.categoryAxis.style = "stacked"
    every = -(-len(bars) // MOST_LABELS)
    chart.categoryAxis.categoryNames = [bar.label if not index % every else "" for index, bar in enumerate(bars)]
    chart.categoryAxis.labels.fontSize = chart.valueAxis.labels.fontSize = 7
    chart.valueAxis.valueMin = 0
    chart.valueAxis.valueMax = max(1, *(bar.succeeded + bar.failed for bar in bars))
    drawing.add(chart)
    drawing.add(_legend())
    return drawing


def _legend() -> Legend:
    legend = Legend()
    legend.x, legend.y, legend.alignment, legend.fontSize = 12 * mm, 60 * mm, "right", 8
    legend.columnMaximum, legend.dx, legend.dy, legend.strokeColor = 1, 6, 6, None
    legend.colorNamePairs = [(SUCCEEDED, "Succeeded"), (FAILED, "Failed")]
    return legend


def _number(canvas: Any, template: Any) -> None:
    canvas.setFont("Helvetica", 8)
    canvas.drawRightString(A4[0] - MARGIN, 10 * mm, f"Page {template.page}")
