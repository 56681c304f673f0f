"""The site: an MkDocs plugin that makes pages from notebooks, run records and claims."""
