//! Experiments.

use promptfield_core::id::{ExperimentId, JobId};
use promptfield_core::results::published::Reference;
use promptfield_core::results::tables::Format;
use promptfield_core::scheduler::JobStateName;
use promptfield_core::wire::api::{Changed, ExperimentSummary, JobOutput, JobSummary, Page, Results, SubmitResponse};

use crate::{Client, Error, Patience};

/// What is cancelled, retried or computed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// All jobs of an experiment.
    Experiment(ExperimentId),
    /// One job.
    Job(JobId),
}

impl std::fmt::Display for Target {
    /// As it's written in paths.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Experiment(id) => write!(f, "experiments/{id}"),
            Self::Job(id) => write!(f, "jobs/{id}"),
        }
    }
}

impl Client {
    /// Submits an experiment. With a key it is sent again if need be: under its key it is one submission, however often it
    /// arrives. Without one it's sent once.
    pub async fn submit(&self, experiment: &serde_json::Value, key: Option<&str>) -> Result<SubmitResponse, Error> {
        let mut call = self.post("/experiments").json(experiment);
        if let Some(key) = key {
            call = call.header("Idempotency-Key", key);
            if call.patience == Patience::NONE {
                call.patience = Patience::SUBMISSION;
            }
        }
        call.read().await
    }

    /// All experiments.
    pub async fn experiments(&self) -> Result<Vec<ExperimentSummary>, Error> {
        self.all("/experiments").await
    }

    /// An experiment.
    pub async fn experiment(&self, id: ExperimentId) -> Result<ExperimentSummary, Error> {
        self.get(format!("/experiments/{id}")).read().await
    }

    /// An experiment's jobs: those in a state, or all.
    pub async fn jobs(&self, id: ExperimentId, state: Option<JobStateName>) -> Result<Vec<JobSummary>, Error> {
        let only = state.map_or_else(String::new, |state| format!("?state={state}"));
        self.all(&format!("/experiments/{id}/jobs{only}")).await
    }

    /// The first of an experiment's jobs that is in a state.
    pub async fn first_job(&self, id: ExperimentId, state: JobStateName) -> Result<Option<JobSummary>, Error> {
        let page: Page<JobSummary> = self.get(format!("/experiments/{id}/jobs?state={state}&limit=1")).read().await?;
        Ok(page.items.into_iter().next())
    }

    /// An experiment's table.
    pub async fn results(&self, id: ExperimentId, compare: Option<Reference>) -> Result<Results, Error> {
        self.get(results_path(id, Format::Json, compare)).read().await
    }

    /// An experiment's table as text of a format.
    pub async fn printed_results(
        &self,
        id: ExperimentId,
        format: Format,
        compare: Option<Reference>,
    ) -> Result<String, Error> {
        self.get(results_path(id, format, compare)).text().await
    }

    /// What an experiment's jobs have left on disks.
    pub async fn outputs(&self, id: ExperimentId) -> Result<Vec<JobOutput>, Error> {
        self.all(&format!("/experiments/{id}/outputs")).await
    }

    /// Cancels an experiment, or a job.
    pub async fn cancel(&self, target: Target) -> Result<Changed, Error> {
        self.post(format!("/{target}/cancel")).read().await
    }

    /// Queues what failed or was cancelled again.
    pub async fn retry(&self, target: Target) -> Result<Changed, Error> {
        self.post(format!("/{target}/retry")).read().await
    }

    /// Queues jobs that have results again: only those that are stale, or also those that other experiments show too.
    pub async fn rerun(&self, target: Target, stale: bool, shared: bool) -> Result<Changed, Error> {
        let query = [("stale", stale), ("shared", shared)].into_iter().filter(|(_, on)| *on);
        let query: Vec<String> = query.map(|(name, _)| format!("{name}=true")).collect();
        self.post(format!("/{target}/rerun?{}", query.join("&"))).read().await
    }
}

fn results_path(id: ExperimentId, format: Format, compare: Option<Reference>) -> String {
    let compare = compare.map_or_else(String::new, |with| format!("&compare={with}"));
    format!("/experiments/{id}/results?format={format}{compare}")
}
