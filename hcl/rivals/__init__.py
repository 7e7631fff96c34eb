"""Define the heads of other published methods (OTAM, TRX, HyRSM, HyRSM++, MoLo) and classifiers fitted on a support."""
