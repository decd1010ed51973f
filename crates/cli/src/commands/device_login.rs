//! `login` by a browser, on this machine or any other (RFC 8628): an address and a code are shown, and somebody
//! who is signed in there approves.

use crate::browser;
use crate::failure::{Failure, Result};
use crate::show::plain;
use rexec_api::device::{DeviceAuthorization, DeviceToken, SLOW_DOWN_S};
use rexec_api::error::ErrorCode;
use rexec_client::{Client, ClientError};
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// The shortest pause between two questions, whatever a server says.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The longest, after many failures to reach it.
const INTERVAL_MAX: Duration = Duration::from_secs(60);

pub async fn sign_in(client: &Client, client_name: &str, opens_browser: bool) -> Result<DeviceToken> {
    let begun = match client.begin_device_login(client_name).await {
        Err(error) if error.code() == Some(ErrorCode::NoSuchRoute) => {
            let message =
                "This server is too old to sign in by a browser. Use `rexec login --email ADDRESS`, or --token-stdin.";
            return Err(Failure::Other(message.into()));
        }
        begun => begun?,
    };
    let opened = opens_browser && browser::open(&begun.verification_uri_complete);
    tell(&begun, opened);
    let granted = wait(client, &begun).await;
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
    granted
}

fn tell(begun: &DeviceAuthorization, opened: bool) {
    let address = plain(&begun.verification_uri_complete);
    let how = if opened {
        "Your browser opens this address. If it does not, open it yourself:"
    } else {
        "Open this address in a browser, of this machine or any other:"
    };
    eprintln!("{how}\n\n    {address}\n");
    eprintln!("The page must show this code: {}\n", plain(&begun.user_code));
    eprint!("Waiting until you approve there. Ctrl-C gives up.");
    let _ = std::io::stderr().flush();
    if !std::io::stderr().is_terminal() {
        eprintln!();
    }
}

async fn wait(client: &Client, begun: &DeviceAuthorization) -> Result<DeviceToken> {
    let began = Instant::now();
    let patience = Duration::from_secs(begun.expires_in);
    let mut interval = Duration::from_secs(begun.interval).max(INTERVAL_MIN);
    loop {
        if began.elapsed() + interval > patience {
            return Err(Failure::Other("Nobody has approved in time. Begin again with `rexec login`.".into()));
        }
        tokio::time::sleep(interval).await;
        match client.finish_device_login(&begun.device_code).await {
            Ok(granted) => return Ok(granted),
            Err(error) => interval = next_interval(interval, error)?,
        }
    }
}

/// How long to wait after a question that got no token; an answer that is final is the failure.
fn next_interval(interval: Duration, error: ClientError) -> Result<Duration> {
    match (error.code(), &error) {
        (Some(ErrorCode::AuthorizationPending), _) => Ok(interval),
        (Some(ErrorCode::SlowDown | ErrorCode::RateLimited), _) => Ok(interval + Duration::from_secs(SLOW_DOWN_S)),
        // A network that is away for a moment (section 3.5).
        (Some(ErrorCode::ShuttingDown | ErrorCode::DatabaseUnavailable), _)
        | (None, ClientError::Transport(_) | ClientError::Strange(_)) => Ok((interval * 2).min(INTERVAL_MAX)),
        _ => Err(error.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rexec_api::error::ErrorDetail;

    #[test]
    fn a_refusal_is_final_and_a_cut_is_not() {
        let refused = |code| {
            let detail =
                ErrorDetail { code, message: "m".into(), request_id: "r".into(), details: serde_json::json!({}) };
            next_interval(Duration::from_secs(5), ClientError::Refused(Box::new(detail)))
        };
        assert_eq!(refused(ErrorCode::AuthorizationPending).unwrap().as_secs(), 5);
        assert_eq!(refused(ErrorCode::SlowDown).unwrap().as_secs(), 10);
        assert_eq!(refused(ErrorCode::DatabaseUnavailable).unwrap().as_secs(), 10);
        for last in [ErrorCode::AccessDenied, ErrorCode::ExpiredToken, ErrorCode::Internal] {
            refused(last).unwrap_err();
        }
        let cut = ClientError::Strange(http::StatusCode::BAD_GATEWAY);
        assert_eq!(next_interval(Duration::from_secs(50), cut).unwrap(), INTERVAL_MAX);
    }
}
