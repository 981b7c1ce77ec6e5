//! What workers and their devices are at.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use promptfield_core::id::WorkerId;
use promptfield_core::input::InvalidInput;
use promptfield_core::names::shown_name;
use promptfield_core::scheduler::Rejection;
use promptfield_core::wire::api::usage::{Intervals, LoadReport, MOST_DEVICES, Usage};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Shared;
use super::extract::{Id, JsonBody, Params, SMALL};
use super::leases::MOST_MIB;
use super::problem::{ApiError, answer};

/// Takes what a worker's devices are at. It is kept in memory for a day.
#[utoipa::path(
    post,
    path = "/workers/{id}/load",
    operation_id = "report_load",
    tag = "workers",
    params(("id" = WorkerId, Path, description = "The worker's identifier.")),
    request_body = LoadReport,
    responses(
        (status = 204, description = "It is kept."),
        answer::Unreadable,
        answer::TooLarge,
        answer::UnknownWorker,
        answer::Invalid,
    ),
    security(("bearer" = ["work"])),
)]
pub(super) async fn report(
    State(app): Shared,
    Id(worker): Id<WorkerId>,
    JsonBody(report): JsonBody<LoadReport, SMALL>,
) -> Result<StatusCode, ApiError> {
    check(&report).map_err(ApiError::Invalid)?;
    let is_here = app.writer.look(move |scheduler, _| scheduler.is_here(worker)).await?;
    if !is_here {
        return Err(Rejection::NoWorker(worker).into());
    }
    app.loads.take(worker, app.clock.now(), report.devices);
    Ok(StatusCode::NO_CONTENT)
}

fn check(LoadReport { devices }: &LoadReport) -> Result<(), InvalidInput> {
    if devices.len() > MOST_DEVICES {
        return Err(InvalidInput::new("devices", devices.len(), format!("at most {MOST_DEVICES} devices")));
    }
    for (index, load) in devices.iter().enumerate() {
        shown_name(format!("devices[{index}].device"), &load.device)?;
        for (field, memory) in [("memory_mib", load.memory_mib), ("memory_total_mib", load.memory_total_mib)] {
            if let Some(memory) = memory.filter(|memory| *memory > MOST_MIB.into()) {
                let expected = format!("a whole number from 0 to {MOST_MIB}");
                return Err(InvalidInput::new(format!("devices[{index}].{field}"), memory, expected));
            }
        }
        if let Some(busy) = load.busy_percent.filter(|busy| !(0.0..=100.0).contains(busy)) {
            let field = format!("devices[{index}].busy_percent");
            return Err(InvalidInput::new(field, busy, "a number from 0 to 100"));
        }
    }
    Ok(())
}

/// The query of [`usage()`].
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct UsageParams {
    /// How many hours to look back.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 168, default = 24)]
    hours: Option<String>,
}

const INTERVALS: usize = 96;
const HOUR_MS: i64 = 3_600_000;

/// How workers used their slots over time, as far back as the latest attempts tell, and their devices, as far as they said so
/// since the coordinator started.
#[utoipa::path(
    get,
    path = "/workers/usage",
    operation_id = "get_usage",
    tag = "workers",
    params(UsageParams),
    responses((status = 200, description = "Busy slots, and what devices were at, by worker and interval.", body = Usage), answer::Unreadable),
    security(("bearer" = ["read"])),
)]
pub(super) async fn usage(State(app): Shared, Params(params): Params<UsageParams>) -> Result<Json<Usage>, ApiError> {
    let hours = params.hours.map_or(Ok(24), |text| match text.parse() {
        Ok(hours @ 1..=168) => Ok(hours),
        _ => Err(ApiError::Unreadable(InvalidInput::new("hours", text, "a whole number from 1 to 168"))),
    });
    let now = app.clock.now();
    let since = now.plus(-hours? * HOUR_MS);
    let held = app.reader.held(since, now).await?;
    Ok(Json(app.loads.usage(Intervals::new(since, now, INTERVALS), held)))
}
