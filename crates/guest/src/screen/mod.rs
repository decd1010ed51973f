//! Terminal emulation and snapshots.
