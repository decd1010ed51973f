use super::*;
use proptest::prelude::*;
use proptest::sample::select;

fn rules(texts: &[&str]) -> Vec<Rule> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn layer(origin: Origin, allow: &[&str], deny: &[&str]) -> Layer {
    Layer { origin, allow: rules(allow), deny: rules(deny) }
}

fn of_workspace(preset: Preset, allow: &[&str], deny: &[&str]) -> Policy {
    Policy::new(preset, vec![layer(Origin::Workspace, allow, deny)])
}

fn host(text: &str) -> Host {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn allows(policy: &Policy, to: &str, port: u16) -> bool {
    matches!(policy.decide(&host(to), port), Decision::Allow { .. })
}

fn denied(policy: &Policy, to: &str, port: u16) -> Denied {
    match policy.decide(&host(to), port) {
        Decision::Deny(denied) => denied,
        allowed => panic!("{allowed:?}"),
    }
}

#[test]
fn presets() {
    let locked = Policy::default();
    assert_eq!(locked, Policy::new(Preset::Locked, Vec::new()));
    assert_eq!(denied(&locked, "github.com", 443), Denied::NoRule);
    assert_eq!(denied(&locked, "1.1.1.1", 443), Denied::Literal);

    let balanced = Policy::new(Preset::Balanced, Vec::new());
    let by = Decision::Allow { origin: Origin::Preset, rule: "github.com:22".to_owned() };
    assert_eq!(balanced.decide(&host("github.com"), 22), by);
    assert!(allows(&balanced, "de.archive.ubuntu.com", 80) && allows(&balanced, "github.com", 443));
    assert!(!allows(&balanced, "gist.github.com", 443) && !allows(&balanced, "github.com", 25));
    assert_eq!(denied(&balanced, "1.1.1.1", 443), Denied::Literal);

    let open = Policy::new(Preset::Open, Vec::new());
    let anything = Decision::Allow { origin: Origin::Preset, rule: "*:*".to_owned() };
    for to in ["evil.example", "1.1.1.1", "[2606:4700::1]"] {
        assert_eq!(open.decide(&host(to), 6667), anything, "{to}");
    }
    assert_eq!(denied(&open, "10.0.0.1", 443), Denied::Private);
    assert_eq!(denied(&open, "127.0.0.1", 443), Denied::Closed(Class::Own));
    assert_eq!(open.vet(&host("evil.example"), 443, ip("1.1.1.1")), Ok(()));
    assert_eq!(open.vet(&host("evil.example"), 443, ip("10.0.0.1")), Err(Denied::Private));
    assert_eq!(
        open.vet(&host("evil.example"), 443, ip("::ffff:169.254.169.254")),
        Err(Denied::Closed(Class::Metadata))
    );
}

#[test]
fn the_strongest_layer_is_said_and_denying_wins() {
    let policy = Policy::new(
        Preset::Open,
        vec![
            layer(Origin::Workspace, &["*.example", "a.example"], &["b.example"]),
            layer(Origin::Always, &[], &["*.b.example:*"]),
            layer(Origin::Organisation, &["a.example:*"], &["b.example"]),
        ],
    );
    let by = |origin, rule: &str| Decision::Allow { origin, rule: rule.to_owned() };
    let no = |origin, rule: &str| Denied::Rule { origin, rule: rule.to_owned() };
    assert_eq!(policy.decide(&host("a.example"), 443), by(Origin::Organisation, "a.example:*"));
    assert_eq!(policy.decide(&host("c.example"), 443), by(Origin::Workspace, "*.example"));
    assert_eq!(policy.decide(&host("c.example"), 22), by(Origin::Preset, "*:*"));
    assert_eq!(denied(&policy, "b.example", 443), no(Origin::Organisation, "b.example"));
    assert_eq!(denied(&policy, "x.b.example", 22), no(Origin::Always, "*.b.example:*"));
}

#[test]
fn private_ranges_open_by_a_rule_with_the_range_only() {
    let named = of_workspace(Preset::Open, &["db.internal.example:*", "*:*"], &[]);
    assert_eq!(named.vet(&host("db.internal.example"), 5432, ip("10.1.2.3")), Err(Denied::Private));

    let ranged = of_workspace(Preset::Locked, &["db.internal.example:5432", "10.1.0.0/16:5432"], &["10.1.9.0/24:*"]);
    let db = host("db.internal.example");
    assert_eq!(ranged.vet(&db, 5432, ip("10.1.2.3")), Ok(()));
    assert_eq!(ranged.vet(&db, 5432, ip("::ffff:10.1.2.3")), Ok(()));
    assert_eq!(ranged.vet(&db, 5433, ip("10.1.2.3")), Err(Denied::Private));
    assert_eq!(ranged.vet(&db, 5432, ip("10.2.2.3")), Err(Denied::Private));
    let rule = Denied::Rule { origin: Origin::Workspace, rule: "10.1.9.0/24:*".to_owned() };
    assert_eq!(ranged.vet(&db, 5432, ip("10.1.9.3")), Err(rule));
    assert!(allows(&ranged, "10.1.2.3", 5432));
    assert_eq!(denied(&ranged, "10.2.2.3", 5432), Denied::Literal);
    assert_eq!(denied(&ranged, "other.internal.example", 5432), Denied::NoRule);
}

#[test]
fn whoever_allows_every_address_means_the_internet() {
    let policy = of_workspace(Preset::Locked, &["0.0.0.0/0:*", "::/0:*", "*:*", "10.1.0.0/16:*"], &[]);
    assert!(allows(&policy, "203.0.113.5", 22) && allows(&policy, "10.1.2.3", 22));
    for address in ["10.2.0.1", "192.168.1.1", "fd00::1"] {
        assert!(!allows(&policy, address, 22), "{address}");
        assert!(policy.vet(&host("a.example"), 22, ip(address)).is_err(), "{address}");
    }
}

#[test]
fn a_denied_range_is_denied_in_every_form() {
    let policy = of_workspace(Preset::Open, &["::/0:*", "0.0.0.0/0:*"], &["203.0.113.0/24:*"]);
    for address in ["203.0.113.5", "::ffff:203.0.113.5", "64:ff9b::203.0.113.5", "2002:cb00:7105::1"] {
        assert!(matches!(denied(&policy, address, 443), Denied::Rule { .. }), "{address}");
        assert!(policy.vet(&host("a.example"), 443, ip(address)).is_err(), "{address}");
    }
    assert!(allows(&policy, "64:ff9b::203.0.114.5", 443));
}

#[test]
fn codes_and_sentences_tell_what_to_do() {
    let rule = |origin| Denied::Rule { origin, rule: "*.evil.example".to_owned() };
    for (denied, code, part) in [
        (rule(Origin::Always), "egress_denied_by_rule", "administrator"),
        (rule(Origin::Organisation), "egress_denied_by_rule", "organisation's"),
        (
            rule(Origin::Workspace),
            "egress_denied_by_rule",
            "*.evil.example, one of the workspace's rules, denies a.b:443;",
        ),
        (Denied::NoRule, "egress_not_allowed", "No rule allows a.b:443; add it to the workspace's rules."),
        (Denied::Literal, "egress_address_literal", "ask for a name instead"),
        (Denied::Closed(Class::Metadata), "egress_closed_range", "metadata service, which no rule can open"),
        (Denied::Closed(Class::Own), "egress_closed_range", "machine"),
        (Denied::Closed(Class::LinkLocal), "egress_closed_range", "link"),
        (Denied::Closed(Class::Unusable), "egress_closed_range", "nobody's"),
        (Denied::Private, "egress_private_range", "such as 10.1.0.0/16:443"),
    ] {
        let said = Decision::Deny(denied.clone()).sentence(host("a.b"), 443);
        assert_eq!(denied.code(), code);
        assert!(said.contains(part) && said.contains("a.b:443") && said.ends_with('.'), "{said}");
    }
    let allowed = of_workspace(Preset::Locked, &["a.b"], &[]).decide(&host("a.b"), 80);
    assert_eq!(allowed.sentence("a.b", 80), "a.b:80 is allowed by a.b, one of the workspace's rules.");
}

/// A small world, so that rules and questions meet.
const RULES: &[&str] = &[
    "*",
    "*:*",
    "*:22",
    "a.b.c",
    "a.b.c:22",
    "*.b.c",
    "*.c",
    "*.c:1-100",
    "b.c",
    "c",
    "*.a.b.c",
    "10.0.0.0/8",
    "10.1.0.0/16:*",
    "10.1.2.3",
    "0.0.0.0/0",
    "0.0.0.0/0:*",
    "::/0",
    "::/0:*",
    "169.254.0.0/16:*",
    "127.0.0.0/8:*",
    "fe80::/10:*",
    "64:ff9b::/96:*",
    "203.0.113.0/24",
    "203.0.113.7:22",
    "fd00::/8:*",
    "github.com:*",
    "224.0.0.0/4:*",
    "2002::/16:*",
];
const ADDRESSES: &[&str] = &[
    "10.1.2.3",
    "10.2.0.1",
    "203.0.113.7",
    "203.0.113.8",
    "1.1.1.1",
    "169.254.169.254",
    "127.0.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "100.100.100.200",
    "168.63.129.16",
    "fe80::1",
    "::1",
    "::",
    "fd00:ec2::254",
    "fd00::1",
    "ff02::1",
    "2606:4700::1",
    "::ffff:10.1.2.3",
    "::ffff:127.0.0.1",
    "64:ff9b::10.1.2.3",
    "64:ff9b::169.254.169.254",
    "64:ff9b::203.0.113.7",
    "2002:7f00:1::1",
    "2002:cb00:7107::1",
    "2001:0:101:101::80ff:fffe",
    "100::1",
];
const NAMES: &[&str] = &["a.b.c", "b.c", "c", "x.b.c", "x.a.b.c", "d", "github.com", "gist.github.com"];
const PORTS: &[u16] = &[22, 80, 443, 8080];

fn some_rules() -> impl Strategy<Value = Vec<Rule>> {
    prop::collection::vec(select(RULES).prop_map(|text| text.parse().unwrap()), 0..5)
}

fn a_layer() -> impl Strategy<Value = Layer> {
    use Origin::{Agent, Always, Organisation, Project, Workspace};
    (select(vec![Always, Organisation, Project, Agent, Workspace]), some_rules(), some_rules())
        .prop_map(|(origin, allow, deny)| Layer { origin, allow, deny })
}

fn some_layers() -> impl Strategy<Value = Vec<Layer>> {
    prop::collection::vec(a_layer(), 0..5)
}

fn a_preset() -> impl Strategy<Value = Preset> {
    select(vec![Preset::Locked, Preset::Balanced, Preset::Open])
}

fn an_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![4 => select(ADDRESSES).prop_map(ip), 1 => any::<IpAddr>()]
}

/// Whether bytes would flow: asked for as `to`, dialled at `address`.
fn reaches(policy: &Policy, to: &Host, port: u16, address: IpAddr) -> bool {
    matches!(policy.decide(to, port), Decision::Allow { .. }) && policy.vet(to, port, address).is_ok()
}

/// Every question of the small world: names that lead to addresses, and addresses themselves.
fn questions() -> impl Iterator<Item = (Host, u16, IpAddr)> {
    let names = NAMES.iter().flat_map(|name| ADDRESSES.iter().map(|address| (host(name), ip(address))));
    let literals = ADDRESSES.iter().map(|address| (host(address), ip(address)));
    names.chain(literals).flat_map(|(host, address)| PORTS.iter().map(move |port| (host.clone(), *port, address)))
}

/// The documents' words, rule by rule.
fn naive(preset: Preset, layers: &[Layer], to: &Host, port: u16, address: IpAddr) -> bool {
    let mut forms = vec![address];
    if let IpAddr::V6(address) = address {
        forms.extend(carried(address).map(IpAddr::V4));
    }
    let denies = |rule: &Rule| {
        matches!(to, Host::Name(name) if rule.matches_name(name, port))
            || forms.iter().any(|form| rule.matches_address(*form, port))
    };
    if class(address).closed() || layers.iter().any(|layer| layer.deny.iter().any(denies)) {
        return false;
    }
    let allowing = || layers.iter().chain(&presets::rules(preset).layers).flat_map(|layer| &layer.allow);
    let public = class(address) == Class::Public;
    let means = |rule: &Rule| match rule.to {
        To::Range(range) => public || class(range.base) == Class::Private,
        _ => false,
    };
    let ranged = allowing().any(|rule| rule.matches_address(address, port) && means(rule));
    match to {
        Host::Name(name) => allowing().any(|rule| rule.matches_name(name, port)) && (public || ranged),
        Host::Address(_) => ranged || preset == Preset::Open && public,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_policy_opens_what_is_closed(
        preset in a_preset(), layers in some_layers(), address in an_address(), name in select(NAMES), port in any::<u16>()
    ) {
        // Also by the widest rules that can be written, and by one for this very address.
        let one = Rule { to: format!("{address}").parse::<Rule>().unwrap().to, ports: Ports::Any, asks: None };
        let mut widest = layer(Origin::Always, &["*:*", "0.0.0.0/0:*", "::/0:*"], &[]);
        widest.allow.push(one);
        for layers in [layers.clone(), [layers, vec![widest]].concat()] {
            let policy = Policy::new(preset, layers);
            if class(address).closed() {
                let closed = Denied::Closed(class(address));
                prop_assert_eq!(policy.decide(&Host::Address(address), port), Decision::Deny(closed.clone()));
                prop_assert_eq!(policy.vet(&Host::Address(address), port, address), Err(closed.clone()));
                prop_assert_eq!(policy.vet(&host(name), port, address), Err(closed));
            }
        }
    }

    #[test]
    fn indexed_is_naive(preset in a_preset(), layers in some_layers()) {
        let policy = Policy::new(preset, layers.clone());
        for (to, port, address) in questions() {
            let expected = naive(preset, &layers, &to, port, address);
            prop_assert_eq!(reaches(&policy, &to, port, address), expected, "{}:{} at {}", to, port, address);
        }
    }

    #[test]
    fn denying_more_never_allows_more(preset in a_preset(), layers in some_layers(), more in a_layer()) {
        let before = Policy::new(preset, layers.clone());
        let mut layers = layers;
        layers.push(Layer { allow: Vec::new(), ..more });
        let after = Policy::new(preset, layers);
        for (to, port, address) in questions() {
            prop_assert!(reaches(&before, &to, port, address) || !reaches(&after, &to, port, address));
        }
    }

    #[test]
    fn allowing_more_overrules_no_denial(preset in a_preset(), layers in some_layers(), more in a_layer()) {
        let before = Policy::new(preset, layers.clone());
        let mut layers = layers;
        layers.push(Layer { deny: Vec::new(), ..more });
        let after = Policy::new(preset, layers);
        for (to, port, address) in questions() {
            if let Decision::Deny(denied @ (Denied::Rule { .. } | Denied::Closed(_))) = before.decide(&to, port) {
                prop_assert_eq!(after.decide(&to, port), Decision::Deny(denied));
            }
            if let Err(denied @ (Denied::Rule { .. } | Denied::Closed(_))) = before.vet(&to, port, address) {
                prop_assert_eq!(after.vet(&to, port, address), Err(denied));
            }
        }
    }

    #[test]
    fn order_does_not_matter(
        preset in a_preset(), (layers, mixed) in some_layers().prop_flat_map(|layers| (Just(layers.clone()), Just(layers).prop_shuffle()))
    ) {
        let mut mixed = mixed;
        for layer in &mut mixed {
            layer.allow.reverse();
            layer.deny.reverse();
        }
        let (one, other) = (Policy::new(preset, layers), Policy::new(preset, mixed));
        for (to, port, address) in questions() {
            prop_assert_eq!(reaches(&one, &to, port, address), reaches(&other, &to, port, address));
        }
    }

    #[test]
    fn an_address_that_is_decided_is_vetted_alike(preset in a_preset(), layers in some_layers(), address in an_address()) {
        let policy = Policy::new(preset, layers);
        let to = Host::Address(address);
        let allowed = matches!(policy.decide(&to, 443), Decision::Allow { .. });
        prop_assert_eq!(policy.vet(&to, 443, address).is_ok(), allowed);
    }
}

#[test]
fn requests_are_decided_one_by_one_where_rules_are_about_them() {
    let rules = |rules: &[&str]| rules.iter().map(|rule| rule.parse().unwrap()).collect::<Vec<Rule>>();
    let layer =
        |allow: &[&str], deny: &[&str]| Layer { origin: Origin::Workspace, allow: rules(allow), deny: rules(deny) };
    let host = |name: &str| name.parse::<Host>().unwrap();
    let api = host("api.example");
    let some =
        Policy::new(Preset::Locked, vec![layer(&["GET@api.example/repos/acme/*", "POST@api.example:8443/user"], &[])]);
    assert!(matches!(some.decide(&api, 443), Decision::Allow { rule, .. } if rule == "GET@api.example/repos/acme/*"));
    assert_eq!(
        (some.reads(&api, 443), some.reads(&api, 22), some.reads(&host("b.example"), 443)),
        (true, false, false)
    );
    for (method, path, code) in [
        ("GET", "/repos/acme/a", None),
        ("HEAD", "/repos/%61cme/a", None),
        ("POST", "/repos/acme/a", Some("egress_request_not_allowed")),
        ("GET", "/repos/other", Some("egress_request_not_allowed")),
        ("GET", "/repos/acme/../other", Some("egress_path_ambiguous")),
        ("GET", "/repos/acme/%2e%2e/other", Some("egress_path_ambiguous")),
        ("GET", "/repos/acme%2fa", Some("egress_path_ambiguous")),
        ("OPTIONS", "*", Some("egress_request_not_allowed")),
    ] {
        let decided = some.decide_request(&api, 443, method, path);
        assert_eq!(decided.err().map(|denied| denied.code()), code, "{method} {path}");
    }
    // What is allowed whole, but for some; what is denied by name stays denied.
    let but = Policy::new(Preset::Open, vec![layer(&[], &["DELETE@*.example", "api.example/admin*", "bad.example"])]);
    for (name, method, path, code) in [
        ("api.example", "GET", "/", None),
        ("api.example", "delete", "/", Some("egress_denied_by_rule")),
        ("api.example", "GET", "/administrators", Some("egress_denied_by_rule")),
        ("b.example", "DELETE", "/", Some("egress_denied_by_rule")),
        ("b.example", "GET", "/admin", None),
        ("example", "DELETE", "/", None),
    ] {
        let decided = but.decide_request(&host(name), 443, method, path);
        assert_eq!(decided.err().map(|denied| denied.code()), code, "{name} {method} {path}");
    }
    assert!(matches!(but.decide(&host("bad.example"), 443), Decision::Deny(Denied::Rule { .. })));
    // Always is stricter: a request that it denies no other layer allows.
    let always = Layer { origin: Origin::Always, ..layer(&[], &["PUT@api.example"]) };
    let both = Policy::new(Preset::Locked, vec![layer(&["api.example", "PUT@api.example/mine"], &[]), always]);
    assert!(both.decide_request(&api, 443, "GET", "/mine").is_ok());
    let denied = both.decide_request(&api, 443, "PUT", "/mine").unwrap_err();
    assert_eq!(denied, Denied::Rule { origin: Origin::Always, rule: "PUT@api.example".into() });
    assert!(some.knows(&"api.example".parse().unwrap()).is_some());
}
