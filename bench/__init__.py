"""How fast is poolnet, beside the raw tool that it is built on? `python -m bench` measures and prints."""
