//! The whole agent against a manager that a test plays.
