//! Launching and reaping processes.
