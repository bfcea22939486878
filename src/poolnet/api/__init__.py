"""How others ask: HTTP, XML-RPC, JSON-RPC, thin CLI, sessions, tasks, events."""
