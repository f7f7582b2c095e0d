"""Untrusted bytes -> trusted safetensors and arrays. Never imports torch."""
