"""`wallet export`: topics and sealed months as Parquet files, a wallet's statement as CSV or as a journal."""
