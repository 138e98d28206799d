"""Everything that uses a model: exporters, report, explanations, server."""
