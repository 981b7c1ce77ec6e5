//! Jobs, and what happens to them.

use promptfield_core::id::{JobId, LeaseId};
use promptfield_core::job::evaluation::Evaluation;
use promptfield_core::scheduler::Explanation;
use promptfield_core::wire::api::{Findings, JobDetail};

use crate::{Client, Error, Messages};

impl Client {
    /// A job.
    pub async fn job(&self, id: JobId) -> Result<JobDetail, Error> {
        self.get(format!("/jobs/{id}")).read().await
    }

    /// A job's numbers by class.
    pub async fn evaluation(&self, id: JobId) -> Result<Evaluation, Error> {
        self.get(format!("/jobs/{id}/evaluation")).read().await
    }

    /// Why a job waits, or why it failed.
    pub async fn explain(&self, id: JobId) -> Result<Explanation, Error> {
        self.get(format!("/jobs/{id}/explain")).read().await
    }

    /// The log of one of a job's attempts, the latest if none is named.
    pub async fn log(&self, id: JobId, attempt: Option<LeaseId>) -> Result<String, Error> {
        let of = attempt.map_or_else(String::new, |attempt| format!("?attempt={attempt}"));
        self.get(format!("/jobs/{id}/log{of}")).text().await
    }

    /// The same as messages, from the line after `last` on.
    pub async fn follow_log(&self, id: JobId, attempt: Option<LeaseId>, last: Option<&str>) -> Result<Messages, Error> {
        let of = attempt.map_or_else(String::new, |attempt| format!("&attempt={attempt}"));
        let call = self.get(format!("/jobs/{id}/log?follow=true{of}")).header("Accept", "text/event-stream");
        let call = match last {
            Some(last) => call.header("Last-Event-ID", last),
            None => call,
        };
        call.stream().await
    }

    /// What happens from now on.
    pub async fn events(&self) -> Result<Messages, Error> {
        self.get("/events").stream().await
    }

    /// Notes what results rest on today.
    pub async fn note_findings(&self, findings: &Findings) -> Result<(), Error> {
        self.post("/jobs/findings").json(findings).done().await.map(drop)
    }
}
