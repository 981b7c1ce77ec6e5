//! `/experiments/{id}/results`: the paper's table.

use std::collections::BTreeSet;
use std::str::FromStr;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use promptfield_core::experiment::Experiment;
use promptfield_core::id::{ExperimentId, JobId};
use promptfield_core::input::{InvalidInput, one_of};
use promptfield_core::job::outcome::{LeftOut, TestResult};
use promptfield_core::job::spec::{CompactSpec, JobSpec};
use promptfield_core::method::Method;
use promptfield_core::names::known_name;
use promptfield_core::results::published::Reference;
use promptfield_core::results::tables::{Entry, Format, ResultTable, notes};
use promptfield_core::scheduler::{JobRecord, JobStateName, Rejection};
use promptfield_core::wire::api::{ExperimentSummary, Results, StaleResult};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Shared;
use super::conditional::unless_known;
use super::experiments::{datasets_of, find, json};
use super::extract::{Id, Params};
use super::problem::{ApiError, answer};

/// The query of [`results()`].
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ResultsParams {
    /// How to print the table; `json` if absent.
    format: Option<Format>,
    /// What to put beside the rows.
    compare: Option<Reference>,
    /// Only these of the experiment's seeds, separated by commas. What has no seed stays.
    seeds: Option<String>,
    /// Only these of its methods, separated by commas.
    methods: Option<String>,
    /// Only these of its data sets, separated by commas; under cross-dataset transfer the source stays.
    datasets: Option<String>,
}

/// The part of a table that is asked for; `None` for all.
struct Part {
    seeds: Option<BTreeSet<u64>>,
    methods: Option<BTreeSet<Method>>,
    datasets: Option<BTreeSet<String>>,
    source: Option<String>,
}

impl Part {
    fn new(params: &ResultsParams, experiment: &Experiment) -> Result<Self, InvalidInput> {
        let ResultsParams { seeds, methods, datasets, .. } = params;
        let seed = |text: &str| {
            let seeds = experiment.seeds.iter().map(ToString::to_string).collect::<Vec<_>>();
            let known = u64::from_str(text).ok().filter(|seed| experiment.seeds.contains(seed));
            known.ok_or_else(|| InvalidInput::new("seeds", text, one_of(text, seeds.iter().map(String::as_str))))
        };
        let method = |text: &str| {
            known_name("methods", text, experiment.methods.iter().map(Method::key))?;
            text.parse()
        };
        let dataset = |text: &str| {
            known_name("datasets", text, datasets_of(experiment))?;
            Ok(text.to_owned())
        };
        Ok(Self {
            seeds: listed(seeds.as_deref(), seed)?,
            methods: listed(methods.as_deref(), method)?,
            datasets: listed(datasets.as_deref(), dataset)?,
            source: experiment.source.clone(),
        })
    }

    fn has(&self, spec: &CompactSpec) -> bool {
        let recipe = &spec.recipe;
        self.seeds.as_ref().is_none_or(|seeds| spec.shots == 0 || seeds.contains(&spec.seed))
            && self.methods.as_ref().is_none_or(|methods| methods.contains(&recipe.method))
            && self.datasets.as_ref().is_none_or(|datasets| {
                datasets.contains(&recipe.dataset) || self.source.as_ref() == Some(&recipe.dataset)
            })
    }
}

/// The entries of a list with commas.
fn listed<T: Ord>(
    text: Option<&str>,
    entry: impl Fn(&str) -> Result<T, InvalidInput>,
) -> Result<Option<BTreeSet<T>>, InvalidInput> {
    text.map(|text| text.split(',').map(|part| entry(part.trim())).collect()).transpose()
}

/// A job as far as the table needs it.
struct Cell<S> {
    spec: S,
    variant: String,
    state: JobStateName,
    result: Option<TestResult>,
}

/// What there is to say of the jobs of a table.
#[derive(Default)]
struct Remarks {
    stale: Vec<StaleResult>,
    adopted: Vec<JobId>,
    left_out: Vec<(String, LeftOut)>,
}

impl Remarks {
    fn leave_out(&mut self, dataset: &str, classes: &[LeftOut]) {
        for class in classes {
            let named = (dataset.to_owned(), class.clone());
            if !self.left_out.contains(&named) {
                self.left_out.push(named);
            }
        }
    }

    /// One job may stand for several values of a sweep.
    fn once_each(&mut self) {
        self.stale.sort_by_key(|stale| stale.job);
        self.stale.dedup_by_key(|stale| stale.job);
        self.adopted.sort_unstable();
        self.adopted.dedup();
    }
}

/// The paper's table.
#[utoipa::path(
    get,
    path = "/experiments/{id}/results",
    operation_id = "get_results",
    tag = "experiments",
    params(("id" = ExperimentId, Path, description = "The experiment's identifier."), ("If-None-Match" = Option<String>, Header, description = "The `ETag` of an earlier answer: if this one would be the same, it's 304."), ResultsParams),
    responses(
        (status = 200, description = "The table, in the format that was asked for.", content(
            (Results = "application/json"),
            (String = "text/csv"),
            (String = "text/markdown"),
            (String = "text/x-tex"),
        )),
        (status = 304, description = "The client has it already."), answer::Unreadable,
        answer::NotFound,
        answer::Invalid,
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn results(
    State(app): Shared,
    Id(id): Id<ExperimentId>,
    Params(params): Params<ResultsParams>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let left_out = app.reader.left_out().await?;
    let found = app.writer.look(move |scheduler, _| {
        let (record, counts) = find(scheduler, id)?;
        let part = match Part::new(&params, &record.experiment) {
            Ok(part) => part,
            Err(error) => return Ok(Err(error)),
        };
        let cell = |(job, variant): (&JobRecord, &str)| Cell {
            spec: job.spec.clone(),
            variant: variant.to_owned(),
            state: job.state.name(),
            result: job.state.result().copied(),
        };
        let wanted = || scheduler.jobs_of(id).filter(|(job, _)| part.has(&job.spec));
        let cells: Vec<Cell<CompactSpec>> = wanted().map(cell).collect();
        let mut remarks = Remarks::default();
        for (JobRecord { id: job, spec, .. }, _) in wanted() {
            let title = || spec.to_spec().title_with(scheduler.variant_in(*job, id));
            remarks.stale.extend(scheduler.why_stale(*job).map(|stale| StaleResult {
                job: *job,
                title: title(),
                stale,
            }));
            remarks.adopted.extend(scheduler.is_foreign(*job).then_some(*job));
            if let Some(classes) = left_out.get(job) {
                remarks.leave_out(&spec.recipe.dataset, classes);
            }
        }
        remarks.once_each();
        Ok::<_, Rejection>(Ok((ExperimentSummary::new(record, counts), cells, remarks, params)))
    });
    let (experiment, cells, remarks, params) = found.await??.map_err(ApiError::Unreadable)?;
    let stale: Vec<_> = remarks.stale.iter().map(|found| (found.job, &found.stale)).collect();
    let notes = notes(experiment.id, &stale, &remarks.adopted, &remarks.left_out);
    // Written out here, where nobody waits for it.
    let written_out = |Cell { spec, variant, state, result }: Cell<CompactSpec>| Cell {
        spec: spec.to_spec(),
        variant,
        state,
        result,
    };
    let cells: Vec<Cell<JobSpec>> = cells.into_iter().map(written_out).collect();
    let entries = cells.iter().map(|cell| Entry {
        spec: &cell.spec,
        variant: &cell.variant,
        state: cell.state,
        result: cell.result.as_ref(),
    });
    let methods = &app.known.methods;
    let mut table = ResultTable::new(experiment.protocol, entries.clone(), methods);
    if let Some(Reference::Published) = params.compare {
        table.compare(entries, methods).map_err(ApiError::Invalid)?;
    }
    let format = params.format.unwrap_or(Format::Json);
    let content_type = match format {
        Format::Json => {
            return unless_known(
                &headers,
                "application/json",
                json(&Results { experiment, table, notes, stale: remarks.stale })?,
            );
        }
        Format::Csv => "text/csv; charset=utf-8",
        Format::Markdown => "text/markdown; charset=utf-8",
        Format::Latex => "text/x-tex; charset=utf-8",
    };
    unless_known(&headers, content_type, table.print(format, &notes, methods))
}
