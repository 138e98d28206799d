"""Everything that learns: data, features, heads, methods."""
