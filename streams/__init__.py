"""The pure decision, and the Faust app around it: one Kafka transaction a batch."""
