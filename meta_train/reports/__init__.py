"""Reports: tables, pictures and pages, made from the rows of a folder."""
