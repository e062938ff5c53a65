"""The paper's closing wish: a meta-optimizer that composes an optimizer for a task from the ingredients."""
