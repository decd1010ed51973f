//! Acting with the workspace user's rights on a thread of the blocking pool.
//!
//! **Why.** The guest is root with the rights to override file permissions. Were it to open a path
//! for the user as root, a symbolic link could lead it anywhere; checking first and opening later
//! can be raced. So the thread takes the user's numbers on, and the kernel judges every step of
//! the path.
//!
//! **Invariant.** On Linux these numbers belong to the thread (the C library's wrappers, which
//! change all threads, are not used). The effective numbers are changed and the saved ones kept:
//! a non-root effective user switches every capability off, and going back switches them on. A
//! thread that cannot go back never returns to the pool: the process ends.

use crate::process::Credentials;
use crate::refusal::internal;
use rexec_api::guest::{GuestError, UserSpec};
use rustix::process::{Gid, Uid, getegid, geteuid, getgroups};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Whose rights to act with; `None` keeps the guest's own.
#[derive(Debug, Clone)]
pub struct Rights(Option<Credentials>);

impl Rights {
    /// The user's. A guest that is not root (tests) cannot become anybody and acts as itself.
    pub fn of(user: &UserSpec) -> Self {
        Self(geteuid().is_root().then(|| Credentials::of(user)))
    }

    /// The guest's own.
    pub fn own() -> Self {
        Self(None)
    }

    /// Runs blocking work with these rights. Work that was begun goes on when the future is
    /// dropped.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, GuestError> + Send + 'static,
    ) -> Result<T, GuestError> {
        let credentials = self.0.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _worn = credentials.as_ref().map(Worn::put_on).transpose()?;
            work()
        });
        done.await.unwrap_or_else(|error| Err(internal("file work was cut off", error)))
    }
}

/// The user's numbers on this thread, until dropped.
struct Worn {
    groups: Vec<Gid>,
    gid: Gid,
}

impl Worn {
    fn put_on(user: &Credentials) -> Result<Self, GuestError> {
        let fault = |error| internal("could not take on the user's rights", error);
        let worn = Self { groups: getgroups().map_err(fault)?, gid: getegid() };
        set_thread_groups(&user.groups).map_err(fault)?;
        set_thread_res_gid(None, user.gid, None).map_err(fault)?;
        set_thread_res_uid(None, user.uid, None).map_err(fault)?;
        Ok(worn)
    }
}

impl Drop for Worn {
    fn drop(&mut self) {
        let restored = set_thread_res_uid(None, Uid::ROOT, None)
            .and_then(|()| set_thread_res_gid(None, self.gid, None))
            .and_then(|()| set_thread_groups(&self.groups));
        if restored.is_err() {
            std::process::abort();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::refusal::invalid;

    #[tokio::test]
    async fn the_kernel_judges_by_the_users_numbers_and_the_thread_goes_back() {
        let user = UserSpec { uid: 4321, gid: 4321, ..UserSpec::default() };
        let rights = Rights::of(&user);
        let secret = tempfile::NamedTempFile::new().unwrap();
        let path = secret.path().to_owned();
        let (worn, opened) =
            rights.run(move || Ok((geteuid().as_raw(), std::fs::File::open(path).is_ok()))).await.unwrap();
        if geteuid().is_root() {
            assert_eq!((worn, opened), (4321, false));
        }
        let refused: Result<(), _> = rights.run(|| Err(invalid("x"))).await;
        assert!(refused.is_err());
        let back = Rights::own().run(|| Ok(geteuid())).await.unwrap();
        assert_eq!(back, geteuid());
    }
}
