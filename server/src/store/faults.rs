//! What machines were found unable to use, and what is known of attempts that were broken off.

use std::collections::BTreeMap;

use promptfield_core::id::{JobId, LeaseId};
use promptfield_core::job::outcome::Failure;
use promptfield_core::scheduler::machine_fault::{FaultKey, FaultOf, MachineFault};
use promptfield_core::scheduler::{Holder, Setback};
use promptfield_core::time::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::bulk::{Binding, Bulk};
use super::{Doing, StoreError, damaged};

static UPSERT: Bulk = Bulk::new(
    "insert or change what machines can't use",
    "REPLACE INTO machine_fault (host, places, kind, name, class, reason, found_at, times, next_trial, trial)",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "",
);
static UPSERT_SETBACK: Bulk = Bulk::new(
    "insert or change how attempts were broken off",
    "REPLACE INTO setback (job_id, epochs, counted, waits, holder, host)",
    "(?, ?, ?, ?, ?, ?)",
    "",
);
const REMOVE: &str = "DELETE FROM machine_fault WHERE host = ? AND places = ? AND kind = ? AND name = ?";
const REMOVE_SETBACK: &str = "DELETE FROM setback WHERE job_id = ?";
const LOAD: &str =
    "SELECT host, places, kind, name, class, reason, found_at, times, next_trial, trial FROM machine_fault";
const LOAD_SETBACKS: &str = "SELECT job_id, epochs, counted, waits, holder, host FROM setback";

pub(super) async fn upsert<'q>(
    connection: &mut SqliteConnection,
    faults: &'q [&'q MachineFault],
) -> Result<(), StoreError> {
    let bind = |query: Binding<'q>, fault: &'q &MachineFault| {
        let (kind, name) = fault.what.parts();
        query
            .bind(&fault.host)
            .bind(&fault.places)
            .bind(kind)
            .bind(name)
            .bind(fault.failure.class.as_str())
            .bind(&fault.failure.reason)
            .bind(fault.found_at.0)
            .bind(fault.times)
            .bind(fault.next_trial.0)
            .bind(fault.trial.map(|lease| lease.0.cast_signed()))
    };
    UPSERT.run(connection, faults, bind).await
}

/// Removes what is there; what came and went in one batch isn't.
pub(super) async fn remove(connection: &mut SqliteConnection, faults: &[&MachineFault]) -> Result<(), StoreError> {
    for fault in faults {
        let (kind, name) = fault.what.parts();
        let query = sqlx::query(REMOVE).bind(&fault.host).bind(&fault.places).bind(kind).bind(name);
        query.execute(&mut *connection).await.doing("remove what a machine couldn't use")?;
    }
    Ok(())
}

pub(super) async fn upsert_setbacks<'q>(
    connection: &mut SqliteConnection,
    setbacks: &'q [(JobId, &'q Setback)],
) -> Result<(), StoreError> {
    let bind = |query: Binding<'q>, (job, setback): &'q (JobId, &Setback)| {
        query
            .bind(job.0.cast_signed())
            .bind(setback.epochs)
            .bind(setback.counted)
            .bind(setback.waits)
            .bind(setback.holder.as_ref().map(|holder| holder.words.as_str()))
            .bind(setback.holder.as_ref().and_then(|holder| holder.host.as_deref()))
    };
    UPSERT_SETBACK.run(connection, setbacks, bind).await
}

/// Removes what is there; what came and went in one batch isn't.
pub(super) async fn remove_setbacks(connection: &mut SqliteConnection, jobs: &[JobId]) -> Result<(), StoreError> {
    for job in jobs {
        let query = sqlx::query(REMOVE_SETBACK).bind(job.0.cast_signed());
        query.execute(&mut *connection).await.doing("remove how attempts were broken off")?;
    }
    Ok(())
}

type Unreadable = Box<dyn std::error::Error + Send + Sync>;
type Row = (String, String, String, String, String, String, i64, u32, i64, Option<i64>);

pub(super) async fn load(
    connection: &mut SqliteConnection,
) -> Result<BTreeMap<(String, FaultKey), MachineFault>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(LOAD).fetch_all(connection).await.doing("read what machines can't use")?;
    let fault = |(host, places, kind, name, class, reason, found_at, times, next_trial, trial): Row| {
        let what = FaultOf::from_parts(&kind, name).ok_or("it is of an unknown kind")?;
        let failure = Failure { class: class.parse()?, reason };
        let (found_at, next_trial) = (Timestamp(found_at), Timestamp(next_trial));
        let trial = trial.map(|lease| LeaseId(lease.cast_unsigned()));
        let fault = MachineFault { host, places, what, failure, found_at, times, next_trial, trial };
        Ok(((fault.host.clone(), fault.key()), fault))
    };
    let all: Result<_, Unreadable> = rows.into_iter().map(fault).collect();
    all.map_err(damaged("what a machine can't use, of those", 0))
}

pub(super) async fn load_setbacks(connection: &mut SqliteConnection) -> Result<BTreeMap<JobId, Setback>, StoreError> {
    type Row = (i64, u32, bool, u32, Option<String>, Option<String>);
    let rows: Vec<Row> =
        sqlx::query_as(LOAD_SETBACKS).fetch_all(connection).await.doing("read how attempts were broken off")?;
    let setback = |(job, epochs, counted, waits, holder, host): Row| {
        let holder = holder.map(|words| Holder { words, host });
        (JobId(job.cast_unsigned()), Setback { epochs, counted, waits, holder })
    };
    Ok(rows.into_iter().map(setback).collect())
}
