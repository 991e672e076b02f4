//! The statistics: against values of SciPy and statsmodels (`scripts/statistics-reference.py`), against their promises by exact
//! enumeration, and the gates on made-up rollouts.

mod promises;
mod reference;
mod simulated;
