"""Price sources: what public price data proposes, as rows of the price book's cost side."""
