//! Passwords: argon2id on a bounded pool, and the rules that a password must meet.
//!
//! Bounds: [`HASHES_AT_ONCE`] run, [`HASHES_WAITING_MAX`] wait, more are refused: one hash takes
//! 19 MiB, so that unbounded sign-ins would take the machine's memory.

use crate::error::{Error, Result};
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use rexec_api::accounts::{PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN};
use rexec_api::error::ErrorCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Hashes computed at once, on threads of their own.
const HASHES_AT_ONCE: usize = 2;
/// Requests that may wait for a hash.
const HASHES_WAITING_MAX: usize = 64;
/// OWASP's first choice for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// The pool. Cheap to clone.
#[derive(Clone)]
pub struct Passwords {
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
}

impl Passwords {
    pub fn new() -> Self {
        Self {
            running: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
            admitted: Arc::new(Semaphore::new(HASHES_AT_ONCE + HASHES_WAITING_MAX)),
        }
    }

    pub async fn hash(&self, password: String) -> Result<String> {
        self.run(move || {
            let hash: PasswordHash = argon2().hash_password(password.as_bytes())?;
            Ok::<_, argon2::password_hash::Error>(hash.to_string())
        })
        .await?
        .map_err(Error::internal)
    }

    /// Whether the password is the one hashed. Without a hash the work is done all the same, so
    /// that the time taken does not tell whether an account exists.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool> {
        self.run(move || {
            let known = hash.is_some();
            let hash = hash.unwrap_or_else(|| nobody().to_owned());
            let fits = argon2().verify_password(password.as_bytes(), hash.as_str()).is_ok();
            known && fits
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let _admitted = self.admitted.try_acquire().map_err(|_| {
            Error::new(ErrorCode::RateLimited, "Too many people sign in at this moment. Try again in a few seconds.")
                .retry_after(Duration::from_secs(3))
        })?;
        let running = Arc::clone(&self.running);
        let running = running.acquire_owned().await.map_err(Error::internal)?;
        tokio::task::spawn_blocking(move || {
            // Held by the work itself: a request that goes away does not make room early.
            let _running = running;
            work()
        })
        .await
        .map_err(Error::internal)
    }
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// The hash of a password that nobody has, of the same cost as a real one.
fn nobody() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| {
        let password: [u8; 32] = rand::random();
        argon2().hash_password(&password).map(|hash: PasswordHash| hash.to_string()).unwrap_or_default()
    })
}

/// Refuses a password that is too short to protect or too long to hash.
pub fn check(password: &str) -> Result<()> {
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return Err(Error::field(
            "password",
            format!("The password must have at least {PASSWORD_CHARS_MIN} characters."),
        ));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(Error::field("password", format!("The password must have at most {PASSWORD_BYTES_MAX} bytes.")));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        let passwords = Passwords::new();
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let fits = |password: &str, hash: Option<&String>| passwords.verify(password.to_owned(), hash.cloned());
        assert!(fits("correct horse", Some(&hash)).await.unwrap());
        assert!(!fits("battery staple", Some(&hash)).await.unwrap());
        assert!(!fits("correct horse", None).await.unwrap());
    }

    #[test]
    fn passwords_have_bounds() {
        assert!(check("sevench").is_err());
        assert!(check("eight ch").is_ok());
        assert!(check(&"x".repeat(PASSWORD_BYTES_MAX)).is_ok());
        assert!(check(&"x".repeat(PASSWORD_BYTES_MAX + 1)).is_err());
    }
}
