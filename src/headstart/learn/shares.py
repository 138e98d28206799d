"""Which share of the pictures validates and which tests, where neither the data nor the user says it."""

from __future__ import annotations

VALIDATION_SIZE = 0.15
TEST_SIZE = 0.2
