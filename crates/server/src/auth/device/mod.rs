//! Sign-ins of machines without a browser: a code is shown there and approved here (RFC 8628).
//!
//! ```text
//!   pending --approve--> approved --asked after--> gone, with its token told once
//!      |----deny-------> denied   --asked after--> gone
//!      `----10 minutes, from any state-----------> gone
//! ```
//!
//! Invariant: the device code is kept as a hash and gives one token, which has no more than who approved it; a
//! user code is of use only to somebody signed in, who may try few of them.

pub mod http;
pub(super) mod store;

use super::Auth;
use super::api_token::{hash, issue_login_token};
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::http::origin::Scene;
use crate::text::misleads;
use crate::time::{now_ms, rfc3339};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rexec_api::device::{
    CLIENT_NAME_CHARS_MAX, DeviceAuthorization, DeviceRequestView, EXPIRES_IN_S, INTERVAL_S, LOGIN_DAYS,
    NewDeviceLogin, SLOW_DOWN_S, USER_CODE_ALPHABET, USER_CODE_CHARS, user_code,
};
use rexec_api::error::ErrorCode;
use rexec_api::ids::UserId;
use rexec_api::tokens::Scope;
use serde_json::json;
use std::time::Duration;
use store::{Decision, NewRequest, Request};

/// Sign-ins that wait at once, of everybody together; beyond that no further one begins until some have run out.
const WAITING_MAX: i64 = 10_000;
/// Other user codes tried where one is taken; of 25,600,000,000 there are [`WAITING_MAX`] at most.
const CODES_TRIED_MAX: usize = 8;
/// How much sooner than told a machine may ask: networks bring the second question sooner than the first.
const EARLY_MS: i64 = 500;
const DAY_MS: i64 = 24 * 3600 * 1000;

/// What a machine is given in the end.
pub struct Granted {
    pub user: UserId,
    pub token: String,
    pub expires_in_s: u64,
}

impl Auth {
    /// Begins a sign-in. Anyone may.
    pub async fn begin_device_login(&self, new: NewDeviceLogin, scene: &Scene) -> Result<DeviceAuthorization> {
        let client_name = client_name(&new.client_name)?;
        self.limits.device_login(scene.address)?;
        let conn = self.inner.db.write();
        if store::count(self.inner.db.read()).await? >= WAITING_MAX {
            let message = "Too many sign-ins wait for somebody to approve them. Try again in a few minutes.";
            return Err(Error::new(ErrorCode::RateLimited, message).retry_after(Duration::from_secs(60)));
        }
        let device_code = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let now = now_ms();
        for _ in 0..CODES_TRIED_MAX {
            let code = new_user_code();
            let request = NewRequest {
                device_hash: &hash(&device_code),
                user_code: &code,
                client_name: &client_name,
                address: scene.address.to_string(),
                created_ms: now,
                expires_ms: now + ms(EXPIRES_IN_S),
                interval_ms: ms(INTERVAL_S),
            };
            if store::insert(conn, &request).await? {
                return Ok(authorization(device_code, code, &self.page(scene)));
            }
        }
        Err(Error::internal("no user code is free"))
    }

    /// Where the page is for whoever sent this request.
    fn page(&self, scene: &Scene) -> String {
        match &self.inner.config.public_url {
            Some(url) => url.origin.clone(),
            None => {
                let scheme = if scene.https { "https" } else { "http" };
                format!("{scheme}://{}", scene.host.as_deref().unwrap_or("localhost"))
            }
        }
    }

    /// Answers a machine's question; the token, once, where somebody has approved.
    pub async fn finish_device_login(&self, device_code: &str) -> Result<Granted> {
        let (hash, now) = (hash(device_code), now_ms());
        let request = store::by_device(self.inner.db.read(), &hash, now).await?.ok_or_else(expired)?;
        match request.decision() {
            None => self.ask_again(&request, now).await,
            Some(Decision::Denied) => {
                store::take(self.inner.db.write(), &hash).await?;
                Err(Error::new(ErrorCode::AccessDenied, "The sign-in was denied in the page. Nothing was signed in."))
            }
            Some(Decision::Approved) => self.grant(request, now).await,
        }
    }

    /// Nobody has decided: when to ask again.
    async fn ask_again(&self, request: &Request, now_ms: i64) -> Result<Granted> {
        let (interval_ms, error) = match next_interval(request.asked_ms, request.interval_ms, now_ms) {
            None => {
                let message = "Nobody has approved the sign-in yet. Open the address, compare the code, and approve.";
                (request.interval_ms, Error::new(ErrorCode::AuthorizationPending, message))
            }
            Some(longer) => {
                let message = format!("Asked too often. Leave {} seconds between two questions.", longer / 1000);
                (longer, Error::new(ErrorCode::SlowDown, message))
            }
        };
        store::asked(self.inner.db.write(), &request.device_hash, now_ms, interval_ms).await?;
        let wait_s = (interval_ms / 1000).unsigned_abs();
        Err(error.details(json!({ "interval": wait_s })).retry_after(Duration::from_secs(wait_s)))
    }

    async fn grant(&self, request: Request, now_ms: i64) -> Result<Granted> {
        let (Some(user), Some(expires_ms)) = (&request.user_id, request.token_expires_ms) else {
            return Err(Error::internal("an approved sign-in has no user"));
        };
        let user: UserId = user.parse().map_err(Error::internal)?;
        let tx = self.inner.db.begin().await?;
        if !store::take(&tx, &request.device_hash).await? {
            return Err(expired());
        }
        let by = json!({ "by_device": true, "address": request.address });
        let token = issue_login_token(&tx, user, request.client_name, expires_ms, by).await?;
        tx.commit().await?;
        Ok(Granted { user, token, expires_in_s: ((expires_ms - now_ms).max(0) / 1000).unsigned_abs() })
    }

    /// What waits under a user code, for who is to decide it.
    pub async fn device_request(&self, actor: &Actor, typed: &str, scene: &Scene) -> Result<DeviceRequestView> {
        let code = self.try_code(actor, typed, scene)?;
        let found = store::undecided(self.inner.db.read(), &code, now_ms()).await?.ok_or_else(unknown_code)?;
        Ok(DeviceRequestView {
            user_code: found.user_code,
            client_name: found.client_name,
            same_address: found.address == scene.address.to_string(),
            address: found.address,
            created_at: rfc3339(found.created_ms),
            expires_at: rfc3339(found.expires_ms),
        })
    }

    /// Lets a machine in, with all that the actor's account may do.
    pub async fn approve_device(&self, actor: &Actor, typed: &str, scene: &Scene) -> Result<()> {
        let code = self.try_code(actor, typed, scene)?;
        let wished_ms = now_ms() + i64::from(LOGIN_DAYS) * DAY_MS;
        let expires_ms = self.own_end(actor).await?.map_or(wished_ms, |end| end.min(wished_ms));
        self.require_room_for_token(actor.user).await?;
        self.decide_device(actor, &code, Decision::Approved, expires_ms).await
    }

    /// Turns a machine away.
    pub async fn deny_device(&self, actor: &Actor, typed: &str, scene: &Scene) -> Result<()> {
        let code = self.try_code(actor, typed, scene)?;
        self.decide_device(actor, &code, Decision::Denied, now_ms()).await
    }

    async fn decide_device(&self, actor: &Actor, code: &str, decision: Decision, expires_ms: i64) -> Result<()> {
        let tx = self.inner.db.begin().await?;
        let now = now_ms();
        let request = store::undecided(&tx, code, now).await?.ok_or_else(unknown_code)?;
        if !store::decide(&tx, code, decision, actor.user, expires_ms, now).await? {
            return Err(unknown_code());
        }
        let kind = match decision {
            Decision::Approved => "device.approved",
            Decision::Denied => "device.denied",
        };
        let data = json!({ "client_name": request.client_name, "address": request.address });
        events::append(&tx, &NewEvent::of_user(actor.user, kind).data(data)).await?;
        Ok(tx.commit().await?)
    }

    /// A code that somebody tries, who may everything, and who may not try many.
    fn try_code(&self, actor: &Actor, typed: &str, scene: &Scene) -> Result<String> {
        // What is made of it opens everything.
        actor.authorise(Scope::All)?;
        self.limits.user_code(actor.user, scene.address)?;
        user_code(typed).ok_or_else(|| {
            let message =
                format!("A code has {USER_CODE_CHARS} letters, such as WDJB-MJHT. Look again at the terminal.");
            Error::field("user_code", message)
        })
    }

    pub(super) async fn forget_old_device_logins(&self) -> Result<(), sea_orm::DbErr> {
        store::remove_expired(self.inner.db.write(), now_ms()).await.map(|_| ())
    }
}

/// The pause that a machine is held to from now on, where it has asked too soon.
fn next_interval(asked_ms: Option<i64>, interval_ms: i64, now_ms: i64) -> Option<i64> {
    let too_soon = asked_ms.is_some_and(|asked| now_ms - asked < interval_ms - EARLY_MS);
    too_soon.then(|| (interval_ms + ms(SLOW_DOWN_S)).min(ms(EXPIRES_IN_S)))
}

const fn ms(seconds: u64) -> i64 {
    seconds as i64 * 1000
}

fn new_user_code() -> String {
    // So much larger than the number of codes that none is likelier than another by more than a part in 10^8.
    let mut random: u64 = rand::random();
    let count = USER_CODE_ALPHABET.len() as u64;
    let mut letter = || {
        let letter = USER_CODE_ALPHABET[(random % count) as usize];
        random /= count;
        char::from(letter)
    };
    let letters: String = (0..USER_CODE_CHARS).map(|_| letter()).collect();
    let (front, end) = letters.split_at(USER_CODE_CHARS / 2);
    format!("{front}-{end}")
}

fn authorization(device_code: String, user_code: String, page: &str) -> DeviceAuthorization {
    DeviceAuthorization {
        device_code,
        verification_uri: format!("{page}/device"),
        verification_uri_complete: format!("{page}/device?code={user_code}"),
        user_code,
        expires_in: EXPIRES_IN_S,
        interval: INTERVAL_S,
    }
}

fn client_name(name: &str) -> Result<String> {
    let name = name.trim();
    if (1..=CLIENT_NAME_CHARS_MAX).contains(&name.chars().count()) && !name.chars().any(misleads) {
        return Ok(name.to_owned());
    }
    let message =
        format!("`client_name` must have 1 to {CLIENT_NAME_CHARS_MAX} characters, none of them control characters.");
    Err(Error::field("client_name", message))
}

fn expired() -> Error {
    let message = "The code has run out, was used already, or never was. Begin again with `rexec login`.";
    Error::new(ErrorCode::ExpiredToken, message)
}

fn unknown_code() -> Error {
    let message = "Nothing waits under this code: it is mistyped, has run out, or was decided already. Look again at the \
                   terminal, or begin there anew.";
    Error::new(ErrorCode::NotFound, message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_of_the_alphabet_and_of_many() {
        let codes: std::collections::HashSet<_> = (0..1000).map(|_| new_user_code()).collect();
        assert_eq!(codes.len(), 1000);
        for code in codes {
            assert_eq!(user_code(&code).unwrap(), code);
        }
    }

    #[test]
    fn who_asks_too_soon_is_slowed_down_more_and_more() {
        assert_eq!(next_interval(None, 5000, 1_000_000), None);
        assert_eq!(next_interval(Some(1_000_000), 5000, 1_004_600), None);
        assert_eq!(next_interval(Some(1_000_000), 5000, 1_004_000), Some(10_000));
        assert_eq!(next_interval(Some(1_000_000), 10_000, 1_006_000), Some(15_000));
        assert_eq!(next_interval(Some(1_000_000), 600_000, 1_006_000), Some(600_000));
    }

    #[test]
    fn a_name_says_what_it_is() {
        assert_eq!(client_name(" rexec on a-b ").unwrap(), "rexec on a-b");
        for bad in ["", " ", "a\nb", "a\u{202e}b", &"x".repeat(101)] {
            assert_eq!(client_name(bad).unwrap_err().code, ErrorCode::InvalidRequest, "{bad}");
        }
    }
}
