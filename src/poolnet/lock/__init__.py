"""What a VIF may send: the meaning of the locking modes, compilers and the prover."""
