//! The statistics: against values of SciPy and statsmodels (`scripts/statistics-reference.py`), against their promises
//! by exact enumeration, and the gates on made-up rollouts.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod promises;
mod reference;
mod simulated;
