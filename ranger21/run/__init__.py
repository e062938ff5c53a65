"""One run from its configuration to its end: every piece is built here and handed to the engine."""
