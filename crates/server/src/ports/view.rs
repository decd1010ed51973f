//! Ports as their owner sees them: what the guest says joined with what was said of their previews.
//!
//! The guest's word is the tenant's: names are tamed, ports taken once and in order.

use super::store::Setting;
use crate::time::rfc3339;
use rexec_api::guest::{PortInfo, UserSpec};
use rexec_api::ports::{PortView, Visibility};
use std::collections::BTreeMap;

/// Most ports in one list.
pub const PORTS_MAX: usize = 512;
/// Most characters of a name that a guest gives.
const NAME_CHARS_MAX: usize = 64;

/// Every port that listens or was set up, in order.
pub fn ports(found: Vec<PortInfo>, settings: &[Setting], now_ms: i64) -> Vec<PortView> {
    let mut ports: BTreeMap<u16, PortView> = BTreeMap::new();
    for setting in settings {
        ports.insert(setting.port, silent(setting.port));
    }
    for info in found.into_iter().filter(|info| info.port != 0).take(PORTS_MAX) {
        ports.insert(info.port, listening(info));
    }
    for setting in settings {
        if let Some(view) = ports.get_mut(&setting.port) {
            view.visibility = setting.visibility_at(now_ms);
            view.expires_at = setting.expires_ms.filter(|_| view.visibility == Visibility::Public).map(rfc3339);
            view.label = setting.label.clone();
        }
    }
    ports.into_values().collect()
}

/// A port on which nothing is known to listen.
pub fn silent(port: u16) -> PortView {
    PortView {
        port,
        listening: false,
        address: None,
        process: None,
        pid: None,
        owner: None,
        since: None,
        url: None,
        visibility: Visibility::Private,
        expires_at: None,
        label: None,
    }
}

fn listening(info: PortInfo) -> PortView {
    // Guests of before tell only whether it is loopback.
    let address = info.address.as_deref().and_then(|text| text.parse::<std::net::IpAddr>().ok());
    PortView {
        listening: true,
        address: address.map(|address| address.to_string()),
        process: info.process.as_deref().map(tame).filter(|name| !name.is_empty()),
        pid: info.pid,
        owner: info.uid.map(user),
        since: (info.since_ms > 0).then(|| rfc3339(info.since_ms)),
        ..silent(info.port)
    }
}

fn user(uid: u32) -> String {
    let ours = UserSpec::default();
    match uid {
        0 => "root".into(),
        uid if uid == ours.uid => ours.name,
        uid => uid.to_string(),
    }
}

fn tame(name: &str) -> String {
    name.chars().take(NAME_CHARS_MAX).filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn info(port: u16) -> PortInfo {
        PortInfo {
            port,
            loopback: true,
            process: Some("py\u{1b}[31mthon".into()),
            address: Some("127.0.0.1".into()),
            pid: Some(7),
            uid: Some(1000),
            since_ms: 1,
        }
    }

    fn setting(port: u16, expires_ms: Option<i64>) -> Setting {
        Setting { port, visibility: Visibility::Public, expires_ms, label: Some("web".into()), listen_port: None }
    }

    #[test]
    fn what_listens_and_what_was_said_are_joined() {
        let ports = ports(vec![info(9000), info(0), info(8000)], &[setting(8000, None), setting(80, Some(5))], 10);
        let told: Vec<_> = ports.iter().map(|p| (p.port, p.listening, p.visibility)).collect();
        let expected =
            [(80, false, Visibility::Private), (8000, true, Visibility::Public), (9000, true, Visibility::Private)];
        assert_eq!(told, expected);
        assert_eq!(ports[0].expires_at, None, "what is over is not told");
        assert_eq!((ports[1].label.as_deref(), ports[1].owner.as_deref()), (Some("web"), Some("user")));
        assert_eq!(ports[1].process.as_deref(), Some("py[31mthon"));
    }

    #[test]
    fn a_guest_of_before_and_a_hostile_one_are_understood() {
        let before: PortInfo = serde_json::from_str(r#"{"port":1,"loopback":false,"process":null}"#).unwrap();
        let hostile =
            PortInfo { address: Some("<script>".into()), since_ms: i64::MIN, process: Some("\n".into()), ..info(2) };
        let ports = ports(vec![before, hostile], &[], 0);
        assert!(
            ports
                .iter()
                .all(|p| p.listening && p.address.is_none() && p.process.is_none() && p.since.as_deref().is_none())
        );
    }
}
