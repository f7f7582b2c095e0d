"""What a finished job made: weights, report, manifest, pictures."""
