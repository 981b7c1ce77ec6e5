//! The event log.

use promptfield_core::id::{ExperimentId, JobId, Sequence, WorkerId};
use promptfield_core::scheduler::{Event, EventKind};
use promptfield_core::time::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::bulk::{Binding, bulk};
use super::{Doing, Reader, StoreError, damaged};

bulk! {
    INSERT, "insert events",
    "INSERT INTO event (sequence, at, type, experiment_id, job_id, worker_id, from_state, to_state, name, jobs, reason)", 11, ""
}
const LAST_SEQUENCE: &str = "SELECT coalesce(max(sequence), 0) FROM event";
pub(super) const AFTER: &str = "SELECT sequence, at, type, experiment_id, job_id, worker_id, from_state, to_state, name, jobs, reason \
     FROM event WHERE sequence > ?1 ORDER BY sequence LIMIT ?2";

/// An event's columns.
#[derive(Default, sqlx::FromRow)]
struct Row {
    sequence: i64,
    at: i64,
    r#type: String,
    experiment_id: Option<i64>,
    job_id: Option<i64>,
    worker_id: Option<i64>,
    from_state: Option<String>,
    to_state: Option<String>,
    name: Option<String>,
    jobs: Option<i64>,
    reason: Option<String>,
}

type Unreadable = Box<dyn std::error::Error + Send + Sync>;

impl From<&Event> for Row {
    fn from(event: &Event) -> Self {
        let row = Self { sequence: event.sequence.0.cast_signed(), at: event.at.0, ..Self::default() };
        match &event.kind {
            EventKind::ExperimentSubmitted { experiment, name, jobs } => Self {
                r#type: "experiment_submitted".to_owned(),
                experiment_id: Some(experiment.0.cast_signed()),
                name: Some(name.clone()),
                jobs: Some((*jobs as u64).cast_signed()),
                ..row
            },
            EventKind::ExperimentCancelled { experiment } => Self {
                r#type: "experiment_cancelled".to_owned(),
                experiment_id: Some(experiment.0.cast_signed()),
                ..row
            },
            EventKind::JobChanged { job, from, to, worker, reason } => Self {
                r#type: "job_changed".to_owned(),
                job_id: Some(job.0.cast_signed()),
                worker_id: worker.map(|worker| worker.0.cast_signed()),
                from_state: from.map(|state| state.to_string()),
                to_state: Some(to.to_string()),
                reason: reason.clone(),
                ..row
            },
            EventKind::WorkerChanged { worker, name, to } => Self {
                r#type: "worker_changed".to_owned(),
                worker_id: Some(worker.0.cast_signed()),
                name: Some(name.clone()),
                to_state: Some(to.to_string()),
                ..row
            },
        }
    }
}

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
            other => return Err(format!("an unknown type, `{other}`").into()),
        })
    }
}

pub(super) async fn insert<'q>(connection: &mut SqliteConnection, events: &'q [&'q Event]) -> Result<(), StoreError> {
    let bind = |query: Binding<'q>, event: &'q &Event| {
        let row = Row::from(*event);
        query
            .bind(row.sequence)
            .bind(row.at)
            .bind(row.r#type)
            .bind(row.experiment_id)
            .bind(row.job_id)
            .bind(row.worker_id)
            .bind(row.from_state)
            .bind(row.to_state)
            .bind(row.name)
            .bind(row.jobs)
            .bind(row.reason)
    };
    INSERT.run(connection, events, bind).await
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
