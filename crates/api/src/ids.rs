//! Identifiers: UUIDv7 newtypes, so that ids sort by age and cannot be mixed up.

/// Declares a UUID newtype with the conversions that every id needs.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(transparent)]
        pub struct $name(pub uuid::Uuid);

        impl $name {
            /// A new id; later ids sort after earlier ones.
            #[allow(clippy::new_without_default)]
            pub fn new() -> Self {
                Self(uuid::Uuid::now_v7())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                s.parse().map(Self)
            }
        }
    };
}

id!(
    /// A person or program with an account.
    UserId
);
id!(
    /// A user's isolated machine.
    WorkspaceId
);
id!(
    /// A PTY session kept by a guest; never used twice.
    TerminalId
);
id!(
    /// A login session: what a sign-in token is bound to.
    SessionId
);
id!(
    /// The home of a workspace, which may outlive it.
    VolumeId
);
id!(
    /// A workspace's files as they were at one time.
    SnapshotId
);
id!(
    /// Stored credentials for a registry of images.
    RegistryId
);
id!(
    /// An API token; not the token itself, which is a secret.
    TokenId
);
id!(
    /// A token by which a machine joins; not the token itself, which is a secret.
    JoinTokenId
);
id!(
    /// A public SSH key of a user.
    SshKeyId
);
id!(
    /// A container engine that runs workspaces.
    HostId
);
id!(
    /// An entry of the activity feed and audit log.
    EventId
);
