"""Print invoices as PDF with typst, which is compiled into its package and needs no network.

The same document gives the same bytes, in any process and at any time: fonts are those inside the
package unless the operator names folders, no file is read but the templates, and the only date is
the document's own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal

from adapters.paper.sizes import CHARACTERS, Metrics, sizes_of
from adapters.paper.view import view_of
from ledger.domain.errors import InvariantViolation, Unavailable
from ledger.domain.invoices import Invoice, InvoiceStatus

if TYPE_CHECKING:
    from typst import Compiler

_FOLDER = files("adapters.paper")
_EPOCH = 0


class TypstPrinter:
    """Prints invoices; see `ledger.application.invoice_forms.InvoicePrinter`.

    The compiler is made with the first page and kept, with its fonts, for all that follow. Threads
    take turns at it.

    Args:
        font_folders: further fonts, for scripts that the package's own lack, such as Chinese;
            another set of fonts makes other bytes.
    """

    def __init__(self, *, font_folders: Sequence[Path] = ()) -> None:
        self._font_folders = [str(folder) for folder in font_folders]
        self._lock = Lock()
        self._opened: tuple[Compiler, Metrics] | None = None
        self._template = (_FOLDER / "invoice.typ").read_bytes()

    def pdf(self, invoice: Invoice, *, status: InvoiceStatus | None = None) -> bytes:
        """Return a PDF; the same document and status, the same bytes.

        Args:
            invoice: a document, final or a draft, which is marked as one.
            status: of a final invoice, where it is to be shown: ``void`` and ``paid`` are marked.

        Raises:
            Unavailable: ``pdf_unavailable`` where typst is not installed, ``fonts_unavailable``
                where a folder of fonts is not there.
        """
        return self._compile(invoice, status, "pdf")[0]

    def pages(self, invoice: Invoice, *, status: InvoiceStatus | None = None) -> list[bytes]:
        """Return a PNG a page, to look at; as `pdf`."""
        return self._compile(invoice, status, "png")

    def _compile(
        self, invoice: Invoice, status: InvoiceStatus | None, format: Literal["pdf", "png"]
    ) -> list[bytes]:
        view = view_of(invoice, status=status)
        at = invoice.issued_at
        with self._lock:
            compiler, metrics = self._open()
            view |= sizes_of(view, metrics)
            try:
                made = compiler.compile(
                    input=self._template,
                    format=format,
                    sys_inputs={"view": json.dumps(view, ensure_ascii=False)},
                    timestamp=int(at.timestamp()) if at is not None else _EPOCH,
                )
            except RuntimeError as error:  # TypstError; the template takes any view
                raise InvariantViolation(f"invoice {invoice.id} cannot be set: {error}") from error
        if made is None:
            raise InvariantViolation(f"invoice {invoice.id} was set and is nowhere")
        return made if isinstance(made, list) else [made]

    def _check_fonts(self) -> None:
        for folder in self._font_folders:
            if not Path(folder).is_dir():
                raise Unavailable(
                    f"the folder of fonts {folder} is not there", code="fonts_unavailable"
                )

    def _open(self) -> tuple[Compiler, Metrics]:
        if self._opened is None:
            try:
                from typst import Compiler, Fonts  # noqa: PLC0415 - an extra, and 84 MB to load
            except ImportError:
                raise Unavailable(
                    "PDF needs the package typst: install tallybook with its extra pdf",
                    code="pdf_unavailable",
                ) from None
            self._check_fonts()
            fonts = Fonts(include_system_fonts=False, font_paths=list(self._font_folders))
            measuring = Compiler(
                input=(_FOLDER / "metrics.typ").read_bytes(),
                font_paths=fonts,
                ignore_system_fonts=True,
                root=str(_FOLDER),
                sys_inputs={"chars": json.dumps(list(CHARACTERS))},
            )
            metrics = Metrics.read(measuring.query("<metrics>", field="value", one=True))
            compiler = Compiler(font_paths=fonts, ignore_system_fonts=True, root=str(_FOLDER))
            self._opened = compiler, metrics
        return self._opened
