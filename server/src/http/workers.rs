//! `/workers`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use promptfield_core::experiment::{LABEL, is_label};
use promptfield_core::id::{JobId, WorkerId};
use promptfield_core::input::InvalidInput;
use promptfield_core::names::shown_name;
use promptfield_core::scheduler::{Command, Reply, Scheduler, WorkerDescription};
use promptfield_core::wire::api::{HeldJob, Page, Registered, WorkerSummary};
use promptfield_core::{VERSION, works_with};

use super::Shared;
use super::extract::{Id, JsonBody, Params, SMALL};
use super::page::WindowParams;
use super::problem::{ApiError, answer};

/// Registers a worker process.
#[utoipa::path(
    post,
    path = "/workers",
    operation_id = "register_worker",
    tag = "workers",
    request_body = WorkerDescription,
    responses(
        (status = 201, description = "It is registered.", body = Registered),
        answer::Unreadable,
        answer::NotRegistered,
        answer::TooBusy,
        answer::TooLarge,
        answer::Invalid,
    ),
    security(("bearer" = ["work"])),
)]
pub(super) async fn register(
    State(app): Shared,
    JsonBody(description): JsonBody<WorkerDescription, SMALL>,
) -> Result<(StatusCode, Json<Registered>), ApiError> {
    check(&description).map_err(ApiError::Invalid)?;
    app.registrations.admit().map_err(|error| ApiError::TooBusy(error.to_string()))?;
    match app.writer.apply(Command::Register(Box::new(description))).await? {
        Reply::Registered(worker) => {
            let (lease_ttl_ms, marker) = (app.policy.lease_ms, app.marker.clone());
            Ok((StatusCode::CREATED, Json(Registered { worker, lease_ttl_ms, marker })))
        }
        other => Err(ApiError::unexpected(&other)),
    }
}

/// The most devices, and the most backbones and labels, that a worker names.
pub(super) const MOST_DEVICES: usize = 256;
pub(super) const MOST_NAMES: usize = 100;
/// The most jobs that a worker runs at once.
pub(super) const MOST_SLOTS: usize = 4096;

fn check(description: &WorkerDescription) -> Result<(), InvalidInput> {
    let WorkerDescription {
        name, host, slots, devices, backbones, backbone_sha256, version, labels, time_left_ms, ..
    } = description;
    shown_name("name", name)?;
    shown_name("host", host)?;
    if !(1..=MOST_SLOTS).contains(slots) {
        return Err(InvalidInput::new("slots", slots, format!("a whole number from 1 to {MOST_SLOTS}")));
    }
    shown_name("version", version)?;
    if !works_with(version) {
        let expected = format!(
            "a version with the same major and minor number as the coordinator's {VERSION}: bring both to one version"
        );
        return Err(InvalidInput::new("version", version, expected));
    }
    if backbones.is_empty() {
        return Err(InvalidInput::new(
            "backbones",
            "[]",
            "at least one backbone: without weights a worker can run nothing",
        ));
    }
    for (field, found, most) in [
        ("devices", devices.len(), MOST_DEVICES),
        ("backbones", backbones.len(), MOST_NAMES),
        ("backbone_sha256", backbone_sha256.len(), MOST_NAMES),
        ("labels", labels.len(), MOST_NAMES),
    ] {
        if found > most {
            return Err(InvalidInput::new(field, format!("{found} entries"), format!("at most {most}")));
        }
    }
    for (field, names) in [("devices", devices), ("backbones", backbones)] {
        for (i, name) in names.iter().enumerate() {
            shown_name(format!("{field}[{i}]"), name)?;
        }
    }
    for backbone in backbone_sha256.keys() {
        shown_name("backbone_sha256", backbone)?;
    }
    if let Some(left) = time_left_ms.filter(|left| *left < 0) {
        return Err(InvalidInput::new("time_left_ms", left, "milliseconds, 0 or more"));
    }
    match labels.iter().enumerate().find(|(_, label)| !is_label(label)) {
        Some((i, label)) => Err(InvalidInput::new(format!("labels[{i}]"), label, LABEL)),
        None => Ok(()),
    }
}

/// The workers that are here, and those that left within the last day, oldest first.
#[utoipa::path(
    get,
    path = "/workers",
    operation_id = "list_workers",
    tag = "workers",
    params(WindowParams),
    responses(
        (status = 200, description = "A page of the list.", body = Page<WorkerSummary>),
        answer::Unreadable,
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn list(
    State(app): Shared,
    Params(window): Params<WindowParams>,
) -> Result<Json<Page<WorkerSummary>>, ApiError> {
    let window = window.window().map_err(ApiError::Unreadable)?;
    let page = app.writer.look(move |scheduler, _| {
        window.cut(
            scheduler.workers(),
            |_| true,
            |(record, last_seen, jobs)| WorkerSummary {
                id: record.id,
                description: record.description.clone(),
                state: record.state,
                registered_at: record.registered_at,
                last_seen,
                jobs: jobs.iter().copied().collect(),
                held: jobs.iter().filter_map(|job| held(scheduler, *job, record.id)).collect(),
            },
        )
    });
    Ok(Json(page.await?))
}

/// A job that a worker holds.
fn held(scheduler: &Scheduler, job: JobId, worker: WorkerId) -> Option<HeldJob> {
    let record = scheduler.job(job)?;
    let lease = record.state.lease().filter(|lease| lease.worker == worker)?;
    Some(HeldJob {
        id: job,
        title: record.spec.to_spec().title_with(scheduler.variant_of(job)),
        progress: lease.progress,
    })
}

/// Gives a worker no more jobs.
#[utoipa::path(
    post,
    path = "/workers/{id}/drain",
    operation_id = "drain_worker",
    tag = "workers",
    params(("id" = WorkerId, Path, description = "The worker's identifier.")),
    responses(
        (status = 204, description = "It gets no more jobs."),
        answer::Unreadable,
        answer::UnknownWorker,
    ),
    security(("bearer" = ["work"])),
)]
pub(super) async fn drain(State(app): Shared, Id(worker): Id<WorkerId>) -> Result<StatusCode, ApiError> {
    app.writer.apply(Command::Drain { worker }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets a worker go; what it holds is given back.
#[utoipa::path(
    post,
    path = "/workers/{id}/leave",
    operation_id = "leave",
    tag = "workers",
    params(("id" = WorkerId, Path, description = "The worker's identifier.")),
    responses(
        (status = 204, description = "It is gone."),
        answer::Unreadable,
        answer::UnknownWorker,
    ),
    security(("bearer" = ["work"])),
)]
pub(super) async fn leave(State(app): Shared, Id(worker): Id<WorkerId>) -> Result<StatusCode, ApiError> {
    app.writer.apply(Command::Leave { worker }).await?;
    Ok(StatusCode::NO_CONTENT)
}
