"""How a running process reports its state: health, metrics, the watchdog, and a bounded shutdown."""
