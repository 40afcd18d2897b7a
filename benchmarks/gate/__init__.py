"""What `gate_characteristics.py` is made of: simulated answers, cells with bounds, other tools' rules, the page."""
