"""Diagnosis jobs: how a model does on clean images, before anything is made of it."""
