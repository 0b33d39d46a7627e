"""The page to try the models on."""
