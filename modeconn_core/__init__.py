"""The method: mode-connectivity repair of tampered image classifiers. Tensors and modules in, results out."""
