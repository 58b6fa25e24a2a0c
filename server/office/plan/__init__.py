"""What a run would cost and whether it can work, found without opening any data."""
