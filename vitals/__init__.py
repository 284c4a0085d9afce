"""How a running process says how it is: health, metrics, the watchdog, and a bounded end."""
