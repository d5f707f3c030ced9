"""Invoices on paper: PDF by typst."""

from adapters.paper.printer import TypstPrinter

__all__ = ["TypstPrinter"]
