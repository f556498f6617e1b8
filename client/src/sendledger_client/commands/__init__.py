"""The command line `sendledger`."""
