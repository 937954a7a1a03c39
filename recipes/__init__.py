"""Self-supervised recipes: one method is one readable file, launched from one YAML file."""
