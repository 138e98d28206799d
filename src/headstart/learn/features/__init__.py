"""Features once: the frozen part of a network, run a single time per picture and view, and kept."""
