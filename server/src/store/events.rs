//! The event log.

use promptfield_core::id::{ExperimentId, JobId, PilotId, Sequence, WorkerId};
use promptfield_core::scheduler::{Event, EventKind, JobStateName};
use promptfield_core::time::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::bulk::{Binding, Bulk};
use super::{Doing, Reader, StoreError, damaged};

static INSERT: Bulk = Bulk::new(
    "insert events",
    "INSERT INTO event (sequence, at, type, experiment_id, worker_id, to_state, name, jobs, done)",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "",
);
static INSERT_PILOTS: Bulk = Bulk::new(
    "insert events of pilots",
    "INSERT INTO event (sequence, at, type, pilot_id, name, to_state, reason)",
    "(?, ?, ?, ?, ?, ?, ?)",
    "",
);
/// Almost all events are of this kind.
static INSERT_JOB_CHANGES: Bulk = Bulk::new(
    "insert events of jobs",
    "INSERT INTO event (sequence, at, type, job_id, worker_id, from_state, to_state, reason)",
    "(?, ?, 'job_changed', ?, ?, ?, ?, ?)",
    "",
);
const LAST_SEQUENCE: &str = "SELECT coalesce(max(sequence), 0) FROM event";
pub(super) const AFTER: &str = "SELECT sequence, at, type, experiment_id, job_id, worker_id, pilot_id, from_state, to_state, name, jobs, done, \
     reason FROM event WHERE sequence > ?1 ORDER BY sequence LIMIT ?2";

/// An event's columns.
#[derive(sqlx::FromRow)]
struct Row {
    sequence: i64,
    at: i64,
    r#type: String,
    experiment_id: Option<i64>,
    job_id: Option<i64>,
    worker_id: Option<i64>,
    pilot_id: Option<i64>,
    from_state: Option<String>,
    to_state: Option<String>,
    name: Option<String>,
    jobs: Option<i64>,
    done: Option<i64>,
    reason: Option<String>,
}

type Unreadable = Box<dyn std::error::Error + Send + Sync>;

impl Row {
    fn kind(self) -> Result<EventKind, Unreadable> {
        let experiment =
            || Ok::<_, Unreadable>(ExperimentId(self.experiment_id.ok_or("no experiment")?.cast_unsigned()));
        let to = self.to_state.as_deref().ok_or("no state");
        Ok(match self.r#type.as_str() {
            "experiment_submitted" => EventKind::ExperimentSubmitted {
                experiment: experiment()?,
                name: self.name.ok_or("no name")?,
                jobs: self.jobs.ok_or("no number of jobs")?.cast_unsigned() as usize,
            },
            "experiment_finished" => EventKind::ExperimentFinished {
                experiment: experiment()?,
                name: self.name.ok_or("no name")?,
                jobs: self.jobs.ok_or("no number of jobs")?.cast_unsigned() as usize,
                done: self.done.ok_or("no number of jobs that are done")?.cast_unsigned() as usize,
            },
            "experiment_cancelled" => EventKind::ExperimentCancelled { experiment: experiment()? },
            "job_changed" => EventKind::JobChanged {
                job: JobId(self.job_id.ok_or("no job")?.cast_unsigned()),
                from: self.from_state.map(|state| state.parse()).transpose()?,
                to: to?.parse()?,
                worker: self.worker_id.map(|worker| WorkerId(worker.cast_unsigned())),
                reason: self.reason,
            },
            "worker_changed" => EventKind::WorkerChanged {
                worker: WorkerId(self.worker_id.ok_or("no worker")?.cast_unsigned()),
                to: to?.parse()?,
                name: self.name.ok_or("no name")?,
            },
            "pool_changed" => {
                EventKind::PoolChanged { pool: self.name.ok_or("no name")?, to: to?.parse()?, reason: self.reason }
            }
            "pilot_changed" => EventKind::PilotChanged {
                pilot: PilotId(self.pilot_id.ok_or("no pilot")?.cast_unsigned()),
                pool: self.name.ok_or("no name")?,
                to: to?.parse()?,
                reason: self.reason,
            },
            other => return Err(format!("an unknown type, `{other}`").into()),
        })
    }
}

pub(super) async fn insert<'q>(connection: &mut SqliteConnection, events: &'q [&'q Event]) -> Result<(), StoreError> {
    let (of_jobs, others): (Vec<&Event>, Vec<&Event>) =
        events.iter().partition(|event| matches!(event.kind, EventKind::JobChanged { .. }));
    let (of_pilots, others): (Vec<&Event>, Vec<&Event>) = others
        .into_iter()
        .partition(|event| matches!(event.kind, EventKind::PoolChanged { .. } | EventKind::PilotChanged { .. }));
    INSERT.run(connection, &others, |query, event| bind(query, event)).await?;
    INSERT_PILOTS.run(connection, &of_pilots, |query, event| bind(query, event)).await?;
    INSERT_JOB_CHANGES.run(connection, &of_jobs, |query, event| bind(query, event)).await
}

/// Binds an event's columns, those of the statement for its kind.
fn bind<'q>(query: Binding<'q>, event: &Event) -> Binding<'q> {
    let query = query.bind(event.sequence.0.cast_signed()).bind(event.at.0);
    match &event.kind {
        EventKind::JobChanged { job, from, to, worker, reason } => query
            .bind(job.0.cast_signed())
            .bind(worker.map(|worker| worker.0.cast_signed()))
            .bind(from.map(JobStateName::as_str))
            .bind(to.as_str())
            .bind(reason.as_deref().map(str::to_owned)),
        EventKind::ExperimentSubmitted { experiment, name, jobs } => query
            .bind("experiment_submitted")
            .bind(experiment.0.cast_signed())
            .bind(None::<i64>)
            .bind(None::<&str>)
            .bind(name.clone())
            .bind((*jobs as u64).cast_signed())
            .bind(None::<i64>),
        EventKind::ExperimentFinished { experiment, name, jobs, done } => query
            .bind("experiment_finished")
            .bind(experiment.0.cast_signed())
            .bind(None::<i64>)
            .bind(None::<&str>)
            .bind(name.clone())
            .bind((*jobs as u64).cast_signed())
            .bind((*done as u64).cast_signed()),
        EventKind::ExperimentCancelled { experiment } => query
            .bind("experiment_cancelled")
            .bind(experiment.0.cast_signed())
            .bind(None::<i64>)
            .bind(None::<&str>)
            .bind(None::<&str>)
            .bind(None::<i64>)
            .bind(None::<i64>),
        EventKind::PoolChanged { pool, to, reason } => {
            query.bind("pool_changed").bind(None::<i64>).bind(pool.clone()).bind(to.as_str()).bind(reason.clone())
        }
        EventKind::PilotChanged { pilot, pool, to, reason } => query
            .bind("pilot_changed")
            .bind(pilot.0.cast_signed())
            .bind(pool.clone())
            .bind(to.as_str())
            .bind(reason.clone()),
        EventKind::WorkerChanged { worker, name, to } => query
            .bind("worker_changed")
            .bind(None::<i64>)
            .bind(worker.0.cast_signed())
            .bind(to.as_str())
            .bind(name.clone())
            .bind(None::<i64>)
            .bind(None::<i64>),
    }
}

pub(super) async fn last_sequence(connection: &mut SqliteConnection) -> Result<Sequence, StoreError> {
    let last: i64 = sqlx::query_scalar(LAST_SEQUENCE).fetch_one(connection).await.doing("read the last event")?;
    Ok(Sequence(last.cast_unsigned()))
}

impl Reader {
    /// The first events after `sequence`, at most `limit`.
    pub(crate) async fn events_after(&self, sequence: Sequence, limit: u32) -> Result<Vec<Event>, StoreError> {
        let query = sqlx::query_as::<_, Row>(AFTER).bind(sequence.0.cast_signed()).bind(limit);
        let rows = query.fetch_all(&self.pool).await.doing("read the events")?;
        rows.into_iter()
            .map(|row| {
                let (sequence, at) = (row.sequence, Timestamp(row.at));
                let kind = row.kind().map_err(damaged("event", sequence))?;
                Ok(Event { sequence: Sequence(sequence.cast_unsigned()), at, kind })
            })
            .collect()
    }
}
