"""Print the table of metric keys: `python -m dnc_lightning.instruments`."""

from dnc_lightning.instruments._table import table

if __name__ == "__main__":
    print(table())
