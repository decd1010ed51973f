//! The SQL of machines that are made and removed with demand. Each is recorded before it is asked for, and until nothing is
//! left of it.

use crate::db;
use rexec_api::ids::HostId;
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};

/// ```text
///   asked --made--> booting --its engine answers--> serving --taken out--> going --deleted--> (no row)
///     |                |------- too late ------------------------------------^
///     |------ refused, or too late: nothing was made, or it is going --------^
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Whether it is there is not known.
    Asked,
    /// It is there, and no host yet.
    Booting,
    /// It is the host of the same id.
    Serving,
    /// To be deleted; it is no host, or not any more.
    Going,
}

impl State {
    pub const ALL: [Self; 4] = [Self::Asked, Self::Booting, Self::Serving, Self::Going];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Booting => "booting",
            Self::Serving => "serving",
            Self::Going => "going",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Machine {
    /// Of the host that it becomes, and in its label.
    pub id: HostId,
    /// Its own, the host's, and the one that its certificate is for.
    pub name: String,
    pub region: String,
    pub state: State,
    /// What the provider calls it, once that is known.
    pub provider_id: Option<i64>,
    /// The provider's making of it, until that has ended.
    pub action_id: Option<i64>,
    /// Certificates and keys, until the host has them.
    pub material_sealed: Option<String>,
    /// Since when it takes nothing new, by our own decision.
    pub drained_ms: Option<i64>,
    pub created_ms: i64,
}

#[derive(FromQueryResult)]
struct Row {
    id: String,
    name: String,
    region: String,
    state: String,
    provider_id: Option<i64>,
    action_id: Option<i64>,
    material_sealed: Option<String>,
    drained_ms: Option<i64>,
    created_ms: i64,
}

impl TryFrom<Row> for Machine {
    type Error = DbErr;

    fn try_from(row: Row) -> Result<Self, DbErr> {
        let broken = |what: &str| DbErr::Type(format!("machine {} has an unreadable {what}", row.id));
        Ok(Self {
            id: row.id.parse().map_err(|_| broken("id"))?,
            state: State::ALL.into_iter().find(|one| one.as_str() == row.state).ok_or_else(|| broken("state"))?,
            name: row.name,
            region: row.region,
            provider_id: row.provider_id,
            action_id: row.action_id,
            material_sealed: row.material_sealed,
            drained_ms: row.drained_ms,
            created_ms: row.created_ms,
        })
    }
}

/// All, the oldest first.
pub async fn all(conn: &impl ConnectionTrait) -> Result<Vec<Machine>, DbErr> {
    let text = "SELECT id, name, region, state, provider_id, action_id, material_sealed, drained_ms, created_ms \
                FROM elastic_machines ORDER BY created_ms, id";
    db::fetch_all::<Row, _>(conn, text, []).await?.into_iter().map(Machine::try_from).collect()
}

pub async fn insert(conn: &impl ConnectionTrait, machine: &Machine) -> Result<(), DbErr> {
    let text = "INSERT INTO elastic_machines (id, name, region, state, material_sealed, created_ms) \
                VALUES ($1, $2, $3, $4, $5, $6)";
    let values = [
        machine.id.to_string().into(),
        machine.name.clone().into(),
        machine.region.clone().into(),
        machine.state.as_str().into(),
        machine.material_sealed.clone().into(),
        machine.created_ms.into(),
    ];
    db::execute(conn, text, values).await.map(|_| ())
}

/// Writes what becomes of it.
pub async fn update(conn: &impl ConnectionTrait, machine: &Machine) -> Result<(), DbErr> {
    let text = "UPDATE elastic_machines SET state = $1, provider_id = $2, action_id = $3, material_sealed = $4, \
                drained_ms = $5 WHERE id = $6";
    let values = [
        machine.state.as_str().into(),
        machine.provider_id.into(),
        machine.action_id.into(),
        machine.material_sealed.clone().into(),
        machine.drained_ms.into(),
        machine.id.to_string().into(),
    ];
    db::execute(conn, text, values).await.map(|_| ())
}

pub async fn delete(conn: &impl ConnectionTrait, id: HostId) -> Result<(), DbErr> {
    db::execute(conn, "DELETE FROM elastic_machines WHERE id = $1", [id.to_string().into()]).await.map(|_| ())
}
