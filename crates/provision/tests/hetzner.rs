//! The client against a local server that speaks the documented API, with faults.
#![allow(clippy::unwrap_used)]

use rexec_provision::fake::{Fake, Fault, TOKEN};
use rexec_provision::hetzner::{Error, Hetzner, NewMachine, Progress, Settings, Token, UserData};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

fn labels(machine: &str) -> BTreeMap<String, String> {
    [("rexec-instance".into(), "i1".into()), ("rexec-machine".into(), machine.into())].into()
}

fn new(name: &str) -> NewMachine {
    NewMachine {
        name: name.into(),
        server_type: "cx22".into(),
        image: "ubuntu-24.04".into(),
        location: "fsn1".into(),
        ssh_keys: vec!["ops".into()],
        network: Some(11),
        firewall: Some(12),
        labels: labels(name),
        user_data: UserData("#!/bin/sh\n".into()),
    }
}

async fn stage() -> (Fake, Hetzner) {
    let fake = Fake::start().await.unwrap();
    let client = Hetzner::new(&fake.settings()).unwrap();
    (fake, client)
}

#[tokio::test]
async fn a_machine_is_made_found_and_deleted() {
    let (fake, client) = stage().await;
    let made = client.create(&new("a")).await.unwrap();
    assert_eq!((made.machine.name.as_str(), made.machine.private_ip.as_deref()), ("a", Some("127.0.0.1")));
    assert_eq!(client.progress(made.action.unwrap()).await.unwrap(), Progress::Done);
    {
        let world = fake.world();
        let body = &world.created[0];
        assert_eq!(body["firewalls"][0]["firewall"], 12);
        assert_eq!((&body["networks"][0], &body["ssh_keys"][0]), (&11.into(), &"ops".into()));
        assert_eq!(body["labels"]["rexec-machine"], "a");
    }
    assert_eq!(client.list(&labels("a")).await.unwrap(), std::slice::from_ref(&made.machine));
    assert_eq!(client.find("a").await.unwrap(), Some(made.machine.clone()));
    client.delete(made.machine.id, &labels("a")).await.unwrap();
    client.delete(made.machine.id, &labels("a")).await.unwrap();
    assert_eq!(client.find("a").await.unwrap(), None);
    assert_eq!(fake.world().deleted, [made.machine.id]);
}

#[tokio::test]
async fn what_is_named_is_found() {
    let (_fake, client) = stage().await;
    let kind = client.machine_type("cx22").await.unwrap().unwrap();
    assert_eq!((kind.cores, kind.memory_mb, kind.disk_gb), (2, 4096, 40));
    assert_eq!(client.machine_type("cx9").await.unwrap(), None);
    assert_eq!(client.network("inner").await.unwrap(), Some(11));
    assert_eq!(client.network("11").await.unwrap(), Some(11));
    assert_eq!(client.network("outer").await.unwrap(), None);
    assert_eq!(client.firewall("wall").await.unwrap(), Some(12));
}

#[tokio::test]
async fn a_creation_whose_answer_is_lost_makes_one_machine() {
    let (fake, client) = stage().await;
    fake.fail("POST /servers", Fault::CutAfter);
    let made = client.create(&new("a")).await.unwrap();
    assert_eq!(made.action, None, "it was found");
    // And one that was lost before it was done is asked for again by whoever wants it.
    fake.fail("POST /servers", Fault::CutBefore);
    let lost = client.create(&new("b")).await.unwrap_err();
    assert!(lost.may_have_happened(), "{lost:?}");
    assert_eq!(fake.world().servers.len(), 1);
    client.create(&new("b")).await.unwrap();
    // Asked for twice, it is the same one.
    assert_eq!(client.create(&new("a")).await.unwrap(), made);
    assert_eq!(fake.world().created.len(), 2);
    // Done, and a proxy says that it was not.
    fake.fail("POST /servers", Fault::Garbage { status: 502, body: "<html>".into() });
    assert_eq!(client.create(&new("b")).await.unwrap().action, None);
    // Done, and then the API is away: that is no refusal, whatever it says.
    fake.fail("POST /servers", Fault::CutAfter);
    fake.fail("GET /servers", Fault::refuse(401, "unauthorized"));
    assert!(client.create(&new("c")).await.unwrap_err().may_have_happened());
    fake.fail("GET /servers", Fault::refuse(401, "unauthorized"));
    assert!(client.create(&new("c")).await.unwrap_err().may_have_happened());
    assert_eq!(client.create(&new("c")).await.unwrap().machine.name, "c");
}

#[tokio::test]
async fn a_name_that_is_anothers_stays_theirs() {
    let (fake, client) = stage().await;
    let theirs = client.create(&NewMachine { labels: BTreeMap::new(), ..new("a") }).await.unwrap().machine;
    assert_eq!(client.create(&new("a")).await.unwrap_err().code(), Some("uniqueness_error"));
    assert!(matches!(client.delete(theirs.id, &labels("a")).await, Err(Error::NotOurs)));
    assert!(matches!(client.delete(theirs.id, &BTreeMap::new()).await, Err(Error::NotOurs)), "no labels are nobody's");
    assert_eq!(fake.world().servers.len(), 1);
}

#[tokio::test]
async fn after_too_many_requests_nothing_is_sent_until_then() {
    let (fake, client) = stage().await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let limit = |reset: u64| Fault::Refuse {
        status: 429,
        code: "rate_limit_exceeded",
        headers: vec![("RateLimit-Remaining", "0".into()), ("RateLimit-Reset", reset.to_string())],
    };
    // A time that has passed is no pause.
    fake.fail("GET /servers", limit(now - 5));
    assert!(matches!(client.list(&labels("a")).await, Err(Error::TooMany(_))));
    assert!(client.list(&labels("a")).await.unwrap().is_empty());
    fake.fail("GET /servers", limit(now + 600));
    assert!(matches!(client.list(&labels("a")).await, Err(Error::TooMany(_))));
    let sent = fake.world().requests.len();
    for _ in 0..3 {
        let Err(Error::TooMany(left)) = client.create(&new("a")).await else { panic!("it was sent") };
        assert!(left.as_secs() <= 600);
    }
    assert_eq!(fake.world().requests.len(), sent);
    // A time beyond belief is an hour.
    let (fake, client) = stage().await;
    fake.fail("GET /servers", limit(now + 1_000_000));
    let Err(Error::TooMany(left)) = client.list(&labels("a")).await else { panic!("it was not limited") };
    assert_eq!(left.as_secs(), 3600);
}

#[tokio::test]
async fn what_changes_nothing_is_asked_again() {
    let (fake, client) = stage().await;
    for fault in [Fault::refuse(500, "server_error"), Fault::CutBefore] {
        fake.fail("GET /servers", fault);
    }
    assert!(client.list(&labels("a")).await.unwrap().is_empty());
    assert_eq!(fake.world().requests.len(), 3);
    let id = client.create(&new("a")).await.unwrap().machine.id;
    fake.fail(&format!("DELETE /servers/{id}"), Fault::CutAfter);
    client.delete(id, &labels("a")).await.unwrap();
    assert!(fake.world().servers.is_empty());
    for _ in 0..3 {
        fake.fail("GET /servers", Fault::refuse(503, "unavailable"));
    }
    assert_eq!(client.list(&labels("a")).await.unwrap_err().code(), Some("unavailable"), "not for ever");
}

#[tokio::test]
async fn refusals_keep_their_code() {
    let (fake, client) = stage().await;
    let id = client.create(&new("a")).await.unwrap().machine.id;
    fake.fail("DELETE /servers", Fault::refuse(423, "locked"));
    assert_eq!(client.delete(id, &labels("a")).await.unwrap_err().code(), Some("locked"));
    for (status, code) in [(403, "resource_limit_exceeded"), (412, "resource_unavailable"), (422, "placement_error")] {
        fake.fail("POST /servers", Fault::refuse(status, code));
        let refused = client.create(&new("b")).await.unwrap_err();
        assert_eq!((refused.code(), refused.may_have_happened()), (Some(code), false));
    }
    fake.world().failing_action = Some("server_creation_failed");
    let made = client.create(&new("c")).await.unwrap();
    let failed = Progress::Failed("server_creation_failed".into());
    assert_eq!(client.progress(made.action.unwrap()).await.unwrap(), failed);
    fake.fail("GET /servers", Fault::Garbage { status: 200, body: "[]".into() });
    assert!(matches!(client.list(&labels("a")).await, Err(Error::Strange(_))));
    fake.fail("GET /servers", Fault::Garbage { status: 200, body: " ".repeat(5 << 20) });
    assert!(matches!(client.list(&labels("a")).await, Err(Error::Strange(_))), "it is not read to its end");
}

#[tokio::test]
async fn lists_come_in_pages() {
    let (fake, client) = stage().await;
    let instance: BTreeMap<String, String> = [("rexec-instance".into(), "i1".into())].into();
    for at in 0..120 {
        client.create(&new(&format!("m{at}"))).await.unwrap();
    }
    client.create(&NewMachine { labels: BTreeMap::new(), ..new("other") }).await.unwrap();
    let before = fake.world().requests.len();
    assert_eq!(client.list(&instance).await.unwrap().len(), 120);
    assert_eq!(fake.world().requests.len() - before, 3);
}

#[tokio::test]
async fn the_token_is_told_nobody() {
    let (fake, client) = stage().await;
    let settings = fake.settings();
    assert!(!format!("{settings:?} {:?}", new("a").user_data).contains(TOKEN));
    fake.fail("GET /servers", Fault::refuse(403, "forbidden"));
    let refused = client.list(&labels("a")).await.unwrap_err();
    assert!(!format!("{refused:?} {refused}").contains(TOKEN));
    let wrong = Hetzner::new(&Settings { token: Token::new("other"), ..settings }).unwrap();
    assert_eq!(wrong.list(&labels("a")).await.unwrap_err().code(), Some("unauthorized"));
    assert!(matches!(Hetzner::new(&Settings { token: Token::new("a\nb"), ..fake.settings() }), Err(Error::BadToken)));
    drop(fake);
    let gone = client.create(&new("a")).await.unwrap_err();
    assert!(!format!("{gone:?}").contains(TOKEN) && !gone.may_have_happened(), "{gone:?}");
}
