"""Makes it so on all hosts: batching, rollout, facts, start-up."""
