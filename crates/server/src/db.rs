//! The database: SQLite by default, PostgreSQL by configuration, and one way to use either.
//!
//! **SQLite**: WAL, one writer connection and a pool of readers, so that writers queue here and
//! never meet `SQLITE_BUSY`. **PostgreSQL**: one pool serves both. Statements use `$1` and only
//! what both understand; ids are TEXT, times BIGINT milliseconds, JSON is TEXT.
//!
//! Invariant: migrations have run before a [`Db`] exists. A caller that holds a transaction from
//! [`Db::begin`] must pass it on and not ask for [`Db::write`]: with one writer it would wait for
//! itself.

use crate::config::DatabaseUrl;
use crate::migrations;
use rexec_api::ids::WorkspaceId;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, FromQueryResult, RuntimeErr,
    SqliteTransactionMode, SqlxPostgresConnector, SqlxSqliteConnector, Statement, TransactionOptions, TransactionTrait,
    Value,
};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

/// Readers of SQLite at once; more only queue for the same two cores.
const SQLITE_READERS_MAX: u32 = 4;
/// Connections to PostgreSQL at most.
const POSTGRES_CONNECTIONS_MAX: u32 = 16;
/// How long a statement waits for another process that holds the SQLite file.
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before asking again where SQLite does not wait by itself.
const SQLITE_BUSY_RETRY: Duration = Duration::from_millis(20);
/// How long a request waits for a connection before it is told that the database is away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Statements slower than this are logged.
const SLOW_STATEMENT: Duration = Duration::from_secs(1);

/// Of transactions on PostgreSQL that nobody goes on with; ours take a fraction of a second.
const IDLE_IN_TRANSACTION_MAX: &str = "60s";
/// Connections of [`Db::beside`].
const BESIDE_MAX: u32 = 3;

/// Why the server cannot use its database.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot open the database at {place}")]
    Connect {
        /// Where, without any password.
        place: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(
        "the database was written by a newer Rexec (it has migration {0}, which this version does not know); start that version, or restore a backup"
    )]
    Newer(String),
    #[error("migrating the database failed; nothing of the failed step was kept")]
    Migrate(#[source] DbErr),
}

/// A handle to the database. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    reader: DatabaseConnection,
    writer: DatabaseConnection,
    /// How PostgreSQL is reached.
    postgres: Option<PgConnectOptions>,
}

impl Db {
    /// Connects and brings the schema up to date.
    pub async fn open(url: &DatabaseUrl) -> Result<Self, OpenError> {
        let db = Self::connect(url).await?;
        migrations::run(&db).await?;
        Ok(db)
    }

    async fn connect(url: &DatabaseUrl) -> Result<Self, OpenError> {
        let opened = match url {
            DatabaseUrl::Sqlite(path) => Self::connect_sqlite(path).await,
            DatabaseUrl::Postgres(url) => Self::connect_postgres(url.expose()).await,
        };
        opened.map_err(|source| OpenError::Connect { place: url.place(), source })
    }

    async fn connect_sqlite(path: &Path) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        create_private(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            .busy_timeout(SQLITE_BUSY_TIMEOUT)
            .log_statements(log::LevelFilter::Trace)
            .log_slow_statements(log::LevelFilter::Warn, SLOW_STATEMENT);
        let pool = || {
            SqlitePoolOptions::new()
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .test_before_acquire(false)
                .idle_timeout(None)
                .max_lifetime(None)
        };
        let writer = || pool().max_connections(1).after_release(|connection, _| Box::pin(is_idle(connection)));
        let writer = first_connection(|| writer().connect_with(options.clone())).await?;
        let reader = pool().max_connections(SQLITE_READERS_MAX).connect_lazy_with(options.pragma("query_only", "ON"));
        Ok(Self {
            reader: SqlxSqliteConnector::from_sqlx_sqlite_pool(reader),
            writer: SqlxSqliteConnector::from_sqlx_sqlite_pool(writer),
            postgres: None,
        })
    }

    async fn connect_postgres(url: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let options = PgConnectOptions::from_str(url)?
            .application_name("rexec")
            // "Already exists, skipping" is no news.
            .options([("client_min_messages", "warning")])
            // What a server that is gone, or stands still, had begun is in nobody's way for long.
            .options([("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_MAX)])
            .options([("tcp_keepalives_idle", "15"), ("tcp_keepalives_interval", "5"), ("tcp_keepalives_count", "3")])
            .log_statements(log::LevelFilter::Trace)
            .log_slow_statements(log::LevelFilter::Warn, SLOW_STATEMENT);
        let pool = PgPoolOptions::new()
            .max_connections(POSTGRES_CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options.clone())
            .await?;
        let pool = SqlxPostgresConnector::from_sqlx_postgres_pool(pool);
        Ok(Self { reader: pool.clone(), writer: pool, postgres: Some(options) })
    }

    /// The same database over a few connections of their own, for what must not wait behind others: neither for a
    /// connection nor for a lock is waited long. The same connections where it is not PostgreSQL.
    pub fn beside(&self, patience: Duration) -> Self {
        let Some(options) = &self.postgres else { return self.clone() };
        let patient = options.clone().options([("lock_timeout", format!("{}ms", patience.as_millis()))]);
        let pool = PgPoolOptions::new().max_connections(BESIDE_MAX).acquire_timeout(patience);
        let pool = SqlxPostgresConnector::from_sqlx_postgres_pool(pool.connect_lazy_with(patient));
        Self { reader: pool.clone(), writer: pool, postgres: self.postgres.clone() }
    }

    /// For statements that only read.
    pub fn read(&self) -> &DatabaseConnection {
        &self.reader
    }

    /// For single statements that write. Not while holding a transaction of [`Db::begin`].
    pub fn write(&self) -> &DatabaseConnection {
        &self.writer
    }

    /// Begins a transaction that may write; dropped without `commit`, it is rolled back.
    pub async fn begin(&self) -> Result<DatabaseTransaction, DbErr> {
        self.writer
            .begin_with_options(TransactionOptions {
                // Taking the write lock at once means that no later statement of the
                // transaction can fail because another process wrote in between.
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..TransactionOptions::default()
            })
            .await
    }

    pub fn is_postgres(&self) -> bool {
        self.writer.get_database_backend() == sea_orm::DbBackend::Postgres
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), DbErr> {
        self.reader.query_one_raw(sql(&self.reader, "SELECT 1", [])).await.map(|_| ())
    }

    /// Closes every connection.
    pub async fn close(&self) {
        // Errors here concern connections that are being thrown away.
        let _ = self.reader.close_by_ref().await;
        let _ = self.writer.close_by_ref().await;
    }
}

/// Whether the writer may be used again. When a disk is full SQLite ends a transaction by itself, the
/// `ROLLBACK` that follows fails, and sqlx goes on counting that transaction: all that came later would be
/// written into one that nobody commits. Such a connection is closed, and the next is a new one.
async fn is_idle(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // A dropped transaction's rollback may still be queued; this waits behind it.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

/// Opens the writer. Changing a new file to WAL is refused at once, whatever the busy time-out, while
/// another process does the same (sqlite.org/wal.html, section 2): so this asks again.
async fn first_connection<F>(open: impl Fn() -> F) -> Result<sea_orm::sqlx::SqlitePool, sea_orm::sqlx::Error>
where
    F: Future<Output = Result<sea_orm::sqlx::SqlitePool, sea_orm::sqlx::Error>>,
{
    /// SQLITE_BUSY, and SQLITE_BUSY_RECOVERY.
    const BUSY: [&str; 2] = ["5", "261"];
    let deadline = tokio::time::Instant::now() + SQLITE_BUSY_TIMEOUT;
    loop {
        match open().await {
            Err(error)
                if tokio::time::Instant::now() < deadline
                    && error.as_database_error().and_then(|e| e.code()).is_some_and(|c| BUSY.contains(&&*c)) =>
            {
                tokio::time::sleep(SQLITE_BUSY_RETRY).await;
            }
            opened => return opened,
        }
    }
}

/// Makes the file for its owner alone before SQLite would make it for everyone; SQLite gives its
/// `-wal` and `-shm` files the same mode.
fn create_private(path: &Path) -> std::io::Result<()> {
    if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory)?;
    }
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
}

/// A statement with `$1`-style parameters.
pub fn sql<C: ConnectionTrait>(conn: &C, text: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(conn.get_database_backend(), text, values)
}

/// Runs a statement and tells how many rows it changed.
pub async fn execute<C: ConnectionTrait>(
    conn: &C,
    text: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<u64, DbErr> {
    let statement = sql(conn, text, values);
    Ok(conn.execute_raw(statement).await?.rows_affected())
}

/// The first row of a query.
pub async fn fetch_one<T: FromQueryResult, C: ConnectionTrait>(
    conn: &C,
    text: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Option<T>, DbErr> {
    let statement = sql(conn, text, values);
    let row = conn.query_one_raw(statement).await?;
    row.map(|row| T::from_query_result(&row, "")).transpose()
}

/// Every row of a query; bound it with LIMIT.
pub async fn fetch_all<T: FromQueryResult, C: ConnectionTrait>(
    conn: &C,
    text: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<T>, DbErr> {
    let statement = sql(conn, text, values);
    let rows = conn.query_all_raw(statement).await?;
    rows.iter().map(|row| T::from_query_result(row, "")).collect()
}

/// A condition that lets pass only rows of these workspaces; empty where all may pass. Ids are hexadecimal digits and
/// dashes by their type, so they can stand in the text.
pub fn among(column: &'static str, only: Option<&[WorkspaceId]>) -> String {
    match only {
        None => String::new(),
        Some([]) => "AND 1 = 0".to_owned(),
        Some(ids) => {
            let ids: Vec<_> = ids.iter().map(|id| format!("'{id}'")).collect();
            format!("AND {column} IN ({})", ids.join(", "))
        }
    }
}

/// Whether a statement broke a uniqueness constraint.
pub fn is_duplicate(error: &DbErr) -> bool {
    matches!(error.sql_err(), Some(sea_orm::SqlErr::UniqueConstraintViolation(_)))
}

/// Whether the database has no room left: SQLITE_FULL (13), or PostgreSQL's `disk_full` (53100).
pub fn is_disk_full(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner))) = error else {
        return false;
    };
    inner.as_database_error().and_then(|e| e.code().map(|code| code == "13" || code == "53100")).unwrap_or(false)
}
