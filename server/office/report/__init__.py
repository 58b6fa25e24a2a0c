"""The privacy report of a run or of one hospital, filled in from ledgers and the result folder."""
