//! Machines that are made and removed with demand; off unless `REXEC_ELASTIC_MAX` says how many there may be.

use super::sources::Reader;
use crate::secret::Secret;
use rexec_api::servers::NAME_CHARS_MAX;
use rexec_provision::hetzner::USER_DATA_BYTES_MAX;
use std::time::Duration;

const API: &str = "https://api.hetzner.cloud/v1";
const IMAGE: &str = "ubuntu-24.04";
/// Docker's with TLS.
const DOCKER_PORT: u16 = 2376;
/// Machines of one region; each is looked at in every round.
const MACHINES_MAX: u64 = 100;
const REGIONS_MAX: usize = 16;
const SPARE_CPU: u64 = 4;
const SPARE_MEMORY_MB: u64 = 8192;
/// Two that start, once the first was not enough, are looked at in between.
const UP_PAUSE_SECONDS: u64 = 60;
/// Machines are paid by the hour.
const DOWN_PAUSE_SECONDS: u64 = 1800;
/// From a creation to an engine that answers, with all that the script installs.
const BOOT_SECONDS: u64 = 1200;
const SECONDS_MAX: u64 = 7 * 24 * 3600;
const EVERY: Duration = Duration::from_secs(15);
/// What certificates and the rest of the machine's first script take.
const SCRIPT_BYTES_MAX: usize = USER_DATA_BYTES_MAX - 8 * 1024;
/// `rexec-`, the region and eight more make a host name.
const REGION_CHARS_MAX: usize = NAME_CHARS_MAX - 24;

#[derive(Debug, Clone)]
pub struct ElasticConfig {
    /// Hetzner Cloud's, of the project that machines are made in.
    pub token: Secret,
    pub api: String,
    /// Such as `cx43`.
    pub server_type: String,
    pub image: String,
    pub regions: Vec<ElasticRegion>,
    /// Machines of each region.
    pub min: u32,
    pub max: u32,
    /// By name or id. With a network its address in there is where a machine is reached.
    pub network: Option<String>,
    pub firewall: Option<String>,
    pub ssh_keys: Vec<String>,
    /// To be free in each region at any time.
    pub spare_cpu_milli: u64,
    pub spare_memory_mb: u64,
    pub up_pause: Duration,
    pub down_pause: Duration,
    /// A machine that is no server by then is removed.
    pub boot_max: Duration,
    pub docker_port: u16,
    /// What makes a workspace server of a new machine; it may hold secrets.
    pub script: Secret,
    /// From where the machines' engines may be reached, for the script.
    pub platform_ip: Option<String>,
    /// How often the regions are looked at. No variable sets it.
    pub every: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElasticRegion {
    /// As workspaces ask for it.
    pub name: String,
    /// As Hetzner calls it, such as `fsn1`.
    pub location: String,
}

pub(super) fn take(reader: &mut Reader) -> Option<ElasticConfig> {
    let max = reader.number(&["REXEC_ELASTIC_MAX"], 0, MACHINES_MAX).unwrap_or(0);
    let config = read(reader, max);
    (max > 0).then_some(config)
}

fn read(reader: &mut Reader, max: u64) -> ElasticConfig {
    let is_on = max > 0;
    let needed = |reader: &mut Reader, name: &str, what: &str| match reader.text(&[name]) {
        Some((_, text)) => text,
        None => {
            if is_on {
                reader.fault(name, &format!("is needed with REXEC_ELASTIC_MAX: {what}"));
            }
            String::new()
        }
    };
    let token = needed(reader, "HCLOUD_TOKEN", "a token of a Hetzner Cloud project, which may read and write");
    let server_type = needed(reader, "REXEC_ELASTIC_TYPE", "a type of server, such as `cx43`");
    let regions = needed(reader, "REXEC_ELASTIC_LOCATIONS", "where, such as `fsn1`, or `eu=fsn1,us=ash`");
    let script =
        needed(reader, "REXEC_ELASTIC_SCRIPT", "the path of the script that makes a workspace server of a new machine");
    let seconds = |reader: &mut Reader, name: &str, default: u64| {
        Duration::from_secs(reader.number(&[name], 0, SECONDS_MAX).unwrap_or(default))
    };
    let min = reader.number(&["REXEC_ELASTIC_MIN"], 0, MACHINES_MAX).unwrap_or(0);
    if is_on && min > max {
        reader.fault("REXEC_ELASTIC_MIN", "must not be more than REXEC_ELASTIC_MAX");
    }
    let text = |reader: &mut Reader, name: &str| reader.text(&[name]).map(|(_, text)| text);
    let list = |text: String| text.split(',').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect();
    ElasticConfig {
        token: Secret::new(token),
        api: api(reader),
        server_type,
        image: text(reader, "REXEC_ELASTIC_IMAGE").unwrap_or_else(|| IMAGE.into()),
        regions: regions_of(reader, &regions),
        min: min as u32,
        max: max as u32,
        network: text(reader, "REXEC_ELASTIC_NETWORK"),
        firewall: text(reader, "REXEC_ELASTIC_FIREWALL"),
        ssh_keys: text(reader, "REXEC_ELASTIC_SSH_KEYS").map(list).unwrap_or_default(),
        spare_cpu_milli: 1000 * reader.number(&["REXEC_ELASTIC_SPARE_CPU"], 0, 10_000).unwrap_or(SPARE_CPU),
        spare_memory_mb: reader.number(&["REXEC_ELASTIC_SPARE_MEMORY_MB"], 0, 1 << 30).unwrap_or(SPARE_MEMORY_MB),
        up_pause: seconds(reader, "REXEC_ELASTIC_UP_PAUSE", UP_PAUSE_SECONDS),
        down_pause: seconds(reader, "REXEC_ELASTIC_DOWN_PAUSE", DOWN_PAUSE_SECONDS),
        boot_max: seconds(reader, "REXEC_ELASTIC_BOOT_TIMEOUT", BOOT_SECONDS),
        docker_port: reader
            .number(&["REXEC_ELASTIC_DOCKER_PORT"], 1, u64::from(u16::MAX))
            .map_or(DOCKER_PORT, |port| port as u16),
        script: Secret::new(script_of(reader, &script)),
        platform_ip: platform_ip(reader),
        every: EVERY,
    }
}

/// In plain HTTP the token would be everybody's on the way; a test's server is on this machine.
fn api(reader: &mut Reader) -> String {
    let Some((name, text)) = reader.text(&["REXEC_ELASTIC_API"]) else { return API.into() };
    let uri: Option<http::Uri> = text.parse().ok();
    let is_fit = uri.as_ref().is_some_and(|uri| match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) => true,
        (Some("http"), Some(host)) => matches!(host, "127.0.0.1" | "[::1]" | "localhost"),
        _ => false,
    });
    if !is_fit {
        reader.fault(&name, &format!("must be an `https` address such as `{API}`"));
    }
    text.trim_end_matches('/').to_owned()
}

fn regions_of(reader: &mut Reader, text: &str) -> Vec<ElasticRegion> {
    let word = |text: &str| {
        (1..=REGION_CHARS_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    let regions: Vec<ElasticRegion> = text
        .split(',')
        .map(str::trim)
        .filter(|one| !one.is_empty())
        .map(|one| {
            let (name, location) = one.split_once('=').unwrap_or((one, one));
            ElasticRegion { name: name.trim().into(), location: location.trim().into() }
        })
        .collect();
    let twice = regions.iter().enumerate().any(|(at, one)| regions[..at].iter().any(|other| other.name == one.name));
    if regions.len() > REGIONS_MAX || twice || !regions.iter().all(|one| word(&one.name) && word(&one.location)) {
        reader.fault(
            "REXEC_ELASTIC_LOCATIONS",
            &format!("must be up to {REGIONS_MAX} locations, each once, such as `fsn1`, or `eu=fsn1,us=ash`"),
        );
    }
    regions
}

fn script_of(reader: &mut Reader, path: &str) -> String {
    if path.is_empty() {
        return String::new();
    }
    let read = std::fs::metadata(path).and_then(|file| match file.len() {
        len if len <= SCRIPT_BYTES_MAX as u64 => std::fs::read_to_string(path),
        _ => Err(std::io::Error::other(format!("it is longer than {SCRIPT_BYTES_MAX} bytes"))),
    });
    match read {
        Ok(text) if text.starts_with("#!") => text,
        Ok(_) => {
            reader.fault("REXEC_ELASTIC_SCRIPT", "names a file that does not begin with `#!`, as a script does");
            String::new()
        }
        Err(error) => {
            reader.fault("REXEC_ELASTIC_SCRIPT", &format!("names a file that cannot be read: {error}"));
            String::new()
        }
    }
}

fn platform_ip(reader: &mut Reader) -> Option<String> {
    let (name, text) = reader.text(&["REXEC_ELASTIC_PLATFORM_IP"])?;
    if text.parse::<std::net::IpAddr>().is_err() {
        reader.fault(&name, "must be the address that this server has for the machines, such as 10.0.1.1");
    }
    Some(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tests::{config, faults};

    #[test]
    fn it_is_off_unless_asked_for() {
        assert!(config(&[("HCLOUD_TOKEN", "t"), ("REXEC_ELASTIC_TYPE", "cx43")]).unwrap().elastic.is_none());
        assert!(config(&[("REXEC_ELASTIC_MAX", "0")]).unwrap().elastic.is_none());
    }

    #[test]
    fn all_that_it_needs_is_asked_for_by_name() {
        let found = faults(&[("REXEC_ELASTIC_MAX", "3"), ("REXEC_ELASTIC_MIN", "4")]);
        let names = ["HCLOUD_TOKEN", "REXEC_ELASTIC_TYPE", "REXEC_ELASTIC_LOCATIONS", "REXEC_ELASTIC_SCRIPT"];
        for name in names.into_iter().chain(["REXEC_ELASTIC_MIN"]) {
            assert!(found.iter().any(|fault| fault.starts_with(&format!("{name} "))), "{name}: {found:#?}");
        }
        let found = faults(&[
            ("REXEC_ELASTIC_API", "http://example.org/v1"),
            ("REXEC_ELASTIC_LOCATIONS", "eu=fsn1,eu=nbg1"),
            ("REXEC_ELASTIC_SCRIPT", "/nowhere"),
            ("REXEC_ELASTIC_PLATFORM_IP", "here"),
        ]);
        assert_eq!(found.len(), 4, "{found:#?}");
    }

    #[test]
    fn what_is_said_counts() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("init.sh");
        std::fs::write(&script, "#!/bin/sh\n# geheim\n").unwrap();
        let all = [
            ("REXEC_ELASTIC_MAX", "3"),
            ("HCLOUD_TOKEN", "geheim"),
            ("REXEC_ELASTIC_TYPE", "cx43"),
            ("REXEC_ELASTIC_LOCATIONS", "eu=fsn1, ash"),
            ("REXEC_ELASTIC_SSH_KEYS", "a, b"),
            ("REXEC_ELASTIC_SCRIPT", script.to_str().unwrap()),
        ];
        let elastic = config(&all).unwrap().elastic.unwrap();
        let names: Vec<_> = elastic.regions.iter().map(|one| (one.name.as_str(), one.location.as_str())).collect();
        assert_eq!(names, [("eu", "fsn1"), ("ash", "ash")]);
        assert_eq!((elastic.min, elastic.max, elastic.ssh_keys.len()), (0, 3, 2));
        assert!(!format!("{elastic:?}").contains("geheim"));
    }
}
