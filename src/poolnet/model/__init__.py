"""What exists: every XenAPI class, field, enum, message, role and error, declared once."""
