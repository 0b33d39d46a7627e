"""What several dialects share: bodies, schemas, names of classes, names of models, waiting."""
