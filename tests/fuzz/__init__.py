"""Requests made of a grammar, well formed and spoilt, for every door that reads what somebody else wrote."""
