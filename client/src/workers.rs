//! Workers: what they say and ask, and what is asked of them.

use std::io::{self, Write as _};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use promptfield_core::id::WorkerId;
use promptfield_core::scheduler::WorkerDescription;
use promptfield_core::scheduler::machine_fault::MachineFault;
use promptfield_core::wire::api::usage::LoadReport;
use promptfield_core::wire::api::{
    Changed, LeaseRequest, LeaseResponse, MachineFaults, Recheck, Registered, ReportAnswers, Reports, WorkerSummary,
};
use reqwest::Method;

use crate::call::{Call, json};
use crate::{Client, Error};

/// On top of the time that a long poll may take.
const POLL_MARGIN: Duration = Duration::from_secs(10);
/// For a checkpoint, some MB.
const ARTEFACT_TIMEOUT: Duration = Duration::from_mins(5);

/// What [`Client::report`] calls, as errors name it.
pub const REPORTS_CALL: &str = "POST /leases/reports";

impl Client {
    /// All workers.
    pub async fn workers(&self) -> Result<Vec<WorkerSummary>, Error> {
        self.all("/workers").await
    }

    /// Registers a worker.
    pub async fn register(&self, description: &WorkerDescription) -> Result<Registered, Error> {
        self.post("/workers").json(description).read().await
    }

    /// Takes up to so many jobs, waiting for the first of them.
    pub async fn lease(&self, worker: WorkerId, slots: usize, wait: Duration) -> Result<LeaseResponse, Error> {
        let request = LeaseRequest { slots, wait_ms: wait.as_millis() as u64 };
        self.post(format!("/workers/{worker}/lease")).json(&request).timeout(wait + POLL_MARGIN).read().await
    }

    /// Reports on several leases.
    pub async fn report(&self, reports: &Reports) -> Result<ReportAnswers, Error> {
        let (call, body) = (self.post("/leases/reports"), json(reports));
        if self.compress_from.is_none_or(|bytes| body.len() < bytes) {
            return call.json_bytes(body).read().await;
        }
        let plain = body.clone();
        // Some milliseconds of a processor's time.
        match tokio::task::spawn_blocking(move || gzip(&plain)).await {
            Ok(Ok(packed)) => call.header("Content-Encoding", "gzip").json_bytes(packed).read().await,
            _ => call.json_bytes(body).read().await,
        }
    }

    /// Says what a worker's devices are at.
    pub async fn report_load(&self, worker: WorkerId, report: &LoadReport) -> Result<(), Error> {
        self.post(format!("/workers/{worker}/load")).json(report).done().await.map(drop)
    }

    /// Says that a worker takes no more jobs.
    pub async fn drain(&self, worker: WorkerId) -> Result<(), Error> {
        self.post(format!("/workers/{worker}/drain")).done().await.map(drop)
    }

    /// Says that a worker ends.
    pub async fn leave(&self, worker: WorkerId) -> Result<(), Error> {
        self.post(format!("/workers/{worker}/leave")).done().await.map(drop)
    }

    /// What machines were found unable to use.
    pub async fn faults(&self) -> Result<Vec<MachineFault>, Error> {
        let found: MachineFaults = self.get("/faults").read().await?;
        Ok(found.faults)
    }

    /// Has a host, or all, try again what it was found unable to use.
    pub async fn recheck(&self, host: Option<String>) -> Result<Changed, Error> {
        self.post("/faults/recheck").json(&Recheck { host }).read().await
    }

    /// Whether the coordinator has an artefact.
    pub async fn has_artefact(&self, sha256: &str) -> Result<bool, Error> {
        match self.artefact(Method::HEAD, sha256).done().await {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(404) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Hands an artefact over.
    pub async fn put_artefact(&self, sha256: &str, bytes: Vec<u8>) -> Result<(), Error> {
        self.artefact(Method::PUT, sha256).bytes(bytes.into()).timeout(ARTEFACT_TIMEOUT).done().await.map(drop)
    }

    /// An artefact of at most so many bytes. Of a longer one only the beginning is read: its hash is another.
    pub async fn get_artefact(&self, sha256: &str, most: u64) -> Result<Vec<u8>, Error> {
        let call = self.artefact(Method::GET, sha256).timeout(ARTEFACT_TIMEOUT);
        let mut response = call.begin().await?;
        let mut bytes = Vec::new();
        while (bytes.len() as u64) <= most
            && let Some(chunk) = response.chunk().await.map_err(|source| call.broken(source))?
        {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn artefact(&self, method: Method, sha256: &str) -> Call<'_> {
        self.call(method, format!("/artefacts/{sha256}"))
    }
}

fn gzip(body: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    Ok(encoder.finish()?.into())
}
