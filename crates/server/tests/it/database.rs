//! The database at start: made, shared, and refused when it is another version's.

use crate::support::{Backend, in_place, on_both};
use futures_util::future::join_all;
use rexec_server::db::{self, Db, OpenError};
use rexec_server::{StartError, migrations};
use sea_orm::ConnectionTrait as _;

on_both!(
    servers_that_start_together_migrate_once,
    a_newer_database_is_refused,
    a_transaction_that_is_dropped_leaves_nothing,
    a_data_directory_has_one_server,
);

async fn servers_that_start_together_migrate_once(backend: Backend) {
    in_place(backend, async |place| {
        let url = place.database();
        let opened = join_all((0..5).map(|_| Db::open(&url))).await;
        for db in opened {
            let db = db.unwrap();
            assert_eq!(migrations::pending(&db).await.unwrap(), Vec::<String>::new());
            db.ping().await.unwrap();
            db.close().await;
        }
    })
    .await;
}

async fn a_data_directory_has_one_server(backend: Backend) {
    in_place(backend, async |place| {
        let first = place.start(&[]).await;
        let second = rexec_server::start(place.config(&[])).await;
        assert!(matches!(second.err().unwrap(), StartError::DataDirInUse(_)));
        assert!(first.stop().await);
        assert!(place.start(&[]).await.stop().await, "the directory is free again");
    })
    .await;
}

async fn a_newer_database_is_refused(backend: Backend) {
    in_place(backend, async |place| {
        let db = Db::open(&place.database()).await.unwrap();
        let future = "INSERT INTO seaql_migrations (version, applied_at) VALUES ($1, $2)";
        db::execute(db.write(), future, ["m9999_of_the_future".into(), 0_i64.into()]).await.unwrap();
        db.close().await;
        let refused = Db::open(&place.database()).await.err().unwrap();
        assert!(matches!(&refused, OpenError::Newer(name) if name == "m9999_of_the_future"));
    })
    .await;
}

async fn a_transaction_that_is_dropped_leaves_nothing(backend: Backend) {
    in_place(backend, async |place| {
        let db = Db::open(&place.database()).await.unwrap();
        let insert = "INSERT INTO settings (key, value) VALUES ($1, $2)";
        let tx = db.begin().await.unwrap();
        db::execute(&tx, insert, ["dropped".into(), "x".into()]).await.unwrap();
        drop(tx);
        let tx = db.begin().await.unwrap();
        db::execute(&tx, insert, ["kept".into(), "x".into()]).await.unwrap();
        let twice = db::execute(&tx, insert, ["kept".into(), "y".into()]).await.unwrap_err();
        assert!(db::is_duplicate(&twice), "{twice}");
        drop(tx);
        let tx = db.begin().await.unwrap();
        db::execute(&tx, insert, ["kept".into(), "x".into()]).await.unwrap();
        tx.commit().await.unwrap();
        let query = "SELECT key FROM settings WHERE key IN ('dropped', 'kept')";
        let rows = db.read().query_all_raw(db::sql(db.read(), query, [])).await.unwrap();
        let keys: Vec<String> = rows.iter().map(|r| r.try_get("", "key").unwrap()).collect();
        assert_eq!(keys, ["kept"]);
        db.close().await;
    })
    .await;
}

/// A full disk makes SQLite end a transaction by itself, and the `ROLLBACK` that follows fails. Here a
/// conflict clause does the same (sqlite.org/lang_conflict.html, `ROLLBACK`).
#[tokio::test]
async fn a_transaction_that_sqlite_ended_by_itself_takes_no_later_write_with_it() {
    in_place(Backend::Sqlite, async |place| {
        let db = Db::open(&place.database()).await.unwrap();
        let insert = "INSERT INTO settings (key, value) VALUES ($1, $2)";
        db::execute(db.write(), insert, ["first".into(), "x".into()]).await.unwrap();
        for end in ["dropped", "rolled back", "committed"] {
            let tx = db.begin().await.unwrap();
            let ended = "INSERT OR ROLLBACK INTO settings (key, value) VALUES ($1, $2)";
            db::execute(&tx, ended, ["first".into(), "y".into()]).await.unwrap_err();
            match end {
                "dropped" => drop(tx),
                "rolled back" => drop(tx.rollback().await),
                _ => drop(tx.commit().await),
            }
            // What came next began inside the one that was no more, and a rollback of it left that open.
            drop(db.begin().await.unwrap());
            let tx = db.begin().await.unwrap();
            db::execute(&tx, insert, [format!("{end}: in a transaction").into(), "x".into()]).await.unwrap();
            tx.commit().await.unwrap();
            db::execute(db.write(), insert, [format!("{end}: alone").into(), "x".into()]).await.unwrap();
            let query = "SELECT key FROM settings WHERE key LIKE $1 ORDER BY key";
            let rows = db.read().query_all_raw(db::sql(db.read(), query, [format!("{end}:%").into()])).await.unwrap();
            let keys: Vec<String> = rows.iter().map(|r| r.try_get("", "key").unwrap()).collect();
            assert_eq!(keys, [format!("{end}: alone"), format!("{end}: in a transaction")]);
        }
        db.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_embedded_database_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    in_place(Backend::Sqlite, async |place| {
        let db = Db::open(&place.database()).await.unwrap();
        for entry in std::fs::read_dir(place.dir.path()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{:?}", entry.path());
        }
        db.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_unreachable_database_is_told_without_its_password() {
    let url = "postgres://ann:geheim@127.0.0.1:1/rexec?sslmode=disable";
    let url = rexec_server::config::DatabaseUrl::Postgres(rexec_server::secret::Secret::new(url));
    let refused = Db::open(&url).await.err().unwrap();
    let text = format!("{:#}", anyhow_like(&refused));
    assert!(text.contains("127.0.0.1:1/rexec"), "{text}");
    assert!(!text.contains("geheim") && !format!("{refused:?}").contains("geheim"), "{text}");
}

/// The error with its causes, as the command prints it.
fn anyhow_like(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
