"""Command lines: flags from the fields of settings, and exit codes."""
