"""Send transactions to a wallet ledger on Kafka, and follow what became of them.

with TransactionProducer({"bootstrap.servers": "..."}, "wallet.transactions") as producer:
    producer.send(Transaction(transaction_id=..., wallet_id="alice", type="CREDIT", amount=1_250, currency="EUR",
                              occurred_at=datetime.now(UTC)))

for entry in follow_ledger({"bootstrap.servers": "..."}, "wallet.ledger"):
    print(entry.transaction.wallet_id, entry.balance)
"""

from wallet_client.following import BrokenChain, follow_balances, follow_ledger
from wallet_client.producing import InvalidTransaction, TransactionProducer, Undelivered
from wallet_client.records import Balance, Entry, Transaction, Undecodable, read_balance, read_entry
from wallet_client.registry import registered_id

__all__ = [
    "Balance",
    "BrokenChain",
    "Entry",
    "InvalidTransaction",
    "Transaction",
    "TransactionProducer",
    "Undecodable",
    "Undelivered",
    "follow_balances",
    "follow_ledger",
    "read_balance",
    "read_entry",
    "registered_id",
]
