"""The file of the page."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from betr_spark import schemas
from betr_spark.errors import DataError
from betr_spark.pipeline.stage import RunContext
from betr_spark.report.page.gather import PageFigures
from betr_spark.report.page.render import render
from betr_spark.storage import hadoop_files
from betr_spark.storage.small_files import write_bytes

FILE = schemas.REPORT_PAGE


def check_page(context: RunContext) -> None:
    """Check that the page can be written, before its figures are computed.

    Raises:
        DataError: it cannot.
    """
    try:
        hadoop_files.check_writable(context.spark, context.config.output, subject=f"report: {FILE}")
    except DataError as error:
        raise DataError(f"{error}; use --no-page to print the summary alone") from None


def write_page(context: RunContext, page: PageFigures, drawings: Sequence[Mapping[str, Markup]] | None = None) -> str:
    """Write the page and return where it is, as a URI. A reader sees the former page or the new one, never a part."""
    path = context.config.table(FILE)
    write_bytes(context.spark, path, render(page, drawings))
    return hadoop_files.qualified(context.spark, path)
