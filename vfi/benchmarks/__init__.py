"""Quality on frames that are known."""
