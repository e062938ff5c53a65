"""Build models, load weights from many sources, and evaluate models on any dataset."""
