"""Learning from preferences: pairs and single judgments, and reward models."""
