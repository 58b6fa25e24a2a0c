"""What hospitals have spent, read from their ledgers, and whether it is true."""
