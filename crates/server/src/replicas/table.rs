//! What was last read of replicas and leases: pure.

use super::ReplicaId;
use std::collections::HashMap;
use std::sync::Arc;

/// A server on this database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    pub id: ReplicaId,
    /// Where the others reach it.
    pub url: Option<String>,
    pub version: String,
    /// Its term has not ended.
    pub alive: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub holder: Option<ReplicaId>,
    pub epoch: i64,
    pub told: Option<Arc<str>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    pub replicas: HashMap<ReplicaId, Replica>,
    pub leases: HashMap<String, Lease>,
}

impl Table {
    /// Whoever has a lease and is there.
    pub fn holder(&self, name: &str) -> Option<&Replica> {
        let holder = self.leases.get(name)?.holder?;
        self.replicas.get(&holder).filter(|replica| replica.alive)
    }

    pub fn told(&self, name: &str) -> Option<Arc<str>> {
        self.leases.get(name)?.told.clone()
    }

    pub fn alive(&self) -> usize {
        self.replicas.values().filter(|replica| replica.alive).count()
    }
}
