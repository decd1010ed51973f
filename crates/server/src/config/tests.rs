use super::*;

/// A configuration from these variables, with a data directory that goes away again.
pub fn config(env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    Config::from_sources(&sources(dir.path(), env))
}

fn sources(dir: &Path, env: &[(&str, &str)]) -> Sources {
    let mut all = BTreeMap::from([("REXEC_DATA_DIR".to_owned(), dir.display().to_string())]);
    all.extend(env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    Sources::from_env(all)
}

pub fn faults(env: &[(&str, &str)]) -> Vec<String> {
    config(env).unwrap_err().0
}

#[test]
fn nothing_need_be_set() {
    let config = config(&[]).unwrap();
    assert_eq!((config.host.to_string(), config.port), ("127.0.0.1".into(), 8080));
    assert_eq!(config.mode, Mode::Release);
    assert_eq!(config.database, DatabaseUrl::Sqlite(config.data_dir.join("rexec.db")));
    assert_eq!(config.jwt_secret, None);
    assert_eq!(config.notices, Vec::<String>::new());
}

#[test]
fn every_fault_is_told_at_once_and_no_value_with_it() {
    let found = faults(&[
        ("PORT", "http"),
        ("HOST", "example.com"),
        ("REXEC_MODE", "loud"),
        ("DATABASE_URL", "mysql://user:geheim@db/rexec"),
        ("JWT_SECRET", "geheim"),
        ("PUBLIC_URL", "rexec.example.com"),
        ("REXEC_TRUSTED_PROXIES", "10.0.0.0/8"),
        ("REXEC_MAX_WORKSPACES", "0"),
        ("DOCKER_HOST", "tcp://10.0.0.5:2376"),
        ("TTYD_EGRESS_PROXY_HOST", "http://geheim@squid"),
        ("WEB_DIR", "/nowhere"),
        ("REXEC_ENGINE_LABELS", "team"),
        ("REXEC_RUNTIMES", "runc,,runsc"),
        ("REXEC_IDLE_STOP_SECONDS", "2h"),
        ("REXEC_IDLE_COUNTS", "input,thoughts"),
        ("REXEC_PREVIEW_DOMAIN", "10.0.0.1"),
        ("REXEC_PREVIEW_PORTS", "20099-20000"),
        ("REXEC_GITHUB_URL", "ftp://github.com"),
    ]);
    let names = [
        "PORT",
        "HOST",
        "REXEC_MODE",
        "DATABASE_URL",
        "JWT_SECRET",
        "PUBLIC_URL",
        "REXEC_TRUSTED_PROXIES",
        "REXEC_MAX_WORKSPACES",
        "DOCKER_HOST",
        "TTYD_EGRESS_PROXY_HOST",
        "WEB_DIR",
        "REXEC_ENGINE_LABELS",
        "REXEC_RUNTIMES",
        "REXEC_IDLE_STOP_SECONDS",
        "REXEC_IDLE_COUNTS",
        "REXEC_PREVIEW_DOMAIN",
        "REXEC_PREVIEW_PORTS",
        "REXEC_GITHUB_URL",
    ];
    for name in names {
        assert!(found.iter().any(|f| f.starts_with(&format!("{name} "))), "{name}: {found:#?}");
    }
    assert_eq!(found.len(), names.len(), "{found:#?}");
    assert!(!found.iter().any(|f| f.contains("geheim")));
}

#[test]
fn an_external_database_needs_a_secret() {
    let url = ("DATABASE_URL", "postgresql+asyncpg://u:p@db:5432/rexec?sslmode=disable");
    assert!(faults(&[url])[0].starts_with("JWT_SECRET is required"));
    let config = config(&[url, ("BETTER_AUTH_SECRET", "0123456789abcdef0123456789abcdef")]).unwrap();
    let DatabaseUrl::Postgres(text) = &config.database else {
        panic!("not PostgreSQL");
    };
    assert_eq!(text.expose(), "postgres://u:p@db:5432/rexec?sslmode=disable");
    assert_eq!(config.database.place(), "postgres://db:5432/rexec");
    assert!(!format!("{config:?}").contains("0123456789abcdef"));
}

#[test]
fn sqlite_addresses_name_a_file() {
    for (url, path) in [
        ("sqlite:/data/r.db", "/data/r.db"),
        ("sqlite:///data/r.db?mode=rwc", "/data/r.db"),
        ("sqlite+aiosqlite:///data/r.db", "/data/r.db"),
    ] {
        let config = config(&[("DATABASE_URL", url)]).unwrap();
        assert_eq!(config.database, DatabaseUrl::Sqlite(path.into()), "{url}");
    }
    for url in ["sqlite::memory:", "sqlite:", "nonsense"] {
        assert!(faults(&[("DATABASE_URL", url)])[0].starts_with("DATABASE_URL "), "{url}");
    }
}

#[test]
fn our_names_win_over_aliases() {
    let env = [
        ("COMPUTE_DOCKER_RUNTIME", "runc"),
        ("REXEC_RUNTIME", "runsc"),
        ("FRONTEND_URL", "https://Rexec.example.com:443/"),
        ("GIN_MODE", "debug"),
        ("COMPUTE_MAX_WORKSPACES", "7"),
        ("REXEC_ENGINE_LABELS", "team=web, stage=a=b"),
    ];
    let config = config(&env).unwrap();
    assert_eq!(config.engine.runtime.as_deref(), Some("runsc"));
    assert_eq!(config.engine.workspaces_max, Some(7));
    let labels = [("stage".to_owned(), "a=b".to_owned()), ("team".to_owned(), "web".to_owned())];
    assert_eq!(config.engine.labels, labels.into());
    assert_eq!(config.mode, Mode::Debug);
    let url = config.public_url.unwrap();
    assert_eq!((url.origin.as_str(), url.https), ("https://rexec.example.com", true));
}

#[test]
fn the_environment_wins_over_dotenv_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = sources(dir.path(), &[("PORT", "1"), ("REXEC_RUNTIME", "")]);
    sources.dotenv = "# ours\nexport PORT=2\nREXEC_RUNTIME='runsc'\nHOST=0.0.0.0 # all\n".into();
    sources.file = "port = 3\nruntime = \"kata\"\nmax_workspaces = 5\n".into();
    let config = Config::from_sources(&sources).unwrap();
    assert_eq!(config.port, 1);
    assert_eq!(config.engine.runtime.as_deref(), Some("runsc"));
    assert_eq!(config.host.to_string(), "0.0.0.0");
    assert_eq!(config.engine.workspaces_max, Some(5));
}

#[test]
fn unknown_settings_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut unknown = sources(dir.path(), &[]);
    unknown.file = "prot = 3\n[stripe]\nsecret_key = \"x\"\n".into();
    let found = Config::from_sources(&unknown).unwrap_err().0;
    assert_eq!(found, ["rexec.toml: prot is not a setting."]);
    let config = config(&[("REXEC_PROT", "3")]).unwrap();
    assert!(config.notices[0].starts_with("REXEC_PROT is not a setting"));
}

#[test]
fn what_is_not_used_is_said() {
    let env = [
        ("REDIS_URL", "redis://x"),
        ("OIDC_ISSUER", "https://id"),
        ("COMPUTE_SERVICE_URL", "http://compute"),
        ("AGENT_INTERNAL_URL", "http://agent"),
        ("NODE_ENV", "production"),
    ];
    let notices = config(&env).unwrap().notices.join("\n");
    for name in ["REDIS_URL is accepted", "OIDC_ISSUER is accepted"] {
        assert!(notices.contains(name), "{notices}");
    }
    let last = "one server does it all: COMPUTE_SERVICE_URL, NODE_ENV, AGENT_INTERNAL_URL.";
    assert!(notices.ends_with(last), "{notices}");
}

#[test]
fn a_crash_is_asked_for_by_name() {
    assert_eq!(config(&[]).unwrap().crash_at, None);
    assert_eq!(config(&[("REXEC_CRASH_AT", "create.made")]).unwrap().crash_at, Some("create.made"));
    let found = faults(&[("REXEC_CRASH_AT", "create.nowhere")]);
    assert!(found[0].starts_with("REXEC_CRASH_AT ") && found[0].contains("create.made"), "{found:?}");
}

#[test]
fn the_mode_decides_what_is_tidied_up_unless_told_otherwise() {
    let seconds = |after: Option<Duration>| after.map(|after| after.as_secs());
    let all = |env: &[(&str, &str)]| {
        let Thresholds { pause_after, stop_after, lifetime, delete_after } = config(env).unwrap().cleanup.thresholds;
        [pause_after, stop_after, lifetime, delete_after].map(seconds)
    };
    assert_eq!(all(&[]), [Some(900), Some(7200), None, None]);
    assert_eq!(all(&[("GIN_MODE", "debug")]), [Some(300), Some(1800), Some(86_400), Some(604_800)]);
    let own =
        [("REXEC_IDLE_PAUSE_SECONDS", "0"), ("REXEC_LIFETIME_SECONDS", "60"), ("REXEC_DELETE_AFTER_SECONDS", "5")];
    assert_eq!(all(&own), [None, Some(7200), Some(60), Some(5)]);
    assert_eq!(all(&[("REXEC_IDLE_TIMEOUT", "77")])[1], Some(77));
    assert_eq!(all(&[("COMPUTE_WORKSPACE_TIMEOUT", "78")])[1], Some(78));
    assert_eq!(all(&[("REXEC_IDLE_TIMEOUT", "77"), ("REXEC_IDLE_STOP_SECONDS", "79")])[1], Some(79));
    let counts = |env: &[(&str, &str)]| config(env).unwrap().cleanup.counts;
    assert_eq!(counts(&[]), Uses::of(Use::ALL));
    assert_eq!(counts(&[("REXEC_IDLE_COUNTS", "input, ssh")]), Uses::of([Use::Ssh, Use::Input]));
}

#[test]
fn previews_need_a_name_beside_the_page() {
    let domain = ("REXEC_PREVIEW_DOMAIN", "*.Preview.example.com");
    assert!(faults(&[domain])[0].starts_with("REXEC_PREVIEW_DOMAIN needs PUBLIC_URL"));
    let same = ("PUBLIC_URL", "https://preview.example.com:8443");
    assert!(faults(&[domain, same])[0].contains("page's own name"));
    let found =
        config(&[domain, ("PUBLIC_URL", "https://rexec.example.com:8443"), ("REXEC_PREVIEW_PORTS", "20000 - 20009")]);
    let config = found.unwrap();
    assert_eq!(config.previews.domain.as_deref(), Some("preview.example.com"));
    assert_eq!(config.previews.ports, Some((20000, 20009)));
    let url = config.public_url.unwrap();
    assert_eq!((url.host(), url.port()), ("rexec.example.com", Some(8443)));
}

#[test]
fn authorities_are_lines_or_a_file_of_them() {
    let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti authority";
    let found = |text: &str| config(&[("REXEC_SSH_USER_CA", text)]).map(|config| config.ssh.authorities.len());
    assert_eq!(found(line).unwrap(), 1);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("authorities");
    std::fs::write(&path, format!("# ours\n\n{line}\n{line}\n")).unwrap();
    assert_eq!(found(path.to_str().unwrap()).unwrap(), 2);
    for (bad, told) in [
        ("/nowhere/at/all", "cannot be read"),
        ("# nobody", "names no authority"),
        (&format!("{line}\nssh-ed25519 AAAA"), "in line 2"),
        (&format!("{line}\n").repeat(65), "64 authorities at most"),
    ] {
        let faults = faults(&[("REXEC_SSH_USER_CA", bad)]);
        assert!(
            faults.len() == 1 && faults[0].starts_with("REXEC_SSH_USER_CA") && faults[0].contains(told),
            "{faults:?}"
        );
    }
}

/// Deployment takes environment variables alone: what operators may say of egress, models and GitHub is handed on by both of our
/// stacks, and whoever says nothing has what one has without them.
#[test]
fn stacks_hand_on_what_operators_may_say() {
    let operators = include_str!("../../../../docs/egress.md").split_once("## For operators").unwrap().1;
    let table = operators.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let named = table.filter_map(|row| row.split('|').nth(1)).flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let named: Vec<&str> = named.collect();
    assert!(named.contains(&"REXEC_EGRESS_DIRECT") && named.contains(&"ANTHROPIC_API_KEY"), "{named:?}");
    for stack in [
        include_str!("../../../../docker/docker-compose.yml"),
        include_str!("../../../../docker/docker-compose.standalone.yml"),
    ] {
        let handed: Vec<&str> = stack
            .lines()
            .filter_map(|line| line.trim().split_once(": "))
            .filter(|(name, value)| *value == format!("${{{name}:-}}"))
            .map(|(name, _)| name)
            .collect();
        let missing: Vec<_> = named.iter().filter(|name| !handed.contains(name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        let empty: Vec<(&str, &str)> = handed.iter().map(|name| (*name, "")).collect();
        let (unset, none) = (config(&empty).unwrap(), config(&[]).unwrap());
        assert_eq!((unset.egress, unset.notices), (none.egress, none.notices));
    }
}
