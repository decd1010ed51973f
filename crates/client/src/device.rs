//! Signing in a machine by a person's browser (RFC 8628): one question each; when to ask is the caller's.

use crate::{Client, Result};
use http::Method;
use rexec_api::device::{DeviceAuthorization, DeviceToken, DeviceTokenRequest, NewDeviceLogin};

impl Client {
    /// Begins a sign-in; `client_name` is shown to the person.
    pub async fn begin_device_login(&self, client_name: &str) -> Result<DeviceAuthorization> {
        let body = NewDeviceLogin { client_name: client_name.into() };
        self.send(Method::POST, "/api/auth/device", &body).await
    }

    /// Asks whether somebody has approved it; refused with `authorization_pending` or `slow_down` until then.
    pub async fn finish_device_login(&self, device_code: &str) -> Result<DeviceToken> {
        let body = DeviceTokenRequest { device_code: device_code.into() };
        self.send(Method::POST, "/api/auth/device/token", &body).await
    }
}
