"""The live stream of a job."""
