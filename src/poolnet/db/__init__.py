"""Where it is kept: typed tables in memory, transactions, a change feed, and the engines that make commits durable."""
