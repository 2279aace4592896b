"""Learning from preferences: pairs and single judgements, and reward models."""
