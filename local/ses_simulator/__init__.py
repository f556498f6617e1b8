"""A local SESv2 endpoint for development, tests and benchmarks: see `SesSimulator`."""

from local.ses_simulator.faults import Fault
from local.ses_simulator.ledger import AcceptedEmail, LedgerInUseError
from local.ses_simulator.ses_api import Counts
from local.ses_simulator.simulator import PortTakenError, SesSimulator

__all__ = ["AcceptedEmail", "Counts", "Fault", "LedgerInUseError", "PortTakenError", "SesSimulator"]
