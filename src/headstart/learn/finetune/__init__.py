"""Training the upper part of a backbone, from the fitted head outwards, above a prefix that is computed once."""
